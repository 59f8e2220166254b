"""Datasets on disk: create, complete, verify, seal, open. The only importer of zarr.

A shard counts as written when its digest is; a dataset opens for reading when it is sealed. Writes
go through zarr's local store, which renames whole keys into place, so a kill leaves at most
``*.partial`` files, which the next writer sweeps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.core.config import dump, validate
from pipeline.core.errors import (
    DatasetError,
    DatasetIncompleteError,
    DatasetIntegrityError,
    DatasetMismatchError,
    DatasetNotFoundError,
    OutputError,
)
from pipeline.core.files import PARTIAL, atomic_folder
from pipeline.core.provenance import package_versions, sha256_hex
from pipeline.dataset.config import NOT_HASHED, DatasetConfig
from pipeline.dataset.detectability import dataset_columns
from pipeline.dataset.layout import (
    DIGEST_BYTES,
    FORMAT,
    FORMAT_VERSION,
    array_specs,
    inner_chunk,
    shard_digest,
)
from pipeline.dataset.splits import SPLITS
from pipeline.physics.components import TruthColumn

if TYPE_CHECKING:
    import zarr

#: Packages whose release decides the bytes of an image: those that began a dataset finish it.
DECIDING_PACKAGES = ("deeplense-pipeline", "numpy", "scipy", "astropy", "lenstronomy")


class ShardStore:
    """The writer's view of a dataset, complete or not.

    Parameters
    ----------
    path : Path
        Folder ``NAME.zarr``.
    config : DatasetConfig
    """

    def __init__(self, path: Path, config: DatasetConfig) -> None:
        self.path = path
        self.config = config
        self.specs = array_specs(config)
        self._group = _open_group(path, mode="r+")

    @classmethod
    def prepare(cls, path: Path, config: DatasetConfig) -> ShardStore:
        """Create the empty dataset, or take up one that the same configuration began.

        Raises
        ------
        DatasetMismatchError
            If another configuration, or other package versions, began it.
        DatasetError
            If something else lies at the path.
        OutputError
            If the folder cannot be written.
        """
        if not path.exists():
            with atomic_folder(path) as temporary:
                _create(temporary, config)
        attributes = _attributes(path)
        _check_same_origin(path, attributes, config)
        for leftover in path.rglob(f"*{PARTIAL}"):
            leftover.unlink()
        store = cls(path, config)
        store._extend(attributes["n_images"])
        return store

    def missing(self) -> tuple[int, ...]:
        """Numbers of the shards without a digest."""
        written = np.asarray(self._array("shard_digest")[:]).any(axis=1)
        return tuple(int(k) for k in np.flatnonzero(~written))

    def write(self, shard: int, values: dict[str, NDArray[Any]]) -> None:
        """Write every array of one shard and, last of all, its digest.

        Raises
        ------
        OutputError
            If the disk is full or read-only; the shard then still counts as missing.
        """
        rows = self.rows(shard)
        try:
            for spec in self.specs:
                self._array(spec.name)[rows] = values[spec.name]
            self._array("shard_digest")[shard] = shard_digest(self.specs, values)
        except OSError as error:
            raise OutputError(
                f"{self.path}: shard {shard} cannot be written: {error.strerror or error}; "
                "finished shards are kept, run the same command again to go on"
            ) from error

    def _array(self, name: str) -> zarr.Array[Any]:
        return _array(self._group, name)

    def rows(self, shard: int) -> slice:
        """Image numbers of one shard."""
        size = self.config.shard_size
        return slice(shard * size, min((shard + 1) * size, self.config.n_images))

    def is_sealed(self) -> bool:
        """Whether the dataset is complete and says so."""
        return "dataset_sha256" in self._group.attrs

    def seal(self) -> str:
        """Mark the dataset complete; return its hash over configuration and digests."""
        digests = np.asarray(self._array("shard_digest")[:])
        text = f"{self.config.sha256}:{self.config.n_images}:{digests.tobytes().hex()}"
        self._group.attrs["dataset_sha256"] = sha256_hex(text)
        return str(self._group.attrs["dataset_sha256"])

    def _extend(self, n_before: int) -> None:
        """Make room for more images; a last shard that was only partly filled is made again."""
        n_images, size = self.config.n_images, self.config.shard_size
        if n_images > n_before:
            if "dataset_sha256" in self._group.attrs:
                del self._group.attrs["dataset_sha256"]
            if n_before % size:
                self._array("shard_digest")[n_before // size] = 0
        for spec in self.specs:
            if self._array(spec.name).shape[0] < n_images:
                self._array(spec.name).resize(spec.shape(n_images))
        if self._array("shard_digest").shape[0] < self.config.n_shards:
            self._array("shard_digest").resize((self.config.n_shards, DIGEST_BYTES))
        if n_images > n_before:
            self._group.attrs["config"] = dump(self.config)
            self._group.attrs["n_images"] = n_images


@dataclass(frozen=True)
class Dataset:
    """A complete dataset, open for reading."""

    path: Path
    config: DatasetConfig
    sha256: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their indices."""
        return self.config.class_names

    @property
    def bands(self) -> tuple[str, ...]:
        """Name of each channel."""
        return self.config.bands

    @property
    def pixel_scale(self) -> float:
        """Pixel scale, arcsec."""
        return self.config.pixel_scale

    @property
    def n_images(self) -> int:
        """Number of images."""
        return self.config.n_images

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Bands, rows, columns."""
        return len(self.bands), self.config.n_pix, self.config.n_pix

    @cached_property
    def labels(self) -> NDArray[np.int16]:
        """Class index of each image, shape (N,)."""
        return np.asarray(self._array("label")[:])

    @cached_property
    def split(self) -> NDArray[np.int8]:
        """0 train, 1 val, 2 test, shape (N,)."""
        return np.asarray(self._array("split")[:])

    def indices(self, split: str) -> NDArray[np.int64]:
        """Image numbers of one split, ascending.

        Raises
        ------
        DatasetError
            If there is no such split.
        """
        if split not in SPLITS:
            raise DatasetError(f"{split!r} is no split; expected one of {', '.join(SPLITS)}")
        return np.flatnonzero(self.split == SPLITS.index(split)).astype(np.int64)

    def read_images(self, indices: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """Images (B, C, H, W) in electron/s; slices are much faster than scattered numbers."""
        images = self._array("images")
        return np.asarray(images[indices] if isinstance(indices, slice) else images.oindex[indices])

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
        return np.asarray(self._array(f"truth/{name}")[:])

    def truth_info(self) -> dict[str, TruthColumn]:
        """Unit and description of each truth column."""
        return dataset_columns(self.config)

    @cached_property
    def _group(self) -> zarr.Group:
        return _open_group(self.path, mode="r")

    def _array(self, name: str) -> zarr.Array[Any]:
        return _array(self._group, name)


def open_dataset(path: str | Path) -> Dataset:
    """Open a complete dataset.

    Raises
    ------
    DatasetNotFoundError
        If nothing lies at the path.
    DatasetIncompleteError
        If shards are missing; names the command that finishes it.
    DatasetError
        If it is no dataset of ours, or of a newer version.
    """
    path = Path(path)
    attributes = _attributes(path)
    config = validate(attributes["config"], DatasetConfig, name=f"{path}: config")
    if "dataset_sha256" not in attributes:
        missing = ShardStore(path, config).missing()
        raise DatasetIncompleteError(
            f"{path}: {len(missing)} of {config.n_shards} shards are missing; run the "
            "'deeplense simulate' command that began it again to finish it"
        )
    return Dataset(path, config, attributes["dataset_sha256"])


def damaged_shards(dataset: Dataset) -> tuple[int, ...]:
    """Shards whose values do not match their digest, read one after another."""
    specs = array_specs(dataset.config)
    group = _open_group(dataset.path, mode="r")
    digests = np.asarray(_array(group, "shard_digest")[:])
    bad = []
    for shard in range(dataset.config.n_shards):
        size = dataset.config.shard_size
        rows = slice(shard * size, min((shard + 1) * size, dataset.n_images))
        try:
            values = {spec.name: np.asarray(_array(group, spec.name)[rows]) for spec in specs}
        except (OSError, ValueError, RuntimeError):
            bad.append(shard)
            continue
        if not np.array_equal(shard_digest(specs, values), digests[shard]):
            bad.append(shard)
    return tuple(bad)


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


def _create(path: Path, config: DatasetConfig) -> None:
    import zarr

    group = zarr.create_group(store=path, zarr_format=3)
    group.attrs.update(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "n_images": config.n_images,
            "shard_size": config.shard_size,
            "bands": list(config.bands),
            "pixel_scale": config.pixel_scale,
            "class_names": list(config.class_names),
            "config": dump(config),
            "config_sha256": config.sha256,
            "versions": package_versions(),
            "device": "cpu",
        }
    )
    for spec in array_specs(config):
        chunk, shard = (config.shard_size, *spec.item_shape), None
        if spec.item_shape:
            chunk, shard = (inner_chunk(config.shard_size), *spec.item_shape), chunk
        group.create_array(
            name=spec.name,
            shape=spec.shape(config.n_images),
            dtype=np.dtype(spec.dtype),
            chunks=chunk,
            shards=shard,
            compressors=None,
            fill_value=spec.fill,
            attributes=spec.attributes,
        )
    group.create_array(
        name="shard_digest",
        shape=(config.n_shards, DIGEST_BYTES),
        dtype=np.uint8,
        chunks=(1, DIGEST_BYTES),
        compressors=None,
        fill_value=0,
        attributes={"description": "SHA-256 of each shard's decoded values; zeros: not written"},
    )


def _open_group(path: Path, mode: Literal["r", "r+"]) -> zarr.Group:
    import zarr

    return zarr.open_group(store=path, mode=mode, zarr_format=3, use_consolidated=False)


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    import zarr

    array = group[name]
    assert isinstance(array, zarr.Array)
    return array


def _attributes(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise DatasetNotFoundError(f"{path}: no dataset lies there")
    try:
        meta = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a dataset: zarr.json cannot be read: {error}") from error
    attributes = meta.get("attributes", {}) if isinstance(meta, dict) else {}
    if attributes.get("format") != FORMAT:
        raise DatasetError(f"{path}: a zarr group, but not a {FORMAT}")
    if attributes["format_version"] != FORMAT_VERSION:
        raise DatasetError(
            f"{path}: format version {attributes['format_version']}; this release reads "
            f"version {FORMAT_VERSION}"
        )
    return dict(attributes)


def _check_same_origin(path: Path, attributes: dict[str, Any], config: DatasetConfig) -> None:
    if attributes["config_sha256"] != config.sha256:
        found = validate(attributes["config"], DatasetConfig, name=f"{path}: config")
        raise DatasetMismatchError(
            f"{path}: made by another configuration; it differs in "
            f"{', '.join(_differences(dump(found), dump(config)))}. Choose another --out, or "
            "delete it"
        )
    if attributes["n_images"] > config.n_images:
        raise DatasetMismatchError(
            f"{path}: holds {attributes['n_images']} images, more than the {config.n_images} asked "
            "for; a dataset can grow but not shrink"
        )
    now, then = package_versions(), attributes["versions"]
    changed = [n for n in DECIDING_PACKAGES if then.get(n) != now.get(n)]
    sealed = "dataset_sha256" in attributes and attributes["n_images"] == config.n_images
    if changed and not sealed:
        what = ", ".join(f"{n} {then.get(n)} (here {now.get(n)})" for n in changed)
        raise DatasetMismatchError(
            f"{path}: begun with {what}; finish it with those versions, or choose another --out"
        )


def _differences(old: Any, new: Any, prefix: str = "") -> Iterable[str]:
    """Key paths where two plain trees differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if key in NOT_HASHED and not prefix:
                continue
            yield from _differences(old.get(key), new.get(key), f"{prefix}{key}.")
    elif old != new:
        yield f"{prefix.rstrip('.')} ({old!r}, asked {new!r})"
