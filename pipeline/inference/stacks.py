"""Images that share a file: ``.npy`` and ``.npz`` stacks, and our own Zarr datasets.

Shapes that are understood: (H, W); (N, H, W); (N, C, H, W); with at most four channels last,
(H, W, C) and (N, H, W, C). Arrays of as many planes as the network has bands are one picture.
"""

import hashlib
import lzma
import math
import stat
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.images import (
    MAX_PIXELS,
    RawImage,
    ReadOptions,
    Rejection,
    RejectReason,
    UnreadableImageError,
)

if TYPE_CHECKING:
    from pipeline.dataset.store import Dataset

ARRAY_SUFFIXES = (".npy", ".npz")
#: Largest member of an ``.npz`` that is unpacked, bytes.
MAX_MEMBER = 512 * 2**20
#: Images of a dataset that are read at a time.
_BLOCK = 64
_MAX_CHANNELS_LAST = 4


@dataclass(frozen=True)
class Part:
    """One image of a file that holds several.

    Attributes
    ----------
    index : int or None
        Position in a stack or dataset; None where the file is one picture.
    member : str
        Array of an ``.npz``.
    x, y : float or None
        Pixel of a mosaic, counted from 0, around which to cut.
    """

    index: int | None = None
    member: str = ""
    x: float | None = None
    y: float | None = None

    @property
    def label(self) -> str:
        """What follows the file's name in the table."""
        number = "" if self.index is None else f"[{self.index}]"
        return f":{self.member}{number}" if self.member else number


def is_dataset(path: Path) -> bool:
    """Whether a folder is a Zarr store."""
    return (path / "zarr.json").is_file()


def list_parts(path: Path, n_bands: int) -> list[Part]:
    """Every image of an array file or dataset, in order.

    Raises
    ------
    UnreadableImageError
        If it cannot be read.
    """
    if path.is_dir():
        return [Part(index) for index in range(_dataset(path).n_images)]
    if path.suffix.lower() == ".npy":
        return _parts_of("", _open_npy(path).shape, n_bands)
    parts = []
    with _open_zip(path) as archive:
        for name in sorted(set(archive.namelist())):
            if name.endswith(".npy"):
                parts += _parts_of(name.removesuffix(".npy"), _member_shape(archive, name), n_bands)
    if not parts:
        raise _reject(RejectReason.NO_IMAGE, "no array in the archive")
    return parts


def read_part(
    path: Path, part: Part, options: ReadOptions, bands: tuple[str, ...]
) -> tuple[RawImage | Rejection, str | None]:
    """One image, and the SHA-256 of its pixels as little-endian values of their own type."""
    try:
        if path.is_dir():
            return _read_dataset(path, part)
        stored = _picture(path, part, len(bands))
    except UnreadableImageError as error:
        return error.rejection, None
    digest = hashlib.sha256(np.ascontiguousarray(stored).tobytes()).hexdigest()
    try:
        planes = _plane(stored.astype(np.float64), options.band)
    except UnreadableImageError as error:
        return error.rejection, digest
    planes[~(np.abs(planes) < 1e100)] = np.nan
    band = options.band if len(stored) > 1 else None
    return RawImage(planes, part.member or "0", None, None, band), digest


def _parts_of(member: str, shape: tuple[int, ...], n_bands: int) -> list[Part]:
    if _is_stack(shape, n_bands):
        return [Part(index, member) for index in range(shape[0])]
    return [Part(None, member)]


def _is_stack(shape: tuple[int, ...], n_bands: int) -> bool:
    if len(shape) == 4:
        return True
    if len(shape) != 3 or _is_channels_last(shape):
        return False
    return not (n_bands > 1 and shape[0] == n_bands)


def _is_channels_last(shape: tuple[int, ...]) -> bool:
    return shape[-1] <= _MAX_CHANNELS_LAST < min(shape[-3:-1])


def _picture(path: Path, part: Part, n_bands: int) -> NDArray[Any]:  # Any: the file's own type
    """Planes (C, H, W) of one image."""
    is_npy = path.suffix.lower() == ".npy"
    array = _open_npy(path) if is_npy else _member(path, part.member, path.stat().st_mtime_ns)
    if array.dtype.kind not in "fiub":
        raise _reject(RejectReason.UNREADABLE, f"holds {array.dtype}, no numbers")
    picture = array if part.index is None else array[part.index]
    if picture.ndim == 3 and _is_channels_last(picture.shape):
        picture = np.moveaxis(picture, -1, 0)
    if picture.ndim not in (2, 3) or picture.size == 0:
        shape = " x ".join(map(str, array.shape)) or "nothing"
        raise _reject(RejectReason.WRONG_SHAPE, f"an array of {shape}, no picture")
    if picture.size > MAX_PIXELS:
        raise _reject(RejectReason.TOO_LARGE, f"pictures of {picture.shape} pixels")
    return np.array(picture.reshape(-1, *picture.shape[-2:]))


