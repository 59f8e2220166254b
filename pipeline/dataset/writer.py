"""Write a dataset shard by shard: simulated, imported, merged or split, all go through here.

    with write_store(path, spec) as store:         # created, or taken up where it was left
        for shard in store.missing():
            store.write(shard, values_of(store.rows(shard)))   # array name -> values
        sha256 = store.seal()

``spec`` (``layout.StoreSpec``) says which arrays there are and what the images come from. A shard
counts as written when its digest is, which comes last; a dataset opens for reading when it is
sealed. Locally, zarr renames whole keys into place, so a kill leaves at most ``*.partial`` files,
which the next writer sweeps: calling again goes on with what is missing, to the same bytes.
``path`` may be a URL (``place``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import DatasetMismatchError, OutputError
from pipeline.core.provenance import package_versions, sha256_hex
from pipeline.dataset import lock
from pipeline.dataset.layout import DIGEST_BYTES, DIGESTS, StoreSpec, shard_digest
from pipeline.dataset.place import Place, Url, create_folder, exists, locate, sweep
from pipeline.dataset.zarr_files import (
    array_of,
    create_arrays,
    delete_chunk,
    open_group,
    read_attributes,
    write_regions,
)

if TYPE_CHECKING:
    import zarr

#: Packages whose release decides the bytes of an image: those that began a dataset finish it.
DECIDING_PACKAGES = ("deeplense-pipeline", "numpy", "scipy", "astropy", "lenstronomy")


class ShardStore:
    """The writer's view of a dataset, complete or not.

    Parameters
    ----------
    path : Place
        Folder ``NAME.zarr``, or a URL.
    spec : StoreSpec
    """

    def __init__(self, path: Place, spec: StoreSpec) -> None:
        self.path = path
        self.spec = spec
        self._open()

    @classmethod
    def prepare(cls, path: Place, spec: StoreSpec) -> ShardStore:
        """Create the empty dataset, or take up one of the same origin.

        Raises
        ------
        DatasetMismatchError
            If something else was its origin, or other package versions began it.
        DatasetError
            If something else lies at the path.
        OutputError
            If the folder cannot be written.
        """
        if not exists(path):
            create_folder(path, lambda folder: create_arrays(folder, spec))
        attributes = read_attributes(path)
        _check_same_origin(path, attributes, spec)
        sweep(path)
        store = cls(path, spec)
        store._extend(attributes["n_images"])
        return store

    def missing(self) -> tuple[int, ...]:
        """Numbers of the shards without a digest."""
        written = np.asarray(self._array(DIGESTS)[:]).any(axis=1)
        return tuple(int(k) for k in np.flatnonzero(~written))

    def write(self, shard: int, values: Mapping[str, NDArray[Any]]) -> None:
        """Write every array of one shard and, last of all, its digest.

        Parameters
        ----------
        shard : int
        values : mapping
            Of every array of the spec, by name, for the images :meth:`rows` of the shard; of the
            ragged ones the rows of these images in order. Offsets are filled in.

        Raises
        ------
        OutputError
            If the disk is full or read-only; the shard then still counts as missing.
        """
        values = self.spec.with_offsets(shard, values)
        first = shard * self.spec.capacity
        regions = {
            a.name: slice(first, first + len(values[a.name])) if a.ragged else self.rows(shard)
            for a in self.spec.arrays
        }
        try:
            write_regions(self._arrays, regions, values)
            self._array(DIGESTS)[shard] = shard_digest(self.spec.arrays, values)
        except OSError as error:
            raise OutputError(
                f"{self.path}: shard {shard} cannot be written: {error.strerror or error}; "
                "finished shards are kept, run the same command again to go on"
            ) from error

    def rows(self, shard: int) -> slice:
        """Image numbers of one shard."""
        return self.spec.rows(shard)

    def forget(self, shard: int) -> None:
        """Count a shard as missing and delete its files, which may be damaged."""
        self._array(DIGESTS)[shard] = 0
        for array in self._arrays.values():
            delete_chunk(array, shard)

    def sealed_as(self) -> str:
        """Hash of a dataset that is complete and says so; "" otherwise."""
        return str(self._group.attrs.get("dataset_sha256", ""))

    def seal(self) -> str:
        """Mark the dataset complete; return its hash over origin, size and digests."""
        digests = np.asarray(self._array(DIGESTS)[:])
        text = f"{self.spec.origin_sha256}:{self.spec.n_images}:{digests.tobytes().hex()}"
        self._group.attrs["dataset_sha256"] = sha256_hex(text)
        return str(self._group.attrs["dataset_sha256"])

    def _open(self) -> None:
        self._group = open_group(self.path, mode="r+")
        self._arrays = {a.name: array_of(self._group, a.name) for a in self.spec.arrays}

    def _array(self, name: str) -> zarr.Array[Any]:
        return array_of(self._group, name)

    def _extend(self, n_before: int) -> None:
        """Make room for more images; a last shard that was only partly filled is made again."""
        n_images, size = self.spec.n_images, self.spec.shard_size
        if n_images > n_before:
            if "dataset_sha256" in self._group.attrs:
                del self._group.attrs["dataset_sha256"]
            if n_before % size:
                self._array(DIGESTS)[n_before // size] = 0
        for array in self.spec.arrays:
            length = self.spec.length(array)
            if self._array(array.name).shape[0] < length:
                self._array(array.name).resize(array.shape(length))
        if self._array(DIGESTS).shape[0] < self.spec.n_shards:
            self._array(DIGESTS).resize((self.spec.n_shards, DIGEST_BYTES))
        if n_images > n_before:
            self._group.attrs.update(self.spec.attributes)
            self._group.attrs["n_images"] = n_images
            self._open()


@contextmanager
def write_store(path: str | Path | Url, spec: StoreSpec) -> Iterator[ShardStore]:
    """Create or take up a dataset and hold its lock: two commands never write one shard.

    Raises
    ------
    DatasetError
        If another process is writing it, or something else lies there; see also
        :meth:`ShardStore.prepare`.
    """
    place = locate(path)
    with ExitStack() as stack:
        taken_up = lock.hold(place, stack)
        store = ShardStore.prepare(place, spec)
        taken_up()
        yield store


def _check_same_origin(path: Place, attributes: dict[str, Any], spec: StoreSpec) -> None:
    if attributes["origin_sha256"] != spec.origin_sha256:
        differing = ", ".join(_differences(attributes, spec.attributes, spec.free))
        raise DatasetMismatchError(
            f"{path}: made by another {attributes['origin']}"
            + (f"; it differs in {differing}" if differing else "")
            + ". Choose another --out, or delete it"
        )
    if attributes["n_images"] > spec.n_images:
        raise DatasetMismatchError(
            f"{path}: holds {attributes['n_images']} images, more than the {spec.n_images} asked "
            "for; a dataset can grow but not shrink"
        )
    now, then = package_versions(), attributes["versions"]
    changed = [n for n in DECIDING_PACKAGES if then.get(n) != now.get(n)]
    sealed = "dataset_sha256" in attributes and attributes["n_images"] == spec.n_images
    if changed and not sealed:
        what = ", ".join(f"{n} {then.get(n)} (here {now.get(n)})" for n in changed)
        raise DatasetMismatchError(
            f"{path}: begun with {what}; finish it with those versions, or choose another --out"
        )
    if not sealed and (device := spec.device()) != attributes["device"]:
        raise DatasetMismatchError(
            f"{path}: begun on a {attributes['device']}, which rounds other than the {device} here"
            "; finish it there, or choose another --out"
        )


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], free: tuple[str, ...], prefix: str = ""
) -> Iterable[str]:
    """Key paths where two plain trees differ; of the outermost level only the keys of ``new``."""
    keys = old.keys() | new.keys() if prefix else new.keys()
    for key in sorted(keys):
        name, was, asked = f"{prefix}{key}", old.get(key), new.get(key)
        if name in free:
            continue
        if isinstance(was, Mapping) and isinstance(asked, Mapping):
            yield from _differences(was, asked, free, f"{name}.")
        elif was != asked:
            yield f"{name.removeprefix('config.')} ({was!r}, asked {asked!r})"
