"""Values of a dataset's arrays, by the quickest way that its storage allows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import DatasetError
from pipeline.dataset.raw import RawArray, raw_array
from pipeline.dataset.shards import ShardCache
from pipeline.dataset.zarr_files import read_of_shard

if TYPE_CHECKING:
    from pipeline.dataset.store import Dataset

#: Shards kept at hand for images asked for by number, bytes.
AT_HAND_BYTES = 256 * 1024**2


def raw_of(dataset: Dataset, name: str) -> RawArray | None:
    """Reader of an array's own bytes; None if it is remote, compressed or otherwise for zarr."""
    return raw_array(dataset.path / name) if isinstance(dataset.path, Path) else None


def read_column(dataset: Dataset, name: str) -> NDArray[Any]:
    """Every value of one array with a value for each image."""
    raw = raw_of(dataset, name)
    if raw is not None:
        return raw.read()
    return read_of_shard(dataset.zarr_array(name), slice(None), dataset.path)


def image_shards(dataset: Dataset, max_bytes: int, name: str = "images") -> ShardCache:
    """Shards of an array of images: mapped where they can be, else decoded by zarr.

    Parameters
    ----------
    dataset : Dataset
    max_bytes : int
        Shards held at once.
    name : str
    """
    raw = raw_of(dataset, name)
    if raw is not None:
        return ShardCache(lambda k: raw.shard(k, whole=True), raw.shard_size, max_bytes)
    array = dataset.zarr_array(name)

    def read(shard: int) -> NDArray[Any]:
        return read_of_shard(array, dataset.rows(shard), dataset.path, shard)

    return ShardCache(read, dataset.shard_size, max_bytes)


def read_images(
    dataset: Dataset, shards: ShardCache, indices: NDArray[np.int64] | slice
) -> NDArray[np.float32]:
    """Images by number, in the order asked for.

    Raises
    ------
    DatasetError
        If there is no image of such a number.
    """
    n = dataset.n_images
    if isinstance(indices, slice):
        index = np.arange(n)[indices]
    else:
        index = np.asarray(indices, np.int64)
        if len(index) and not -n <= index.min() <= index.max() < n:
            raise DatasetError(
                f"{dataset.path}: no image {int(index[np.argmax(np.abs(index))])}; there are {n}"
            )
        index = index % n
    out = np.empty((len(index), *dataset.image_shape), np.float32)
    shards.gather(index, out)
    return out


class Images:
    """The images of a dataset, looking like an array (N, C, H, W).

    Parameters
    ----------
    dataset : Dataset
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, bands, rows, columns."""
        return self._dataset.n_images, *self._dataset.image_shape

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Type of a pixel."""
        return np.dtype(np.float32)

    def __len__(self) -> int:
        return self._dataset.n_images

    def __getitem__(self, key: int | slice | NDArray[Any] | list[int]) -> NDArray[np.float32]:
        """One image (C, H, W), or several (B, C, H, W) by slice, numbers or a mask."""
        if isinstance(key, int | np.integer):
            one: NDArray[np.float32] = self._dataset.read_images(np.array([key]))[0]
            return one
        if isinstance(key, slice):
            return self._dataset.read_images(key)
        chosen = np.asarray(key)
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise DatasetError(f"a mask of {chosen.shape} for {len(self)} images")
            chosen = np.flatnonzero(chosen)
        return self._dataset.read_images(chosen.astype(np.int64))
