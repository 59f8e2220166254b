"""Take the science image out of a FITS file in memory: pixels, masks, and what its header says."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.fits_choice import choose, choose_bands, companion
from pipeline.inference.fits_decode import checksum_holds, decode
from pipeline.inference.fits_header import header_pixel_scale
from pipeline.inference.fits_walk import Content, Hdu, walk
from pipeline.inference.images import (
    MAX_PIXELS,
    RawImage,
    ReadOptions,
    RejectReason,
    UnreadableImageError,
)
from pipeline.inference.photometry import zero_point
from pipeline.inference.pointing import Pointing
from pipeline.inference.psf_width import header_fwhm, kernel_fwhm

#: An error this many times the median error, or worse, marks a pixel without data.
_HOPELESS = 1e6
#: A mask that leaves less than this is no mask of bad pixels, or says that nothing can be used.
_MIN_GOOD = 0.7


def select_image(content: bytes, options: ReadOptions, bands: tuple[str, ...]) -> RawImage:
    """Choose and decode the science image of a whole, unpacked FITS file.

    Parameters
    ----------
    content : bytes
    options : ReadOptions
        HDU and band asked for, and whether masks count.
    bands : tuple of str
        Of the checkpoint.

    Returns
    -------
    RawImage

    Raises
    ------
    UnreadableImageError
        With the rejection that belongs in the table.
    """
    hdus, flags = read_structure(content)
    several = choose_bands(hdus, bands) if options.hdu is None and len(bands) > 1 else []
    if several:
        chosen, was_choice = several[0], False
    else:
        chosen, was_choice = choose(hdus, options.hdu, bands, options.band)
    flags += ["hdu_choice"] * was_choice
    parts = several or [chosen]
    for item in parts:
        _check_size(item, len(content))
        if not checksum_holds(item, content):
            flags.append("checksum")
    if hdus[-1].data_start + hdus[-1].data_size > len(content):
        flags.append("truncated_file")
    planes = [decode(item, content) for item in parts]
    data = np.stack(planes) if several else planes[0].reshape(-1, *planes[0].shape[-2:])
    if options.masks:
        for k, item in enumerate(parts):
            planes_of = data[k : k + 1] if several else data
            flags += mask_bad_pixels(planes_of, item, hdus, lambda map_: _whole(map_, content))
    return describe_image(data, chosen, hdus, content, options, flags, parts=parts)


def read_structure(content: Content) -> tuple[list[Hdu], list[str]]:
    """HDUs of a file, and ``truncated_file`` where damage behind the first ends the list."""
    start = content[0:16]
    if not start.startswith(b"SIMPLE  ="):
        raise _reject(RejectReason.UNREADABLE, f"not a FITS file: starts with {start!r}")
    hdus: list[Hdu] = []
    try:
        for item in walk(content):
            hdus.append(item)
    except UnreadableImageError:
        if not hdus:
            raise
        return hdus, ["truncated_file"]
    return hdus, []


def describe_image(
    data: NDArray[np.float64],
    chosen: Hdu,
    hdus: list[Hdu],
    content: Content,
    options: ReadOptions,
    flags: list[str],
    *,
    parts: list[Hdu] | None = None,
    offset: tuple[int, int] = (0, 0),
) -> RawImage:
    """Pixels (P, H, W) and what the headers say of them; ``offset`` (x, y) is that of a section."""
    cards, primary = chosen.cards, hdus[0].cards
    scale = header_pixel_scale(cards, primary)
    unit = cards.text("BUNIT") or primary.text("BUNIT")
    names = [item.cards.text("FILTER") or primary.text("FILTER") for item in parts or [chosen]]
    band = ",".join(name for name in names if name) or None
    data, band = _plane(data, band, options.band)
    return RawImage(
        data=data,
        hdu=",".join(item.label for item in parts or [chosen]),
        pixel_scale=scale.arcsec,
        unit=unit,
        band=band,
        flags=tuple(dict.fromkeys((*flags, *scale.flags))),
        pointing=Pointing(cards, offset),
        photometry=zero_point(cards, primary, unit, scale.arcsec),
        psf_fwhm=_psf_fwhm(chosen, hdus, content, scale.arcsec),
        offset=offset,
    )


def _plane(
    data: NDArray[np.float64], names: str | None, wanted: str | None
) -> tuple[NDArray[np.float64], str | None]:
    """The plane of a cube that was asked for, by its number from 1 or its name in FILTER."""
    if wanted is None or len(data) == 1:
        return data, names
    split = [name.strip() for name in (names or "").replace(";", ",").split(",")]
    lowered = [name.lower() for name in split]
    if wanted.lower() in lowered and len(split) == len(data):
        index = lowered.index(wanted.lower())
    elif wanted.isdecimal() and 1 <= int(wanted) <= len(data):
        index = int(wanted) - 1
    else:
        raise _reject(
            RejectReason.MISSING_BAND,
            f"no band {wanted!r} among {len(data)} planes; the header names {names or 'none'}",
        )
    return data[index : index + 1], split[index] if len(split) == len(data) else wanted


def mask_bad_pixels(
    data: NDArray[np.float64],
    chosen: Hdu,
    hdus: list[Hdu],
    read: Callable[[Hdu], NDArray[np.float64]],
) -> list[str]:
    """Blank the pixels that the masks, weights and errors beside an image call bad, in place.

    ``read`` gives the part of a map that belongs to ``data`` (P, H, W). Returns flags.
    """
    flags = []
    bad = np.zeros(data.shape[-2:], bool)
    for role in ("mask", "weight", "error"):
        item = companion(chosen, hdus, role)
        if item is None or len(item.squeezed) != 2:
            continue
        try:
            values = read(item).reshape(bad.shape)
        except UnreadableImageError:
            flags.append("mask_ignored")
            continue
        says_bad = _says_bad(values, role)
        if says_bad.mean() > 1 - _MIN_GOOD:
            flags += ["mask_ignored"] * (role == "mask" or bool((~says_bad).any()))
            continue
        bad |= says_bad
    if bad.any():
        data[:, bad] = np.nan
        flags.append("masked")
    return flags


def _whole(item: Hdu, content: Content) -> NDArray[np.float64]:
    _check_size(item, len(content))
    return decode(item, content)


def _says_bad(values: NDArray[np.float64], role: str) -> NDArray[np.bool_]:
    if role == "mask":
        return np.asarray(~(values == 0))
    if role == "weight":
        return np.asarray(~(values > 0))
    good = values[np.isfinite(values) & (values > 0)]
    limit = _HOPELESS * float(np.median(good)) if good.size else math.inf
    return np.asarray(~((values > 0) & (values < limit)))


def _psf_fwhm(
    chosen: Hdu, hdus: list[Hdu], content: Content, pixel_scale: float | None
) -> float | None:
    """FWHM in arcsec of the PSF extension, else as a header keyword says, else None."""
    item = companion(chosen, hdus, "psf")
    if item is not None and len(item.squeezed) == 2:
        try:
            width = kernel_fwhm(_whole(item, content))
        except UnreadableImageError:
            width = None
        scale = header_pixel_scale(item.cards, item.cards).arcsec or pixel_scale
        if width is not None and scale is not None:
            return width * scale
    return header_fwhm(chosen.cards, hdus[0].cards)


def _check_size(item: Hdu, n_bytes: int) -> None:
    needed = item.data_start + item.data_size
    if needed > n_bytes:
        raise _reject(
            RejectReason.UNREADABLE,
            f"truncated: HDU {item.label} needs {needed} bytes, the file has {n_bytes}",
        )
    shape = " x ".join(str(n) for n in item.shape)
    if len(item.squeezed) > 3:
        raise _reject(RejectReason.WRONG_SHAPE, f"HDU {item.label} is {shape}, not one picture")
    if math.prod(item.shape) > MAX_PIXELS:
        side = int(MAX_PIXELS**0.5)
        raise _reject(
            RejectReason.TOO_LARGE,
            f"HDU {item.label} is {shape} pixels; cut-outs up to {side} x {side} are scored",
        )


def _reject(reason: RejectReason, detail: str) -> UnreadableImageError:
    return UnreadableImageError(reason, detail)
