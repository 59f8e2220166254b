"""Cut-outs around the positions of a catalogue, read from mosaics section by section.

Positions go through the whole WCS of a mosaic, SIP and other distortions included; of a mosaic only
the rows of a cut-out are read, so that its size does not matter.
"""

import hashlib
import math
import os
import stat
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import ScoringError
from pipeline.inference.fits_choice import choose
from pipeline.inference.fits_decode import decode_section
from pipeline.inference.fits_header import header_pixel_scale
from pipeline.inference.fits_structure import describe_image, mask_bad_pixels, read_structure
from pipeline.inference.fits_tiles import unpack_section
from pipeline.inference.fits_walk import FileBytes, Hdu
from pipeline.inference.images import (
    RawImage,
    ReadOptions,
    Rejection,
    RejectReason,
    UnreadableImageError,
)
from pipeline.inference.search import Found, printable
from pipeline.inference.sky_catalogue import SkyCatalogue
from pipeline.inference.stacks import Part
from pipeline.inference.target import Target

#: Pixels read beyond the field of a network on each side, for resampling.
_MARGIN = 8


@dataclass(frozen=True)
class _Mosaic:
    """An open mosaic: its bytes, and the HDU that holds the sky."""

    content: FileBytes
    hdus: list[Hdu]
    chosen: Hdu
    flags: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.chosen.shape[-2], self.chosen.shape[-1]


def find_cutouts(
    catalogue: SkyCatalogue, mosaics: Sequence[Found], bands: tuple[str, ...], options: ReadOptions
) -> list[Found]:
    """One item for each line of a catalogue, in its order.

    A line that several mosaics cover goes to the one in which it lies farthest from the edge; one
    that none covers is there with its reason.

    Raises
    ------
    ScoringError
        If no mosaic can be used.
    """
    n_lines = len(catalogue.ra)
    margin, owner = np.full(n_lines, -np.inf), np.full(n_lines, -1)
    position = np.full((2, n_lines), np.nan)
    faults = []
    for k, item in enumerate(mosaics):
        try:
            if item.problem is not None:
                raise UnreadableImageError(item.problem.reason, item.problem.detail)
            x, y, inside = _pixels(item.path, catalogue, bands, options)
        except UnreadableImageError as error:
            faults.append(f"{item.name}: {error}")
            continue
        better = inside > margin
        margin[better], owner[better] = inside[better], k
        position[:, better] = x[better], y[better]
    if len(faults) == len(mosaics):
        raise ScoringError(f"no mosaic can be used: {'; '.join(faults[:3])}")
    found = []
    for line, name in enumerate(catalogue.names):
        problem = None
        if not math.isfinite(margin[line]):
            problem = Rejection(RejectReason.OUTSIDE, catalogue.where(line))
        item = mosaics[max(int(owner[line]), 0)]
        part = Part(line, x=float(position[0, line]), y=float(position[1, line]))
        shown = f"{item.name if problem is None else catalogue.path.name}#{printable(name)}"
        found.append(Found(item.path, shown, problem, part, line))
    return found