def _plane(planes: NDArray[np.float64], wanted: str | None) -> NDArray[np.float64]:
    if wanted is None or len(planes) == 1:
        return planes
    if not (wanted.isdecimal() and 1 <= int(wanted) <= len(planes)):
        detail = f"no band {wanted!r} among {len(planes)} planes, which have no names"
        raise _reject(RejectReason.MISSING_BAND, detail)
    return planes[int(wanted) - 1 : int(wanted)]


def _open_npy(path: Path) -> NDArray[Any]:  # Any: the file's own type
    _require_file(path)
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except _NPY_FAULTS as error:
        raise _reject(RejectReason.UNREADABLE, f"no array of numbers: {error}") from error


def _open_zip(path: Path) -> zipfile.ZipFile:
    _require_file(path)
    try:
        return zipfile.ZipFile(path)
    except _ZIP_FAULTS as error:
        raise _reject(RejectReason.UNREADABLE, f"no archive of arrays: {error}") from error


def _require_file(path: Path) -> None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _reject(RejectReason.UNREADABLE, "is not a regular file")
    except OSError as error:
        raise _reject(RejectReason.UNREADABLE, error.strerror or str(error)) from error


def _member_shape(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """Shape of an array as its header says, which must be no larger than what is unpacked."""
    from numpy.lib import format as npy

    try:
        with archive.open(name) as stream:
            version = npy.read_magic(stream)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(stream)
    except _ZIP_FAULTS as error:
        raise _reject(RejectReason.UNREADABLE, f"member {name}: {error}") from error
    size = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or size > MAX_MEMBER or archive.getinfo(name).file_size > 2 * MAX_MEMBER:
        raise _reject(
            RejectReason.TOO_LARGE if not dtype.hasobject else RejectReason.UNREADABLE,
            f"member {name} holds {'objects' if dtype.hasobject else f'{size} bytes'}",
        )
    return tuple(int(n) for n in shape)


#: What numpy raises on damaged headers, which it parses as Python.
_NPY_FAULTS = (
    OSError, ValueError, EOFError, TypeError, OverflowError, SyntaxError, KeyError, IndexError,
    RecursionError, MemoryError, SystemError, tokenize.TokenError, struct.error,
)  # fmt: skip
_ZIP_FAULTS = (
    *_NPY_FAULTS, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip


@lru_cache(maxsize=1)
def _member(path: Path, name: str, modified: int) -> NDArray[Any]:  # Any: as above
    """An array of an archive; ``modified`` renews it when the file changes."""
    with _open_zip(path) as archive:
        _member_shape(archive, f"{name}.npy")
        try:
            with archive.open(f"{name}.npy") as stream:
                return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
        except _ZIP_FAULTS as error:
            raise _reject(RejectReason.UNREADABLE, f"member {name}: {error}") from error


@lru_cache(maxsize=4)
def _dataset(path: Path) -> "Dataset":
    from pipeline.core.errors import DatasetError
    from pipeline.dataset.store import open_dataset

    try:
        return open_dataset(path)
    except DatasetError as error:
        raise _reject(RejectReason.UNREADABLE, str(error)) from error


@lru_cache(maxsize=2)
def _block(path: Path, number: int) -> NDArray[np.float32]:
    dataset = _dataset(path)
    stop = min((number + 1) * _BLOCK, dataset.n_images)
    return dataset.read_images(slice(number * _BLOCK, stop))


def _read_dataset(path: Path, part: Part) -> tuple[RawImage, str]:
    from pipeline.inference.photometry import Photometry

    index = part.index or 0
    try:
        image = _block(path, index // _BLOCK)[index % _BLOCK]
    except (OSError, ValueError, RuntimeError) as error:  # what zarr raises for damaged shards
        raise _reject(RejectReason.UNREADABLE, f"image {index}: {error}") from error
    dataset = _dataset(path)
    raw = RawImage(
        data=image.astype(np.float64),
        hdu="images",
        pixel_scale=dataset.pixel_scale,
        unit="electron/s",
        band=",".join(dataset.bands),
        photometry=Photometry(),
    )
    return raw, hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def _reject(reason: RejectReason, detail: str) -> UnreadableImageError:
    return UnreadableImageError(reason, detail)
