"""One HDF5 file with the arrays of a dataset, chunked by images, and what it says of itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError
from pipeline.core.files import atomic_path
from pipeline.core.logs import progress
from pipeline.dataset.layout import TRUTH
from pipeline.dataset.splits import SPLITS
from pipeline.dataset.store import Dataset

SUFFIXES = (".h5", ".hdf5")
#: Images in a chunk.
_CHUNK = 16


def write_hdf5(dataset: Dataset, index: NDArray[np.int64], out: Path) -> None:
    """Write images, labels, splits and truth; whole or not at all.

    Parameters
    ----------
    dataset : Dataset
    index : NDArray of int64, shape (n,)
        Images to write, ascending.
    out : Path
        ``.h5`` or ``.hdf5``.

    Raises
    ------
    ConfigError
        For another suffix.
    OutputError
        If it cannot be written.
    """
    import h5py  # type: ignore[import-untyped]  # heavy

    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{out}: an HDF5 file is called {' or '.join(SUFFIXES)}")
    with atomic_path(out) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = "deeplense-hdf5"
        file.attrs["dataset_sha256"] = dataset.sha256
        file.attrs["pixel_scale"] = dataset.pixel_scale
        file.attrs["bands"] = list(dataset.bands)
        file.attrs["class_names"] = list(dataset.class_names)
        file.attrs["attributes"] = json.dumps(dict(dataset.spec.attributes))
        _write_columns(file, dataset, index)
        shape = (len(index), *dataset.image_shape)
        images = file.create_dataset(
            "images", shape, "<f4", chunks=(min(_CHUNK, len(index)), *dataset.image_shape)
        )
        images.attrs.update({"unit": dataset.unit, "axes": "image,band,y,x"})
        with progress(f"writing {out.name}", len(index)) as advance:
            for start in range(0, len(index), dataset.shard_size):
                rows = index[start : start + dataset.shard_size]
                images[start : start + len(rows)] = dataset.read_images(rows)
                advance(len(rows))


def _write_columns(file: Any, dataset: Dataset, index: NDArray[np.int64]) -> None:  # an h5py File
    columns: dict[str, NDArray[Any]] = {
        "label": dataset.labels,
        "split": dataset.split,
        "index": np.arange(dataset.n_images),
    }
    for name, values in columns.items():
        file.create_dataset(name, data=values[index])
    file["label"].attrs["class_names"] = list(dataset.class_names)
    file["split"].attrs["codes"] = list(SPLITS)
    file["index"].attrs["description"] = "number of the image in the dataset"
    for name, about in dataset.truth_info().items():
        column = file.create_dataset(TRUTH + name, data=dataset.truth(name)[index])
        column.attrs.update({"unit": about.unit, "description": about.description})
