"""Arrays whose bytes lie on a local disk as they are, read without zarr's codecs in between.

Covers what this package writes: Zarr v3, cut along axis 0, little-endian, uncompressed, in plain
chunks or in shards of the ``sharding_indexed`` codec (Zarr v3 specification, sharding 1.0): an
index of (offset, length) pairs, both ``2^64 - 1`` for a chunk that is not there, then its CRC-32C.
:func:`raw_array` answers None for anything else, which zarr then reads.
"""

from __future__ import annotations

import json
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import DatasetIntegrityError

#: Offset and length of an inner chunk that was never written.
_ABSENT = np.uint64(2**64 - 1)
_CHECKSUM_BYTES = 4
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
_INDEX_CODECS = [_LITTLE, {"name": "crc32c"}]
#: Types as zarr names them.
_TYPES = {
    **{
        f"{kind}{bits}": f"<{kind[0]}{bits // 8}"
        for kind in ("int", "uint")
        for bits in (16, 32, 64)
    },
    "int8": "|i1",
    "uint8": "|u1",
    "float32": "<f4",
    "float64": "<f8",
}


@dataclass(frozen=True)
class RawArray:
    """One array of a dataset, shard by shard.

    Attributes
    ----------
    folder : Path
    shape : tuple of int
        Axis 0 counts images.
    dtype : numpy.dtype
    fill : float
        Value of what was never written.
    shard_size : int
        Images in one file.
    chunk_size : int
        Images in one inner chunk; the shard size where there is no index.
    index_location : "start", "end" or None
        Where the index of a shard lies; None where a file is one plain chunk.
    """

    folder: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: float
    shard_size: int
    chunk_size: int
    index_location: Literal["start", "end"] | None

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one image's value."""
        return self.shape[1:]

    @property
    def n_shards(self) -> int:
        """Number of shards; the last may be partly filled."""
        return -(-self.shape[0] // self.shard_size)

    def file(self, shard: int) -> Path:
        """File of one shard."""
        return self.folder.joinpath("c", str(shard), *("0" for _ in self.item_shape))

    def shard(self, shard: int, *, whole: bool = False) -> NDArray[Any]:
        """Values of one shard, without a copy where its chunks lie in order.

        Parameters
        ----------
        shard : int
        whole : bool
            Refuse a shard that is not there, instead of answering the fill value.

        Raises
        ------
        DatasetIntegrityError
            If the file is too short, its index fails its checksum or points outside, or, under
            ``whole``, if it is missing.
        """
        n_rows = min(self.shard_size, self.shape[0] - shard * self.shard_size)
        path = self.file(shard)
        try:
            content = _map(path)
        except FileNotFoundError as error:
            if whole:
                raise DatasetIntegrityError(f"{path}: the file of shard {shard} is gone") from error
            return np.full((n_rows, *self.item_shape), self.fill, self.dtype)
        offsets = self._offsets(path, content)
        size = self._chunk_bytes
        n_chunks = -(-n_rows // self.chunk_size)
        wanted = offsets[:n_chunks]
        if whole and (wanted == _ABSENT).any():
            raise DatasetIntegrityError(f"{path}: shard {shard} has holes")
        steps = np.arange(n_chunks, dtype=np.uint64) * np.uint64(size)
        if wanted[0] != _ABSENT and (wanted == wanted[0] + steps).all():
            start, stop = int(wanted[0]), int(wanted[0]) + n_chunks * size
            return self._values(content[start:stop])[:n_rows]
        values = np.full((n_chunks, self.chunk_size, *self.item_shape), self.fill, self.dtype)
        for k in np.flatnonzero(wanted != _ABSENT):
            values[k] = self._values(content[int(wanted[k]) : int(wanted[k]) + size])
        return values.reshape(-1, *self.item_shape)[:n_rows]

    def read(self, rows: slice | None = None) -> NDArray[Any]:
        """Values of a range of images, a copy; for columns and contiguous pieces."""
        start, stop, step = (rows or slice(None)).indices(self.shape[0])
        out = np.empty((max(0, stop - start), *self.item_shape), self.dtype)
        for shard in range(start // self.shard_size, -(-max(start, stop) // self.shard_size)):
            first = shard * self.shard_size
            a, b = max(start, first), min(stop, first + self.shard_size)
            out[a - start : b - start] = self.shard(shard)[a - first : b - first]
        return out[::step]

    @property
    def _chunk_bytes(self) -> int:
        return self.chunk_size * int(np.prod(self.item_shape, dtype=np.int64)) * self.dtype.itemsize

    def _values(self, content: NDArray[np.uint8]) -> NDArray[Any]:
        return content.view(self.dtype).reshape(-1, *self.item_shape)

    def _offsets(self, path: Path, content: NDArray[np.uint8]) -> NDArray[np.uint64]:
        """Offset of each inner chunk in its file, checked."""
        if self.index_location is None:
            if len(content) != self._chunk_bytes:
                raise DatasetIntegrityError(
                    f"{path}: {len(content)} bytes, expected {self._chunk_bytes}"
                )
            return np.zeros(1, np.uint64)
        n_bytes = 16 * (self.shard_size // self.chunk_size)
        n_index = n_bytes + _CHECKSUM_BYTES
        if len(content) < n_index:
            raise DatasetIntegrityError(f"{path}: cut off: {len(content)} bytes hold no index")
        place = slice(n_index) if self.index_location == "start" else slice(-n_index, None)
        index = content[place]
        if _crc32c(index[:n_bytes]) != int(index[n_bytes:].copy().view("<u4")[0]):
            raise DatasetIntegrityError(f"{path}: damaged: its index fails its checksum")
        offset, length = index[:n_bytes].copy().view("<u8").reshape(-1, 2).T
        there = offset != _ABSENT
        first, limit = np.uint64(0), np.uint64(len(content) - n_index)
        if self.index_location == "start":
            first, limit = np.uint64(n_index), np.uint64(len(content))
        # Compared without adding: offset + length may not fit.
        size = np.uint64(self._chunk_bytes)
        wrong = there & ((length != size) | (offset < first))
        wrong |= there & ((offset > limit) | (limit - offset < length))
        if wrong.any():
            bad = int(np.flatnonzero(wrong)[0])
            raise DatasetIntegrityError(
                f"{path}: damaged: chunk {bad} should lie at {int(offset[bad])} with "
                f"{int(length[bad])} bytes, in a file of {len(content)}"
            )
        return np.asarray(offset, np.uint64)


def raw_array(folder: Path) -> RawArray | None:
    """Reader of an array's files; None if zarr must read them.

    Parameters
    ----------
    folder : Path
        Of the array, with its ``zarr.json``.
    """
    try:
        meta = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    try:
        return _parse(folder, meta)
    except (KeyError, TypeError, IndexError):
        return None


def _parse(folder: Path, meta: dict[str, Any]) -> RawArray | None:  # Any: JSON
    shape = tuple(meta["shape"])
    grid = meta["chunk_grid"]
    chunk = tuple(grid["configuration"]["chunk_shape"])
    plain = (
        meta["zarr_format"] == 3
        and meta["node_type"] == "array"
        and grid["name"] == "regular"
        and meta["chunk_key_encoding"]["name"] == "default"
        and meta["chunk_key_encoding"].get("configuration", {}).get("separator", "/") == "/"
        and not meta.get("storage_transformers")
        and meta["data_type"] in _TYPES
        and len(shape) > 0
        and chunk[1:] == shape[1:]
    )
    if not plain:
        return None
    dtype = np.dtype(_TYPES[meta["data_type"]])
    fill = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}.get(
        str(meta["fill_value"]), meta["fill_value"]
    )
    if not isinstance(fill, int | float):
        return None
    (codec,) = meta["codecs"] if len(meta["codecs"]) == 1 else (None,)
    if _is_little(codec, dtype):
        return RawArray(folder, shape, dtype, fill, chunk[0], chunk[0], None)
    if codec is None or codec["name"] != "sharding_indexed":
        return None
    inside = codec["configuration"]
    inner = tuple(inside["chunk_shape"])
    location = inside.get("index_location", "end")
    known = (
        inner[1:] == shape[1:]
        and chunk[0] % inner[0] == 0
        and len(inside["codecs"]) == 1
        and _is_little(inside["codecs"][0], dtype)
        and inside["index_codecs"] == _INDEX_CODECS
        and location in ("start", "end")
    )
    if not known:
        return None
    return RawArray(folder, shape, dtype, fill, chunk[0], inner[0], location)


def _is_little(codec: Any, dtype: np.dtype[Any]) -> bool:  # Any: JSON
    """Whether a codec leaves the bytes as they are; one byte has no order."""
    one_byte = dtype.itemsize == 1 and isinstance(codec, dict) and codec.get("name") == "bytes"
    return codec == _LITTLE or one_byte


def _map(path: Path) -> NDArray[np.uint8]:
    """Bytes of a file, mapped; the kernel is asked to read it whole, in order."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if os.fstat(descriptor).st_size == 0:
            return np.empty(0, np.uint8)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        return np.frombuffer(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), np.uint8)
    finally:
        os.close(descriptor)


def _crc32c(content: NDArray[np.uint8]) -> int:
    import google_crc32c  # zarr itself depends on it

    return int(google_crc32c.value(content.tobytes()))
