"""Read a dataset: everything it says of itself comes from the store, whatever made it.

data = open_dataset("NAME.zarr")
data.class_names, data.bands, data.pixel_scale, data.image_shape, data.n_images
data.read_images(slice(0, 100)), data.labels, data.split, data.truth("theta_E")
data.images[417], data.table(), data.to_pandas("test")
data.torch("train")            # for torch's DataLoader
data.batches("train", batch_size=64, seed=0).epoch(0)    # whole shards in order, read ahead
data.read_shard(3)             # array name -> values, what ``ShardStore.write`` takes
data.simulation                # the DatasetConfig that made it, or None (imported, merged ...)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.config import validate
from pipeline.core.errors import (
    DatasetError,
    DatasetIncompleteError,
    DatasetIntegrityError,
    StorageError,
)
from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.layout import (
    COUNT,
    DIGESTS,
    OFFSET,
    TRUTH,
    ArraySpec,
    StoreSpec,
    shard_digest,
)
from pipeline.dataset.place import Place, Url, locate
from pipeline.dataset.reading import AT_HAND_BYTES, Images, image_shards, read_column, read_images
from pipeline.dataset.shards import ShardCache
from pipeline.dataset.splits import SPLITS
from pipeline.dataset.zarr_files import (
    array_of,
    open_group,
    read_of_shard,
    read_regions,
    stored_spec,
)
from pipeline.physics.components import TruthColumn

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]
    import torch
    import zarr
    from astropy.table import Table  # type: ignore[import-untyped]

    from pipeline.dataset._torch_dataset import SplitDataset
    from pipeline.dataset.loader import BatchSource
    from pipeline.dataset.preprocess import Preprocess


@dataclass(frozen=True)
class Dataset:
    """A complete dataset, open for reading; its splits hold the classes ``only``, if any."""

    path: Place
    spec: StoreSpec
    sha256: str
    only: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their indices."""
        return tuple(self.spec.attributes["class_names"])

    @property
    def bands(self) -> tuple[str, ...]:
        """Name of each channel."""
        return tuple(self.spec.attributes["bands"])

    @property
    def pixel_scale(self) -> float:
        """Pixel scale, arcsec."""
        return float(self.spec.attributes["pixel_scale"])

    @property
    def n_images(self) -> int:
        """Number of images."""
        return self.spec.n_images

    @property
    def shard_size(self) -> int:
        """Images in a shard; the last may hold fewer."""
        return self.spec.shard_size

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return self.spec.n_shards

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Bands, rows, columns."""
        bands, rows, columns = self._images.item_shape
        return bands, rows, columns

    @property
    def unit(self) -> str:
        """Unit of the images."""
        return str(self._images.attributes["unit"])

    @property
    def description(self) -> str:
        """What whoever made it says about it; may be empty."""
        attributes = self.spec.attributes
        text = attributes.get("config", {}).get("description") or attributes.get("description")
        return str(text or "").strip()

    @property
    def origin(self) -> str:
        """What made it, one of ``simulation``, ``import``, ``merge`` and ``split``."""
        return self.spec.origin

    @property
    def versions(self) -> dict[str, str]:
        """Packages that made it."""
        return dict(self.spec.attributes["versions"])

    @cached_property
    def simulation(self) -> DatasetConfig | None:
        """Configuration that simulated it; None if it was imported, merged or split."""
        if self.spec.origin != "simulation":
            return None
        return validate(self.spec.attributes["config"], DatasetConfig, name=f"{self.path}: config")

    def require_simulation(self, what: str) -> DatasetConfig:
        """Return the configuration, for a caller that must draw scenes.

        Parameters
        ----------
        what : str
            What cannot be done without.

        Raises
        ------
        DatasetError
            If there is none.
        """
        if self.simulation is None:
            raise DatasetError(
                f"{self.path}: {what} needs the configuration that simulated the images, but "
                f"the origin of this dataset is: {self.origin}"
            )
        return self.simulation

    @cached_property
    def labels(self) -> NDArray[np.int16]:
        """Class index of each image, shape (N,)."""
        return read_column(self, "label")

    @cached_property
    def split(self) -> NDArray[np.int8]:
        """0 train, 1 val, 2 test, shape (N,)."""
        return read_column(self, "split")

    def indices(self, split: str) -> NDArray[np.int64]:
        """Image numbers of one split, ascending.

        Raises
        ------
        DatasetError
            If there is no such split.
        """
        if split not in SPLITS:
            raise DatasetError(f"{split!r} is no split; expected one of {', '.join(SPLITS)}")
        inside = self.split == SPLITS.index(split)
        if self.only:
            inside &= np.isin(self.labels, [self.class_names.index(name) for name in self.only])
        return np.flatnonzero(inside).astype(np.int64)

    def rows(self, shard: int) -> slice:
        """Image numbers of one shard."""
        return self.spec.rows(shard)

    def read_images(self, indices: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """Images (B, C, H, W) in ``unit``, in the order asked for.

        Raises
        ------
        DatasetError
            If there is no image of such a number.
        DatasetIntegrityError
            If its shard is missing or damaged.
        """
        return read_images(self, self._shards, indices)

    @property
    def images(self) -> Images:
        """Images as an array that is read where it is indexed, e.g. ``images[417]``."""
        return Images(self)

    def table(self, split: str | None = None) -> Table:
        """Number, class, split and every parameter of each image (of ``split``), with units."""
        from pipeline.dataset.table import astropy_table

        return astropy_table(self, split)

    def to_pandas(self, split: str | None = None) -> pd.DataFrame:
        """The same as a data frame; its ``attrs["units"]`` names the units."""
        from pipeline.dataset.table import pandas_table

        return pandas_table(self, split)

    def torch(
        self,
        split: str,
        preprocess: Preprocess | None = None,
        *,
        targets: tuple[str, ...] = (),
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> SplitDataset:
        """One split as a map-style dataset of torch; see ``_torch_dataset.SplitDataset``."""
        from pipeline.dataset._torch_dataset import SplitDataset

        return SplitDataset(self, split, preprocess, targets, transform)

    def first_images(self, n: int) -> NDArray[np.float32]:
        """The first ``n`` images of the train split, in ``unit``."""
        return self.read_images(self.indices("train")[:n])

    def first_truth(self, name: str) -> NDArray[np.float64]:
        """One truth column for the train split."""
        return self.truth(name)[self.indices("train")]

    def first_labels(self) -> NDArray[np.int16]:
        """Class index of each image of the train split."""
        return self.labels[self.indices("train")]

    def n_of(self, split: str) -> int:
        """Images of a split."""
        return len(self.indices(split))

    def batches(
        self, split: str, preprocess: Preprocess | None = None, **options: Any
    ) -> BatchSource:
        """Batches of one split: whole shards in order, shuffled in a window, read ahead.

        Parameters
        ----------
        split : str
        preprocess : Preprocess, optional
            Without it images stay as they are stored.
        options
            Parameters of ``loader.BatchSource``: ``batch_size``, ``seed``, ``target_names``,
            ``augment``, ``rank``, ``n_ranks`` and others.
        """
        from pipeline.dataset.loader import BatchSource

        return BatchSource(self, split, preprocess, **options)

    def truth(self, name: str) -> NDArray[np.float64]:
        """One truth column, shape (N,); NaN where a class has no such value.

        Raises
        ------
        DatasetError
            Naming the columns there are.
        """
        known = self.truth_info()
        if name not in known:
            raise DatasetError(f"{self.path}: no truth column {name!r}; known: {', '.join(known)}")
        return read_column(self, TRUTH + name)

    def truth_info(self) -> dict[str, TruthColumn]:
        """Unit and description of each truth column."""
        return {
            a.name.removeprefix(TRUTH): TruthColumn(
                a.attributes["unit"], a.attributes["description"]
            )
            for a in self.spec.arrays
            if a.name.startswith(TRUTH)
        }

    def read_shard(self, shard: int) -> dict[str, NDArray[Any]]:
        """Values of every array of one shard, by name; of the ragged ones all its rows."""
        plain = [a.name for a in self.spec.arrays if not a.ragged]
        values = read_regions(self._arrays, dict.fromkeys(plain, self.rows(shard)))
        ragged = [a.name for a in self.spec.arrays if a.ragged]
        if ragged:
            first = shard * self.spec.capacity
            n_rows = min(int(np.maximum(values[COUNT], 0).sum(dtype=np.int64)), self.spec.capacity)
            values |= read_regions(
                self._arrays, dict.fromkeys(ragged, slice(first, first + n_rows))
            )
        return {a.name: values[a.name] for a in self.spec.arrays}

    def read_components(self, index: int) -> dict[str, NDArray[Any]]:
        """Rows of one image of every ragged array, by name (``components`` says what they are)."""
        where = read_regions(self._arrays, dict.fromkeys((OFFSET, COUNT), slice(index, index + 1)))
        first, n_rows = int(where[OFFSET][0]), int(where[COUNT][0])
        ragged = [a.name for a in self.spec.arrays if a.ragged]
        return read_regions(self._arrays, dict.fromkeys(ragged, slice(first, first + n_rows)))

    def read(self, name: str, rows: slice) -> NDArray[Any]:
        """Rows of any array, e.g. ``noiseless`` or ``variance`` where they were kept.

        Raises
        ------
        DatasetError
            Naming the arrays there are.
        """
        if name not in self._arrays:
            raise DatasetError(f"{self.path}: no array {name!r}; known: {', '.join(self._arrays)}")
        return read_of_shard(self._arrays[name], rows, self.path)

    @cached_property
    def digests(self) -> NDArray[np.uint8]:
        """Digest of each shard, shape (n_shards, 32)."""
        return np.asarray(self.zarr_array(DIGESTS)[:])

    def zarr_array(self, name: str) -> zarr.Array[Any]:
        """One array, as zarr reads it."""
        return array_of(self._group, name)

    @cached_property
    def _images(self) -> ArraySpec:
        return next(array for array in self.spec.arrays if array.name == "images")

    @cached_property
    def _shards(self) -> ShardCache:
        return image_shards(self, AT_HAND_BYTES)

    def __reduce__(self) -> tuple[Any, ...]:
        # What is open stays here: another process opens its own.
        return Dataset, tuple(getattr(self, f.name) for f in fields(self))

    @cached_property
    def _group(self) -> zarr.Group:
        return open_group(self.path, mode="r")

    @cached_property
    def _arrays(self) -> dict[str, zarr.Array[Any]]:
        return {a.name: array_of(self._group, a.name) for a in self.spec.arrays}


def open_dataset(path: str | Path | Url) -> Dataset:
    """Open a complete dataset, local or at a URL.

    Raises
    ------
    DatasetNotFoundError
        If nothing lies at the path.
    DatasetIncompleteError
        If shards are missing; names the command that finishes it.
    DatasetError
        If it is no dataset of ours, or of a newer version.
    """
    path = locate(path)
    spec, sha256 = stored_spec(path)
    if sha256 is None:
        digests = Dataset(path, spec, "").digests
        n_missing = int((~digests.any(axis=1)).sum())
        made = "simulate" if spec.origin == "simulation" else spec.origin
        raise DatasetIncompleteError(
            f"{path}: {n_missing} of {spec.n_shards} shards are missing; run the "
            f"'deeplense {made}' command that began it again to finish it"
        )
    return Dataset(path, spec, sha256)


def damaged_shards(dataset: Dataset) -> tuple[int, ...]:
    """Shards whose values do not match their digest, read one after another."""
    return tuple(k for k in range(dataset.n_shards) if not is_intact(dataset, k))


def is_intact(dataset: Dataset, shard: int) -> bool:
    """Whether the values of one shard match its digest."""
    try:
        values = dataset.read_shard(shard)
    except StorageError:
        raise
    except (OSError, ValueError, RuntimeError):
        return False
    return np.array_equal(shard_digest(dataset.spec.arrays, values), dataset.digests[shard])


def require_intact(dataset: Dataset) -> None:
    """Check every digest.

    Raises
    ------
    DatasetIntegrityError
        Naming the damaged shards.
    """
    bad = damaged_shards(dataset)
    if bad:
        raise DatasetIntegrityError(f"{dataset.path}: damaged shards: {', '.join(map(str, bad))}")