def _pixels(
    path: Path, catalogue: SkyCatalogue, bands: tuple[str, ...], options: ReadOptions
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Pixel of every position, and its distance to the edge; -inf outside."""
    from astropy.io.fits.verify import VerifyError  # type: ignore[import-untyped]
    from astropy.wcs import WCS, NoConvergence  # type: ignore[import-untyped]

    unusable = (
        ValueError, KeyError, AssertionError, TypeError, MemoryError, IndexError, VerifyError,
        NoConvergence,
    )  # fmt: skip

    mosaic = _open(path, bands, options)
    height, width = mosaic.shape
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            wcs = WCS(mosaic.chosen.cards.header, naxis=2)
            if not wcs.has_celestial:
                raise _reject(RejectReason.MISSING_PIXEL_SCALE, "no celestial WCS")
            ra, dec = wcs.all_pix2world([(width - 1) / 2], [(height - 1) / 2], 0)
            near = _separation(catalogue, float(ra[0]), float(dec[0])) < _reach(mosaic)
            x, y = np.full((2, len(near)), np.nan)
            if near.any():
                x[near], y[near] = wcs.all_world2pix(
                    catalogue.ra[near], catalogue.dec[near], 0, quiet=True
                )
    except unusable as error:
        raise _reject(RejectReason.UNREADABLE, f"unusable WCS: {error}") from error
    edge = np.minimum(np.minimum(x + 0.5, width - 0.5 - x), np.minimum(y + 0.5, height - 0.5 - y))
    return x, y, np.where(edge > 0, edge, -np.inf)


def _separation(catalogue: SkyCatalogue, ra: float, dec: float) -> NDArray[np.float64]:
    """Angle from (ra, dec), degrees (haversine)."""
    lat, lat0 = np.radians(catalogue.dec), math.radians(dec)
    hav = (
        np.sin((lat - lat0) / 2) ** 2
        + np.cos(lat) * math.cos(lat0) * np.sin(np.radians(catalogue.ra - ra) / 2) ** 2
    )
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(np.clip(hav, 0, 1)))))


def _reach(mosaic: _Mosaic) -> float:
    """Distance (degrees) beyond which nothing can lie in a mosaic; generous for distortions."""
    scale = header_pixel_scale(mosaic.chosen.cards, mosaic.hdus[0].cards).arcsec
    if scale is None:
        raise _reject(RejectReason.MISSING_PIXEL_SCALE, "its WCS has no usable scale")
    return min(80.0, 1.2 * scale / 3600 * math.hypot(*mosaic.shape))


def read_cutout(
    path: Path, part: Part, target: Target, options: ReadOptions
) -> tuple[RawImage | Rejection, ReadOptions, str | None]:
    """One cut-out, the options with its centre in it, and the SHA-256 of its pixels."""
    try:
        mosaic = _open(path, target.bands, options)
        raw, centre = _cut(path, mosaic, part, target, options)
    except UnreadableImageError as error:
        return error.rejection, options, None
    except OSError as error:
        return Rejection(RejectReason.UNREADABLE, error.strerror or str(error)), options, None
    digest = hashlib.sha256(np.ascontiguousarray(raw.data).tobytes()).hexdigest()
    return raw, replace(options, center=centre), digest


def _cut(
    path: Path, mosaic: _Mosaic, part: Part, target: Target, options: ReadOptions
) -> tuple[RawImage, str]:
    assert part.x is not None and part.y is not None
    scale = header_pixel_scale(mosaic.chosen.cards, mosaic.hdus[0].cards).arcsec
    field = target.size * target.pixel_scale / (scale or target.pixel_scale)
    half = math.ceil(min(field, 2048) / 2) + _MARGIN
    height, width = mosaic.shape
    x, y = round(part.x), round(part.y)
    rows = slice(max(0, y - half), min(height, y + half + 1))
    columns = slice(max(0, x - half), min(width, x + half + 1))
    data = _read(path, mosaic, mosaic.chosen, rows, columns)[None]
    flags = list(mosaic.flags)
    if options.masks:
        flags += mask_bad_pixels(
            data, mosaic.chosen, mosaic.hdus,
            lambda item: _read(path, mosaic, item, rows, columns),
        )  # fmt: skip
    raw = describe_image(
        data, mosaic.chosen, mosaic.hdus, mosaic.content, options, flags,
        offset=(columns.start, rows.start),
    )  # fmt: skip
    return raw, f"{part.x - columns.start + 1},{part.y - rows.start + 1}"


def _read(
    path: Path, mosaic: _Mosaic, item: Hdu, rows: slice, columns: slice
) -> NDArray[np.float64]:
    if item.is_compressed:
        algorithm = (item.cards.text("ZCMPTYPE") or "").strip().upper()
        return unpack_section(path, item.index, algorithm, rows, columns)
    return decode_section(item, mosaic.content, 0, rows, columns)


@lru_cache(maxsize=8)
def _open(path: Path, bands: tuple[str, ...], options: ReadOptions) -> _Mosaic:
    """Open a mosaic; the few that are open last as long as the process."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _reject(RejectReason.UNREADABLE, "is not a regular file")
    except OSError as error:
        raise _reject(RejectReason.UNREADABLE, error.strerror or str(error)) from error
    content = FileBytes(descriptor)
    if content[0:2] in (b"\x1f\x8b", b"BZ"):
        os.close(descriptor)
        raise _reject(
            RejectReason.UNREADABLE, "sections of a packed file cannot be read; unpack it first"
        )
    try:
        hdus, flags = read_structure(content)
        chosen, was_choice = choose(hdus, options.hdu, bands, options.band)
        if len(chosen.squeezed) != 2:
            raise _reject(RejectReason.WRONG_SHAPE, f"HDU {chosen.label} is no plane")
        if chosen.data_start + chosen.data_size > len(content):
            raise _reject(RejectReason.UNREADABLE, f"truncated: HDU {chosen.label} is cut off")
    except UnreadableImageError:
        os.close(descriptor)
        raise
    return _Mosaic(content, hdus, chosen, (*flags, *(("hdu_choice",) * was_choice)))


def _reject(reason: RejectReason, detail: str) -> UnreadableImageError:
    return UnreadableImageError(reason, detail)
