"""Decode the pixels of one HDU: scaling, blanks, tiles, or a section of an image on disk."""

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.fits_tiles import unpack_tiles
from pipeline.inference.fits_walk import BLOCK, CARD, DTYPES, Content, Hdu
from pipeline.inference.images import MAX_PIXELS, RejectReason, UnreadableImageError

#: Larger numbers than this are damage in any unit, and would overflow what follows.
_MAX_VALUE = 1e100


def decode(item: Hdu, content: Content) -> NDArray[np.float64]:
    """Physical values of a whole image in memory, NaN where there is none; (H, W) or (P, H, W)."""
    if item.is_compressed:
        return _picture(_decode_compressed(item, content))
    dtype = np.dtype(_dtype(item))
    stop = item.data_start + math.prod(item.shape) * dtype.itemsize
    stored = np.frombuffer(content[item.data_start : stop], dtype).reshape(item.shape)
    return _picture(_physical(item, stored))


def decode_section(
    item: Hdu, content: Content, plane: int, rows: slice, columns: slice
) -> NDArray[np.float64]:
    """Physical values of a part of an uncompressed image, reading only the rows it lies in."""
    height, width = item.shape[-2:]
    dtype = np.dtype(_dtype(item))
    first = item.data_start + (plane * height + rows.start) * width * dtype.itemsize
    size = (rows.stop - rows.start) * width * dtype.itemsize
    stored = np.frombuffer(content[first : first + size], dtype)
    return _physical(item, stored.reshape(-1, width)[:, columns])


def checksum_holds(item: Hdu, content: bytes) -> bool:
    """Whether DATASUM (FITS 4.0, appendix J), if there is one, fits the data."""
    stated = item.cards.text("DATASUM")
    if stated is None or not stated.strip().isdecimal():
        return True
    data = content[item.data_start : item.end]
    data += bytes(-len(data) % BLOCK)
    total = int(np.frombuffer(data, dtype=">u4").sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total == int(stated)


def _dtype(item: Hdu) -> str:
    return DTYPES[item.cards.integer("BITPIX", 8) or 8]


def _physical(item: Hdu, stored: np.ndarray) -> NDArray[np.float64]:
    scale, zero = item.cards.number("BSCALE", 1.0), item.cards.number("BZERO", 0.0)
    if scale is None or zero is None or scale == 0:
        raise _reject(RejectReason.UNREADABLE, "bad header: BSCALE or BZERO is no usable number")
    with np.errstate(over="ignore", invalid="ignore"):
        pixels = stored.astype(np.float64)
        if (scale, zero) != (1.0, 0.0):
            pixels = pixels * scale + zero
    blank = item.cards.integer("BLANK")
    if stored.dtype.kind in "iu" and blank is not None:
        pixels[stored == blank] = np.nan
    return _without_damage(pixels)


def _without_damage(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    pixels[~(np.abs(pixels) < _MAX_VALUE)] = np.nan
    return pixels


def _decode_compressed(item: Hdu, content: Content) -> NDArray[np.float64]:
    tile = [item.cards.integer(f"ZTILE{i + 1}", 1) or 0 for i in range(len(item.shape))]
    if min(tile) < 1 or math.prod(tile) > MAX_PIXELS:
        raise _reject(RejectReason.UNREADABLE, f"bad header: compressed tiles of {tile} pixels")
    alone = _empty_primary() + content[item.start : item.end]
    alone += bytes(-len(alone) % BLOCK)
    algorithm = (item.cards.text("ZCMPTYPE") or "").strip().upper()
    pixels = unpack_tiles(alone, algorithm, item.shape)
    return _without_damage(pixels)


def _empty_primary() -> bytes:
    cards = ("SIMPLE  =                    T", "BITPIX  =                    8",
             "NAXIS   =                    0", "EXTEND  =                    T", "END")  # fmt: skip
    return "".join(card.ljust(CARD) for card in cards).ljust(BLOCK).encode("ascii")


def _picture(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Drop degenerate axes in front of the last two; they carry nothing."""
    if pixels.ndim < 2:
        raise _reject(RejectReason.WRONG_SHAPE, "one axis, no picture")
    planes = tuple(n for n in pixels.shape[:-2] if n != 1)
    if len(planes) > 1:
        raise _reject(RejectReason.WRONG_SHAPE, f"{pixels.shape} is not one picture")
    return pixels.reshape(*planes, *pixels.shape[-2:])


def _reject(reason: RejectReason, detail: str) -> UnreadableImageError:
    return UnreadableImageError(reason, detail)
