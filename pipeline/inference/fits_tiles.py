"""Unpack tile-compressed FITS images, the dangerous algorithm in a process of its own.

astropy's HCOMPRESS decoder believes the sizes that stand in the compressed stream; those of a
damaged file make it write beyond its buffer. Such images are unpacked where that does no harm.
"""

import os
import subprocess
import sys
import warnings
import zlib
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.images import RejectReason, UnreadableImageError

#: Algorithms whose decoders stay inside their buffers whatever the stream says.
_SAFE = ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "PLIO_1", "NOCOMPRESS")
_ISOLATED = ("HCOMPRESS_1",)
#: Seconds one image may take in its own process.
_TIMEOUT = 60.0


def unpack_tiles(file: bytes, algorithm: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Unpack the image in HDU 1 of a small FITS file in memory.

    Parameters
    ----------
    file : bytes
        An empty primary HDU and the compressed image.
    algorithm : str
        Its ZCMPTYPE.
    shape : tuple of int
        What its header promises, numpy order.

    Returns
    -------
    NDArray of ``shape``

    Raises
    ------
    UnreadableImageError
        If the tiles are damaged or contradict the header.
    """
    if algorithm in _SAFE:
        pixels = _unpack(file)
    elif algorithm in _ISOLATED:
        pixels = _unpack_isolated(file, shape)
    else:
        raise _damaged(f"algorithm {algorithm!r}; known: {', '.join((*_SAFE, *_ISOLATED))}")
    if pixels.shape != shape:
        raise _damaged("the number of pixels is not that of the header")
    return pixels


def unpack_section(
    path: Path, index: int, algorithm: str, rows: slice, columns: slice
) -> NDArray[np.float64]:
    """Unpack only the tiles under a section of a compressed image on disk.

    Raises
    ------
    UnreadableImageError
        If the tiles are damaged, or of an algorithm that is not safe in this process.
    """
    if algorithm not in _SAFE:
        raise _damaged(f"sections of algorithm {algorithm!r} cannot be read")
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = np.asarray(_opened(path)[index].section[rows, columns], dtype=np.float64)
    except _faults() as error:
        raise _damaged(f"{type(error).__name__}: {error}") from error
    pixels[~(np.abs(pixels) < 1e100)] = np.nan
    return pixels


@lru_cache(maxsize=4)
def _opened(path: Path) -> Any:  # astropy's HDUList carries no types
    from astropy.io import fits  # type: ignore[import-untyped]

    return fits.open(path, memmap=True, lazy_load_hdus=True)


def _faults() -> tuple[type[BaseException], ...]:
    """What astropy raises on damaged tiles and on headers that contradict their tables."""
    # not exported, but what its decompressors raise
    from astropy.io.fits.hdu.compressed._compression import (  # type: ignore[import-untyped]
        CfitsioException,
    )
    from astropy.io.fits.verify import VerifyError  # type: ignore[import-untyped]

    return (
        OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError,
        ArithmeticError, EOFError, AssertionError, MemoryError, SystemError, zlib.error,
        VerifyError, CfitsioException,
    )  # fmt: skip


def _unpack(file: bytes) -> NDArray[np.float64]:
    from astropy.io import fits

    try:
        with (
            np.errstate(all="ignore"),
            fits.open(BytesIO(file), memmap=False, lazy_load_hdus=False) as opened,
        ):
            return np.asarray(opened[1].data, dtype=np.float64)
    except _faults() as error:
        raise _damaged(f"{type(error).__name__}: {error}") from error


def _unpack_isolated(file: bytes, shape: tuple[int, ...]) -> NDArray[np.float64]:
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            [sys.executable, "-c", "from pipeline.inference.fits_tiles import main; main()"],
            input=file,
            capture_output=True,
            timeout=_TIMEOUT,
            env={**os.environ, "PYTHONPATH": path},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _damaged(f"not unpacked within {_TIMEOUT:.0f} s") from error
    if done.returncode != 0 or len(done.stdout) != 8 * int(np.prod(shape)):
        raise _damaged(f"its decoder failed (exit code {done.returncode})")
    return np.frombuffer(done.stdout, np.float64).reshape(shape).copy()


def main() -> None:
    """Unpack the file on stdin to float64 pixels on stdout, or nothing if it is damaged."""
    warnings.simplefilter("ignore")
    try:
        pixels = _unpack(sys.stdin.buffer.read())
    except UnreadableImageError:
        return
    sys.stdout.buffer.write(np.ascontiguousarray(pixels).tobytes())
    sys.stdout.buffer.flush()


def _damaged(detail: str) -> UnreadableImageError:
    return UnreadableImageError(RejectReason.UNREADABLE, f"damaged compressed image: {detail}")
