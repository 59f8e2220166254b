"""Read one FITS file: the picture in it with what its header says, or the reason why not.

The structure is read strictly after the FITS standard 4.0 (Pence et al. 2010, A&A 524, A42, and its
successors): sizes claimed by a header are compared with the bytes that are there before anything is
allocated. astropy parses the cards and unpacks compressed tiles.
"""

import bz2
import gzip
import hashlib
import io
import os
import stat
import warnings
import zlib
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pipeline.inference.photometry import Photometry
    from pipeline.inference.pointing import Pointing

#: Largest file, packed or unpacked, that is read into memory.
MAX_BYTES = 128 * 2**20
#: Largest image, all planes together; a survey tile is no cut-out.
MAX_PIXELS = 2048 * 2048


class RejectReason(StrEnum):
    """Why a file has no score; the values are the words of the scores table."""

    UNREADABLE = "unreadable"
    NO_IMAGE = "no_image"
    AMBIGUOUS_IMAGE = "ambiguous_image"
    WRONG_SHAPE = "wrong_shape"
    TOO_SMALL = "too_small"
    TOO_LARGE = "too_large"
    MISSING_BAND = "missing_band"
    MISSING_PIXEL_SCALE = "missing_pixel_scale"
    PIXEL_SCALE_MISMATCH = "pixel_scale_mismatch"
    UNKNOWN_UNIT = "unknown_unit"
    NOT_FINITE = "not_finite"
    BLANK = "blank"
    OUTSIDE = "outside"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"


@dataclass(frozen=True)
class Rejection:
    """Why a file cannot be scored: the word for the table, and a sentence for the person."""

    reason: RejectReason
    detail: str


@dataclass(frozen=True)
class RawImage:
    """The picture of one file as stored; nothing is rescaled, turned or filled.

    Attributes
    ----------
    data : NDArray, shape (P, H, W), float64
        Physical values in the file's own unit; NaN marks every pixel without a value. ``P`` is 1
        unless the file holds a cube.
    hdu : str
        Name (``EXTNAME``) of the HDU that was taken, or its number where it has none.
    pixel_scale : float or None, arcsec
        None where the header does not say.
    unit, band : str or None
        ``BUNIT`` and ``FILTER``, verbatim; of a cube the band that was taken.
    flags : tuple of str
        What a reader of the score should know: ``hdu_choice`` (other images were there),
        ``companion`` (named like a noise map or PSF), ``bad_header``, ``checksum``,
        ``truncated_file`` (damage behind the picture), ``anisotropic_pixels``, ``masked`` (pixels
        left out that a mask, weight or error map calls bad), ``mask_ignored`` (such a map leaves
        next to nothing).
    pointing : Pointing or None
        Where the pixels lie on the sky.
    photometry : Photometry
        AB magnitude of one unit.
    psf_fwhm : float or None, arcsec
        Of a PSF extension or a header keyword.
    offset : tuple of int
        Column and row of the first pixel in the image that ``data`` is a section of.
    """

    data: NDArray[np.float64]
    hdu: str
    pixel_scale: float | None
    unit: str | None
    band: str | None
    flags: tuple[str, ...] = ()
    pointing: "Pointing | None" = None
    photometry: "Photometry | None" = None
    psf_fwhm: float | None = None
    offset: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class ReadOptions:
    """What a user may ask for instead of what the files say.

    Attributes
    ----------
    hdu : str or None
        EXTNAME, ``NAME,VERSION`` or number of the HDU to take.
    band : str or None
        Plane of a cube (number from 1, or a name in FILTER), or HDU of a band.
    center : str
        ``middle`` of the image, its ``peak``, or ``X,Y``: a pixel counted from 1.
    masks : bool
        Whether DQ, weight and error maps beside an image blank its pixels.
    lens_light : str
        ``keep``, or ``subtract`` a smooth elliptical model of it.
    orient : str
        ``stored`` pixels, or turned and mirrored by quarter turns to ``north`` up, east left.
    explain : bool
        Keep every step of the preparation with its numbers.
    """

    hdu: str | None = None
    band: str | None = None
    center: str = "middle"
    masks: bool = True
    lens_light: Literal["keep", "subtract"] = "keep"
    orient: Literal["stored", "north"] = "stored"
    explain: bool = False


