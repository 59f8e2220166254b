"""Read ``.npy`` and ``.npz`` files of numbers without trusting them.

Headers (numpy.lib.format, versions 1 to 3) are matched, not evaluated, and the sizes they claim are
compared with the bytes that are there. Arrays of objects go through :mod:`pickles`.
"""

import math
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.exchange.pickles import (
    NUMBER_KINDS,
    DamagedPickleError,
    UnsafePickleError,
    read_pickle,
)
from pipeline.exchange.rejects import Reason, RejectedError

MAGIC = b"\x93NUMPY"
#: Longest header that is believed.
_MAX_HEADER = 10_000
#: Most bytes that are read into memory at once: a pickle, or everything in an ``.npz``.
MAX_BYTES = 8 * 2**30
#: Files above this are mapped, not read.
_MAP_ABOVE = 2**20


@dataclass(frozen=True)
class _Header:
    kind: np.dtype[Any]
    shape: tuple[int, ...]
    is_fortran: bool
    offset: int

    @property
    def order(self) -> Any:  # Any: numpy wants a literal
        return "F" if self.is_fortran else "C"

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.kind.itemsize


def read_npy(path: Path) -> NDArray[Any]:
    """Array in an ``.npy`` file; a large one is mapped, so only what is used is read.

    Parameters
    ----------
    path : Path

    Returns
    -------
    NDArray
        Of numbers, or of objects that are numbers and arrays.

    Raises
    ------
    RejectedError
        Saying what is wrong with the file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            header = _read_header(stream)
            if header.kind.hasobject:
                _check_memory(size)
                return _from_pickle(stream.read(), header)
            _check_claim(header, size - header.offset)
            if header.n_bytes <= _MAP_ABOVE:
                return _from_bytes(stream.read(header.n_bytes), header)
        return np.memmap(
            path, header.kind, "r", header.offset, shape=header.shape, order=header.order
        )
    except (OSError, ValueError) as error:
        raise _unreadable(error) from error


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` file by name; texts (``U``, ``S``) too, for labels.

    Raises
    ------
    RejectedError
        Saying what is wrong with the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
            _check_memory(sum(m.file_size for m in members))
            return {m.filename[:-4]: _read_member(archive, m) for m in members}
    except (OSError, ValueError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise _unreadable(error) from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as stream:
        header = _read_header(stream, texts=True)
        content = stream.read()
    if header.kind.hasobject:
        return _from_pickle(content, header)
    _check_claim(header, len(content))
    return _from_bytes(content[: header.n_bytes], header)


def _read_header(stream: IO[bytes], *, texts: bool = False) -> _Header:
    start = stream.read(8)
    if start[:6] != MAGIC or len(start) < 8 or not 1 <= start[6] <= 3:
        raise RejectedError(Reason.UNREADABLE, f"not an .npy file: starts with {start[:8]!r}")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    if length > _MAX_HEADER:
        raise RejectedError(Reason.UNREADABLE, f"a header of {length} bytes is no .npy header")
    text = stream.read(length).decode("utf-8" if start[6] == 3 else "latin-1", "replace")
    fields = [re.search(pattern, text) for pattern in _FIELDS]
    if not all(fields) or len(text) < length:
        raise RejectedError(Reason.UNREADABLE, f"not a plain array: header {text[:80]!r}")
    code, order, shape = (match[1] for match in fields if match)
    kind = _kind(code, texts=texts)
    sizes = tuple(int(n.rstrip("L")) for n in shape.replace(" ", "").split(",") if n)
    return _Header(kind, sizes, order == "True", 8 + width + length)


_FIELDS = (
    r"""['"]descr['"]\s*:\s*['"]([<>|=]?[A-Za-z]\d{0,9})['"]""",
    r"""['"]fortran_order['"]\s*:\s*(True|False)""",
    r"""['"]shape['"]\s*:\s*\(((?:\s*\d{1,18}L?\s*,?)*)\)""",
)


def _kind(code: str, *, texts: bool) -> np.dtype[Any]:
    try:
        kind = np.dtype(code)
    except TypeError as error:
        raise RejectedError(Reason.UNREADABLE, f"numpy has no type {code!r}") from error
    if kind.kind not in NUMBER_KINDS + "O" + ("US" if texts else ""):
        raise RejectedError(Reason.WRONG_TYPE, f"an array of type {code!r}; expected real numbers")
    return kind


def _from_pickle(content: bytes, header: _Header) -> NDArray[Any]:
    try:
        found = read_pickle(content)
    except UnsafePickleError as error:
        raise RejectedError(Reason.UNSAFE_PICKLE, str(error)) from error
    except DamagedPickleError as error:
        raise RejectedError(Reason.UNREADABLE, str(error)) from error
    if not isinstance(found, np.ndarray) or found.shape != header.shape:
        shape = getattr(found, "shape", "a single number")
        raise RejectedError(
            Reason.UNREADABLE, f"the header says {header.shape}, the pickle holds {shape}"
        )
    return found


def _from_bytes(content: bytes, header: _Header) -> NDArray[Any]:
    return np.frombuffer(content, header.kind).reshape(header.shape, order=header.order)


def _check_claim(header: _Header, n_bytes: int) -> None:
    if header.n_bytes > n_bytes or header.kind.itemsize == 0:
        shape = " x ".join(map(str, header.shape))
        raise RejectedError(
            Reason.UNREADABLE,
            f"truncated: {shape} values of {header.kind} need {header.n_bytes} bytes, "
            f"there are {n_bytes}",
        )


def _check_memory(n_bytes: int) -> None:
    if n_bytes > MAX_BYTES:
        raise RejectedError(
            Reason.TOO_LARGE,
            f"{n_bytes / 2**30:.1f} GiB must be read at once, up to {MAX_BYTES / 2**30:.0f} are; "
            "write plain .npy arrays instead",
        )


def _unreadable(error: Exception) -> RejectedError:
    if isinstance(error, RejectedError):
        return error
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return RejectedError(Reason.UNREADABLE, text)
