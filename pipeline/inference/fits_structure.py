"""Walk the HDUs of a FITS file in memory, choose the science image by name and decode it.

Structure and scaling follow FITS 4.0, sections 3 and 4.4. Names decide, never position alone: an
error map that comes first is not the picture.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.fits_header import Cards, header_pixel_scale
from pipeline.inference.fits_tiles import unpack_tiles
from pipeline.inference.images import (
    MAX_PIXELS,
    RawImage,
    RejectReason,
    UnreadableImageError,
)

_BLOCK = 2880
_CARD = 80
#: Longest header that is believed: 14 400 cards (drizzled images have under 2000).
_MAX_HEADER_BLOCKS = 400
_MAX_HDUS = 500
_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
#: Larger numbers than this are damage in any unit, and would overflow what follows.
_MAX_VALUE = 1e100
#: Words of an EXTNAME that say the image is not the sky.
_AUXILIARY = frozenset(
    "ERR ERROR ERRORS DQ WHT WEIGHT WEIGHTS PSF RMS VAR VARIANCE IVAR INVVAR SIGMA STD STDDEV "
    "NOISE UNC UNCERT UNCERTAINTY MASK FLAG FLAGS BKG BACKGROUND SKY MODEL EXPTIME TIME COV "
    "COVERAGE CON CTX CONTEXT SEG SEGM SEGMENTATION QUALITY SAMP NPIX HITS AREA WMAP KERNEL "
    "WCSDVARR D2IMARR WAVELENGTH LAMBDA SPECTRUM".split()
)
#: EXTNAMEs that say the image is the picture, best first.
_SCIENCE = (("SCI", "SCIENCE"), ("IMAGE", "IMG", "DATA", "BGSUB", "PRIMARY", "VIS"))
_UNNAMED = ("", "COMPRESSED_IMAGE")


@dataclass(frozen=True)
class _Hdu:
    index: int
    start: int
    data_start: int
    data_size: int
    cards: Cards
    shape: tuple[int, ...]  # numpy order, degenerate axes kept; () without pixels
    is_compressed: bool

    @property
    def end(self) -> int:
        """Offset behind the padded data."""
        return self.data_start + -(-self.data_size // _BLOCK) * _BLOCK

    @property
    def extname(self) -> str:
        name = (self.cards.text("EXTNAME") or "").strip().upper()
        return "" if name in _UNNAMED else name

    @property
    def label(self) -> str:
        version = self.cards.integer("EXTVER")
        suffix = f",{version}" if version is not None and version > 1 else ""
        return f"{self.extname}{suffix}" if self.extname else str(self.index)

    @property
    def squeezed(self) -> tuple[int, ...]:
        return tuple(n for n in self.shape if n != 1)


def select_image(content: bytes, *, hdu: str | None, bands: tuple[str, ...]) -> RawImage:
    """Choose and decode the science image of a whole, unpacked FITS file.

    Parameters
    ----------
    content : bytes
    hdu : str or None
        Name or number asked for, if any.
    bands : tuple of str

    Returns
    -------
    RawImage

    Raises
    ------
    UnreadableImageError
        With the rejection that belongs in the table.
    """
    if not content.startswith(b"SIMPLE  ="):
        raise _reject(RejectReason.UNREADABLE, f"not a FITS file: starts with {content[:16]!r}")
    hdus: list[_Hdu] = []
    flags: list[str] = []
    try:
        for item in _walk(content):
            hdus.append(item)
    except UnreadableImageError:
        if not hdus:
            raise
        flags.append("truncated_file")
    chosen, was_choice = _choose(hdus, hdu, bands)
    flags += ["hdu_choice"] * was_choice
    _check_size(chosen, len(content))
    if hdus[-1].data_start + hdus[-1].data_size > len(content):
        flags.append("truncated_file")
    if not _checksum_holds(chosen, content):
        flags.append("checksum")
    pixels = (
        _decode_compressed(chosen, content) if chosen.is_compressed else _decode(chosen, content)
    )
    scale = header_pixel_scale(chosen.cards, hdus[0].cards)
    flags += scale.flags
    return RawImage(
        data=pixels.reshape(-1, *pixels.shape[-2:]),
        hdu=chosen.label,
        pixel_scale=scale.arcsec,
        unit=chosen.cards.text("BUNIT") or hdus[0].cards.text("BUNIT"),
        band=chosen.cards.text("FILTER") or hdus[0].cards.text("FILTER"),
        flags=tuple(dict.fromkeys(flags)),
    )


def _walk(content: bytes) -> Iterator[_Hdu]:
    position = 0
    for index in range(_MAX_HDUS):
        if index and content[position : position + 8] != b"XTENSION":
            return
        end = _header_end(content, position)
        cards = Cards.parse(content[position:end])
        shape, size, is_compressed = _geometry(cards, is_primary=index == 0)
        item = _Hdu(
            index=index,
            start=position,
            data_start=position + -(-(end - position) // _BLOCK) * _BLOCK,
            data_size=size,
            cards=cards,
            shape=shape,
            is_compressed=is_compressed,
        )
        yield item
        position = item.end


def _header_end(content: bytes, start: int) -> int:
    stop = min(len(content), start + _MAX_HEADER_BLOCKS * _BLOCK)
    for position in range(start, stop - 2, _CARD):
        if (
            content[position : position + 3] == b"END"
            and not content[position + 3 : position + 8].strip()
        ):
            return position + _CARD
    raise _reject(RejectReason.UNREADABLE, f"truncated: the header at byte {start} has no END card")


def _geometry(cards: Cards, *, is_primary: bool) -> tuple[tuple[int, ...], int, bool]:
    """Shape (numpy order), bytes of data, and whether the image is tile-compressed."""
    bitpix, n_axes = cards.integer("BITPIX"), cards.integer("NAXIS")
    if bitpix not in _DTYPES or n_axes is None or not 0 <= n_axes <= 999:
        raise _reject(
            RejectReason.UNREADABLE, f"bad header: BITPIX={bitpix}, NAXIS={n_axes} is no FITS array"
        )
    axes = _axes(cards, "NAXIS", n_axes)
    n_values = math.prod(axes) if axes else 0
    pcount = cards.integer("PCOUNT", 0) or 0
    gcount = cards.integer("GCOUNT", 1)
    gcount = 1 if gcount is None else gcount
    if pcount < 0 or gcount < 0:
        raise _reject(RejectReason.UNREADABLE, f"bad header: PCOUNT={pcount}, GCOUNT={gcount}")
    size = abs(bitpix) // 8 * (gcount * (pcount + n_values) if not is_primary else n_values)
    kind = (cards.text("XTENSION") or "").strip()
    if cards.value("ZIMAGE") is True and kind == "BINTABLE":
        n_axes = cards.integer("ZNAXIS") or 0
        return _axes(cards, "ZNAXIS", min(max(n_axes, 0), 999)), size, True
    is_image = (is_primary or kind in ("IMAGE", "IUEIMAGE")) and n_values > 0
    return axes if is_image else (), size, False


def _axes(cards: Cards, keyword: str, n_axes: int) -> tuple[int, ...]:
    axes = []
    for i in range(n_axes, 0, -1):
        length = cards.integer(f"{keyword}{i}")
        if length is None or length < 0:
            raise _reject(RejectReason.UNREADABLE, f"bad header: {keyword}{i} is {length}")
        axes.append(length)
    return tuple(axes)


def _choose(hdus: list[_Hdu], wanted: str | None, bands: tuple[str, ...]) -> tuple[_Hdu, bool]:
    images = [item for item in hdus if item.shape]
    if wanted is not None:
        for item in images:
            if wanted.upper() in (item.extname, item.label, str(item.index)):
                return item, False
        raise _reject(
            RejectReason.NO_IMAGE,
            f"no image HDU {wanted!r}; there are {', '.join(i.label for i in images) or 'none'}",
        )
    if not images:
        raise _reject(RejectReason.NO_IMAGE, f"no image in {len(hdus)} HDU(s)")
    sky = [item for item in images if not _is_auxiliary(item)]
    if not sky:
        names = ", ".join(item.label for item in images)
        raise _reject(RejectReason.NO_IMAGE, f"only images that are not the sky: {names}")
    flat = [
        item for item in sky if len(item.squeezed) >= 2 or min(item.shape) == 1 < len(item.shape)
    ]
    if not flat:
        raise _reject(RejectReason.WRONG_SHAPE, f"HDU {sky[0].label} has one axis, no picture")
    best = min(_rank(item) for item in flat)
    leaders = [item for item in flat if _rank(item) == best]
    for band in (*bands, "VIS"):  # VIS: of many bands, the one a lens is best resolved in
        matching = [item for item in leaders if _words(item) & _split(band)]
        if len(leaders) > 1 and len(matching) == 1:
            leaders = matching
    if len(leaders) > 1:
        names = ", ".join(item.label for item in leaders)
        raise _reject(
            RejectReason.AMBIGUOUS_IMAGE, f"several images that could be the one: HDUs {names}"
        )
    return leaders[0], len(flat) > 1


def _words(item: _Hdu) -> set[str]:
    band = item.cards.text("FILTER") or ""
    return _split(f"{item.extname} {band}")


def _split(text: str) -> set[str]:
    return set(re.split(r"[^A-Z0-9]+", text.upper())) - {""}


def _is_auxiliary(item: _Hdu) -> bool:
    words = re.split(r"[^A-Z]+", item.extname)
    return any(word in _AUXILIARY for word in words)


def _rank(item: _Hdu) -> int:
    words = set(re.split(r"[^A-Z]+", item.extname))
    for rank, names in enumerate(_SCIENCE):
        if words & set(names):
            return rank
    return len(_SCIENCE) + (0 if item.index == 0 else 1)


def _check_size(item: _Hdu, n_bytes: int) -> None:
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


def _checksum_holds(item: _Hdu, content: bytes) -> bool:
    """Whether DATASUM (FITS 4.0, appendix J), if there is one, fits the data."""
    stated = item.cards.text("DATASUM")
    if stated is None or not stated.strip().isdecimal():
        return True
    data = content[item.data_start : item.end]
    data += bytes(-len(data) % _BLOCK)
    total = int(np.frombuffer(data, dtype=">u4").sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total == int(stated)


def _decode(item: _Hdu, content: bytes) -> NDArray[np.float64]:
    bitpix = item.cards.integer("BITPIX", 8)
    count = math.prod(item.shape)
    stored = np.frombuffer(content, _DTYPES[bitpix or 8], count, item.data_start).reshape(
        item.shape
    )
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
    pixels[~(np.abs(pixels) < _MAX_VALUE)] = np.nan
    return _picture(pixels)


def _decode_compressed(item: _Hdu, content: bytes) -> NDArray[np.float64]:
    tile = [item.cards.integer(f"ZTILE{i + 1}", 1) or 0 for i in range(len(item.shape))]
    if min(tile) < 1 or math.prod(tile) > MAX_PIXELS:
        raise _reject(RejectReason.UNREADABLE, f"bad header: compressed tiles of {tile} pixels")
    alone = _empty_primary() + content[item.start : item.end]
    alone += bytes(-len(alone) % _BLOCK)
    algorithm = (item.cards.text("ZCMPTYPE") or "").strip().upper()
    pixels = unpack_tiles(alone, algorithm, item.shape)
    pixels[~(np.abs(pixels) < _MAX_VALUE)] = np.nan
    return _picture(pixels)


def _empty_primary() -> bytes:
    cards = ("SIMPLE  =                    T", "BITPIX  =                    8",
             "NAXIS   =                    0", "EXTEND  =                    T", "END")  # fmt: skip
    return "".join(card.ljust(_CARD) for card in cards).ljust(_BLOCK).encode("ascii")


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