class UnreadableImageError(Exception):
    """Raised inside this package to leave a file; never crosses its border."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(detail)
        self.rejection = Rejection(reason, detail)


def read_image(
    path: Path,
    *,
    hdu: str | None = None,
    bands: tuple[str, ...] = (),
    options: ReadOptions | None = None,
) -> tuple[RawImage | Rejection, str | None]:
    """Read the picture in ``path``.

    Parameters
    ----------
    path : Path
    hdu : str, optional
        Take this HDU (EXTNAME, ``NAME,VERSION`` or number) instead of choosing by name.
    bands : tuple of str
        Bands of the checkpoint; they decide between several science images of one file.
    options : ReadOptions, optional
        Everything that can be asked for, ``hdu`` included.

    Returns
    -------
    image : RawImage or Rejection
    sha256 : str or None
        Of the file's bytes as stored; None if they could not be read.
    """
    from astropy.utils.exceptions import AstropyWarning  # type: ignore[import-untyped]

    from pipeline.inference.fits_structure import select_image

    sha256 = None
    try:
        stored = read_bytes(path)
        sha256 = hashlib.sha256(stored).hexdigest()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)  # each oddity becomes a flag instead
            image = select_image(_unpack(stored), options or ReadOptions(hdu=hdu), bands)
    except UnreadableImageError as error:
        return error.rejection, sha256
    return _named_like_companion(image, path), sha256


def read_bytes(path: Path) -> bytes:
    """Bytes of a regular file of bounded size; never waits for a pipe or a device."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _unreadable("is not a regular file")
        if status.st_size > MAX_BYTES:
            raise UnreadableImageError(
                RejectReason.TOO_LARGE,
                f"file of {status.st_size / 2**20:.0f} MiB; up to {MAX_BYTES // 2**20} are read",
            )
        # O_NONBLOCK: should the path have become a pipe since, opening it must not wait
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as stream:
            content = stream.read(status.st_size + 1)
    except OSError as error:
        raise _unreadable(error.strerror or str(error)) from error
    except ValueError as error:  # a null byte in the name
        raise _unreadable(str(error)) from error
    return content


def _unpack(stored: bytes) -> bytes:
    if not stored:
        raise _unreadable("empty file")
    if stored[:2] == b"\x1f\x8b":
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=io.BytesIO(stored)))
    elif stored[:3] == b"BZh":
        stream = cast(BinaryIO, bz2.BZ2File(io.BytesIO(stored)))
    else:
        return stored
    content = bytearray()
    try:
        while len(content) <= MAX_BYTES and (chunk := stream.read(2**20)):
            content += chunk
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise _unreadable(f"truncated or damaged compressed stream: {error}") from error
    if len(content) > MAX_BYTES:
        raise UnreadableImageError(
            RejectReason.TOO_LARGE, f"unpacks to more than {MAX_BYTES // 2**20} MiB"
        )
    return bytes(content)


def _unreadable(detail: str) -> UnreadableImageError:
    return UnreadableImageError(RejectReason.UNREADABLE, detail)


#: Last words of file names that lie beside images and are none, e.g. ``m31_psf.fits``.
_COMPANION_ENDINGS = (
    "psf", "rms", "noise_map", "noisemap", "err", "error", "sigma", "var", "variance",
    "ivar", "wht", "weight", "weights", "mask", "dq", "flag", "flags", "seg", "segmap",
)  # fmt: skip


def _named_like_companion(image: RawImage, path: Path) -> RawImage:
    if not image.hdu.isdecimal():
        return image  # the HDU is named, and the name was judged
    stem = path.name.lower().split(".fi")[0].split(".ft")[0].replace("-", "_")
    if any(stem == word or stem.endswith(f"_{word}") for word in _COMPANION_ENDINGS):
        return replace(image, flags=(*image.flags, "companion"))
    return image
