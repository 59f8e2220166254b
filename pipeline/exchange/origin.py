"""Where the images of a dataset come from, through any number of merges and divisions.

A merged or divided dataset lists the simulated or imported datasets that its images go back to
(attribute ``sources``) and, for each image, which of them it was in and at what number
(``origin/source``, ``origin/index``).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.config import dump, validate
from pipeline.core.errors import DatasetError
from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.reading import read_column
from pipeline.dataset.store import Dataset
from pipeline.exchange.sources import is_class_name
from pipeline.physics.instrument import Instrument

SOURCES = "sources"
SOURCE_ARRAY, INDEX_ARRAY = "origin/source", "origin/index"
#: Attributes of a source that tell how its images were made.
_KEPT = ("config", "import", "versions")


def require_class_names(dataset: Dataset) -> None:
    """Refuse a dataset whose classes cannot be names of folders.

    Raises
    ------
    DatasetError
    """
    for name in dataset.class_names:
        if not is_class_name(name):
            raise DatasetError(f"{dataset.path}: class {name[:80]!r} cannot be a folder's name")


def source_records(dataset: Dataset) -> list[dict[str, Any]]:  # Any: JSON
    """What is kept of every simulated or imported dataset that the images go back to."""
    attributes = dataset.spec.attributes
    if SOURCES in attributes:
        return list(attributes[SOURCES])
    return [
        {
            "dataset_sha256": dataset.sha256,
            "origin": dataset.origin,
            "origin_sha256": dataset.spec.origin_sha256,
            "n_images": dataset.n_images,
            **{key: attributes[key] for key in _KEPT if key in attributes},
        }
    ]


def source_places(dataset: Dataset) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Which source each image was in, and at what number, each of shape (N,)."""
    if SOURCES in dataset.spec.attributes:
        return read_column(dataset, SOURCE_ARRAY), read_column(dataset, INDEX_ARRAY)
    return np.zeros(dataset.n_images, np.int16), np.arange(dataset.n_images)


def simulations(dataset: Dataset) -> list[DatasetConfig | None]:
    """Configuration of every source, in the order of its records; None for imported ones."""
    return [
        validate(record["config"], DatasetConfig, name=f"{dataset.path}: config")
        if record["origin"] == "simulation"
        else None
        for record in source_records(dataset)
    ]


def instruments_of(dataset: Dataset) -> tuple[Instrument, ...] | None:
    """Telescopes that all images were seen through, one a band; None if unknown or several."""
    configs = simulations(dataset)
    known = [config.instruments for config in configs if config is not None]
    if len(known) < len(configs):
        return None
    first = [dump(instrument) for instrument in known[0]]
    same = all([dump(i) for i in others] == first for others in known[1:])
    return known[0] if same else None
