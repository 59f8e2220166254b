"""The arrays of a dataset on disk: names, shapes, types, fill values, and what they mean.

Fill values are impossible values, so what was never written is visible. The format is described
for readers without this package in ``docs/dataset-format.md``.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import DatasetError
from pipeline.dataset.splits import SPLITS
from pipeline.physics.components import TruthColumn

FORMAT = "deeplense-dataset"
FORMAT_VERSION = 2
#: Largest number of images in one inner chunk; the inner chunk divides the shard.
INNER_CHUNK = 16
#: Array of the digests, one row a shard, and the bytes of each.
DIGESTS, DIGEST_BYTES = "shard_digest", 32
#: Group of the columns of the truth.
TRUTH = "truth/"
#: First row and number of rows of each image in the ragged arrays.
OFFSET, COUNT = "components/offset", "components/count"
#: Room for so many rows an image in the ragged arrays: shards share no file, and what is not used
#: takes no space.
ROWS_PER_IMAGE = 16384
#: Inner chunks of a shard of a ragged array.
RAGGED_CHUNKS = 2048


@dataclass(frozen=True)
class ArraySpec:
    """One array of the dataset; axis 0 counts images, or of a ragged one the rows of all images."""

    name: str
    item_shape: tuple[int, ...]
    dtype: str
    fill: float
    attributes: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    ragged: bool = False

    def shape(self, n: int) -> tuple[int, ...]:
        """Shape for ``n`` images or rows."""
        return (n, *self.item_shape)


def _cpu() -> str:
    return "cpu"


@dataclass(frozen=True)
class StoreSpec:
    """Everything a dataset on disk is, but the values: whoever makes datasets fills one of these.

    Attributes
    ----------
    arrays : tuple of ArraySpec
        In the order in which the shard digest reads them.
    n_images, shard_size : int
    attributes : Mapping
        Of the group, JSON: ``class_names``, ``bands`` and ``pixel_scale`` (:func:`describe`), and
        whatever else tells where the images come from.
    origin : str
        What made it: ``simulation``, ``import``, ``merge``, ``split``.
    origin_sha256 : str
        Hash of all that decides image i; only the same origin completes a dataset.
    free : tuple of str
        Dotted keys of ``attributes`` that decide no image and may change when images are added.
    device : callable
        Kind of device that computes the images, ``cpu`` or ``gpu``; asked while some are missing.
    """

    arrays: tuple[ArraySpec, ...]
    n_images: int
    shard_size: int
    attributes: Mapping[str, Any]  # Any: JSON
    origin: str
    origin_sha256: str
    free: tuple[str, ...] = ()
    device: Callable[[], str] = _cpu

    @property
    def n_shards(self) -> int:
        """Number of shards; the last may be partly filled."""
        return -(-self.n_images // self.shard_size)

    def rows(self, shard: int) -> slice:
        """Image numbers of one shard."""
        first = shard * self.shard_size
        return slice(first, min(first + self.shard_size, self.n_images))

    @property
    def capacity(self) -> int:
        """Room for rows of a shard in the ragged arrays."""
        return self.shard_size * ROWS_PER_IMAGE

    def length(self, array: ArraySpec) -> int:
        """Length of axis 0."""
        return self.n_shards * self.capacity if array.ragged else self.n_images

    def with_offsets(
        self, shard: int, values: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        """Values of a shard with the offset of each image's rows, which its place decides.

        Raises
        ------
        DatasetError
            If a ragged array has another number of rows than the counts say, or too many.
        """
        ragged = [a.name for a in self.arrays if a.ragged]
        if not ragged:
            return dict(values)
        count = values[COUNT].astype(np.int64)
        n_rows = int(count.sum())
        for name in ragged:
            if len(values[name]) != n_rows:
                raise DatasetError(
                    f"shard {shard}: {name} has {len(values[name])} rows, {COUNT} says {n_rows}"
                )
        if n_rows > self.capacity:
            raise DatasetError(
                f"shard {shard}: {n_rows} components are more than the {self.capacity} there is "
                f"room for ({ROWS_PER_IMAGE} an image)"
            )
        offset = shard * self.capacity + np.cumsum(count) - count
        return {**values, OFFSET: offset}


def describe(
    class_names: Sequence[str], bands: Sequence[str], pixel_scale: float
) -> dict[str, Any]:  # Any: JSON
    """Attributes that every dataset has; the pixel scale in arcsec."""
    return {
        "class_names": list(class_names),
        "bands": list(bands),
        "pixel_scale": float(pixel_scale),
    }


def image_arrays(
    class_names: Sequence[str],
    image_shape: tuple[int, int, int],
    truth: Mapping[str, TruthColumn],
    unit: str = "electron/s",
) -> tuple[ArraySpec, ...]:
    """Arrays that every dataset has: images, label, split and the columns of the truth.

    Parameters
    ----------
    class_names : sequence of str
    image_shape : tuple
        Bands, rows, columns.
    truth : mapping of TruthColumn
    unit : str
        Of the images.
    """
    axes = {"unit": unit, "axes": "image,band,y,x"}
    specs = [
        ArraySpec("images", image_shape, "<f4", np.nan, axes),
        ArraySpec("label", (), "<i2", -1, {"class_names": list(class_names)}),
        ArraySpec("split", (), "|i1", -1, {"codes": list(SPLITS)}),
    ]
    specs += [
        ArraySpec(TRUTH + name, (), "<f8", np.nan, {"unit": c.unit, "description": c.description})
        for name, c in truth.items()
    ]
    return tuple(specs)


def inner_chunk(shard_size: int) -> int:
    """Largest divisor of the shard size that is at most ``INNER_CHUNK``."""
    return max(d for d in range(1, INNER_CHUNK + 1) if shard_size % d == 0)


def shard_digest(
    arrays: Sequence[ArraySpec], values: Mapping[str, NDArray[Any]]
) -> NDArray[np.uint8]:
    """SHA-256 of a shard's decoded values: each array's name, then its little-endian bytes."""
    digest = hashlib.sha256()
    for spec in arrays:
        digest.update(spec.name.encode())
        digest.update(np.ascontiguousarray(values[spec.name].astype(spec.dtype)).tobytes())
    return np.frombuffer(digest.digest(), np.uint8)
