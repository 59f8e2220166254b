"""The arrays of a dataset on disk: names, shapes, types, fill values, and what they mean.

Fill values are impossible values, so what was never written is visible. The format is described
for readers without this package in ``docs/dataset-format.md``.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.detectability import dataset_columns
from pipeline.dataset.splits import SPLITS

FORMAT = "deeplense-dataset"
FORMAT_VERSION = 1
#: Largest number of images in one inner chunk; the inner chunk divides the shard.
INNER_CHUNK = 16
DIGEST_BYTES = 32


@dataclass(frozen=True)
class ArraySpec:
    """One array of the dataset; axis 0 counts images."""

    name: str
    item_shape: tuple[int, ...]
    dtype: str
    fill: float
    attributes: dict[str, Any] = field(default_factory=dict)  # Any: JSON

    def shape(self, n_images: int) -> tuple[int, ...]:
        """Shape for ``n_images`` images."""
        return (n_images, *self.item_shape)


def array_specs(config: DatasetConfig) -> tuple[ArraySpec, ...]:
    """Every per-image array, in the order in which the shard digest reads them."""
    image = (len(config.bands), config.n_pix, config.n_pix)
    specs = [
        ArraySpec("images", image, "<f4", np.nan, {"unit": "electron/s", "axes": "image,band,y,x"}),
        ArraySpec("label", (), "<i2", -1, {"class_names": list(config.class_names)}),
        ArraySpec("split", (), "|i1", -1, {"codes": list(SPLITS)}),
    ]
    specs += [
        ArraySpec(
            f"truth/{name}", (), "<f8", np.nan, {"unit": c.unit, "description": c.description}
        )
        for name, c in dataset_columns(config).items()
    ]
    return tuple(specs)


def inner_chunk(shard_size: int) -> int:
    """Largest divisor of the shard size that is at most ``INNER_CHUNK``."""
    return max(d for d in range(1, INNER_CHUNK + 1) if shard_size % d == 0)


def shard_digest(
    specs: tuple[ArraySpec, ...], values: dict[str, NDArray[Any]]
) -> NDArray[np.uint8]:
    """SHA-256 of a shard's decoded values: each array's name, then its little-endian bytes."""
    digest = hashlib.sha256()
    for spec in specs:
        digest.update(spec.name.encode())
        digest.update(np.ascontiguousarray(values[spec.name].astype(spec.dtype)).tobytes())
    return np.frombuffer(digest.digest(), np.uint8)
