"""Everything known about each image of a dataset, as one table with units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.splits import SPLITS

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]
    from astropy.table import Table  # type: ignore[import-untyped]

    from pipeline.dataset.store import Dataset


def astropy_table(dataset: Dataset, split: str | None = None) -> Table:
    """One row an image: number, class, split and every truth column, with unit and description.

    Parameters
    ----------
    dataset : Dataset
    split : str, optional
        Only images of this split.
    """
    from astropy.table import Column, Table  # heavy
    from astropy.units import Unit  # type: ignore[import-untyped]

    info = dataset.truth_info()
    table = Table()
    for name, values in _columns(dataset, split).items():
        unit = info[name].unit if name in info else ""
        text = info[name].description if name in info else _MEANING[name]
        # A unit that astropy does not know (an imported one) is kept as it is written.
        parsed = Unit(unit, parse_strict="silent") if unit else None
        table[name] = Column(values, unit=parsed, description=text)
    table.meta["dataset_sha256"] = dataset.sha256
    return table


def pandas_table(dataset: Dataset, split: str | None = None) -> pd.DataFrame:
    """The same as a data frame; ``attrs["units"]`` holds the unit of each column."""
    import pandas as pd

    frame = pd.DataFrame(_columns(dataset, split)).set_index("index")
    for name, words in (("class", dataset.class_names), ("split", SPLITS)):
        frame[name] = pd.Categorical(frame[name], categories=list(words))
    frame.attrs["units"] = {name: column.unit for name, column in dataset.truth_info().items()}
    frame.attrs["dataset_sha256"] = dataset.sha256
    return frame


_MEANING = {
    "index": "number of the image",
    "class": "class of the lens",
    "split": "what the image is for",
}


def _columns(dataset: Dataset, split: str | None) -> dict[str, NDArray[Any]]:
    index = np.arange(dataset.n_images) if split is None else dataset.indices(split)
    return {
        "index": index,
        "class": np.array(dataset.class_names)[dataset.labels[index]],
        "split": np.array(SPLITS)[dataset.split[index]],
        **{name: dataset.truth(name)[index] for name in dataset.truth_info()},
    }
