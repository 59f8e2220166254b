"""Walk the HDUs of a FITS file, in memory or on disk, believing no size that a header claims.

Structure follows FITS 4.0, sections 3 and 4.4. ``content`` is anything that gives bytes by slice
and knows its length: a whole file in memory, or :class:`FileBytes`, which reads what is asked for.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from pipeline.inference.fits_header import Cards
from pipeline.inference.images import RejectReason, UnreadableImageError

BLOCK = 2880
CARD = 80
#: numpy types of the values of BITPIX.
DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
#: Longest header that is believed: 14 400 cards (drizzled images have under 2000).
_MAX_HEADER_BLOCKS = 400
_MAX_HDUS = 500
_UNNAMED = ("", "COMPRESSED_IMAGE")


class Content(Protocol):
    """Bytes of a file."""

    def __len__(self) -> int:
        """Size of the file."""

    def __getitem__(self, part: slice, /) -> bytes:
        """Bytes of a range."""


class FileBytes:
    """Bytes of an open file, read where they are asked for; nothing is kept.

    Parameters
    ----------
    descriptor : int
        Of a regular file; closing it is the caller's.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    def __len__(self) -> int:
        """Size of the file."""
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        """Bytes of a range."""
        start, stop, _ = part.indices(self._size)
        return os.pread(self._descriptor, max(stop - start, 0), start)


@dataclass(frozen=True)
class Hdu:
    """One header and where its data lie."""

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
        return self.data_start + -(-self.data_size // BLOCK) * BLOCK

    @property
    def extname(self) -> str:
        """EXTNAME in capitals, empty where it says nothing."""
        name = (self.cards.text("EXTNAME") or "").strip().upper()
        return "" if name in _UNNAMED else name

    @property
    def label(self) -> str:
        """Name for people: EXTNAME with its version, or the number."""
        version = self.cards.integer("EXTVER")
        suffix = f",{version}" if version is not None and version > 1 else ""
        return f"{self.extname}{suffix}" if self.extname else str(self.index)

    @property
    def squeezed(self) -> tuple[int, ...]:
        """Shape without axes of length one."""
        return tuple(n for n in self.shape if n != 1)


def walk(content: Content) -> Iterator[Hdu]:
    """HDUs one by one; raises where a header is damaged or cut off."""
    position = 0
    for index in range(_MAX_HDUS):
        if index and content[position : position + 8] != b"XTENSION":
            return
        end = _header_end(content, position)
        cards = Cards(content[position:end])
        shape, size, is_compressed = _geometry(cards, is_primary=index == 0)
        item = Hdu(
            index=index,
            start=position,
            data_start=position + -(-(end - position) // BLOCK) * BLOCK,
            data_size=size,
            cards=cards,
            shape=shape,
            is_compressed=is_compressed,
        )
        yield item
        position = item.end


def _header_end(content: Content, start: int) -> int:
    stop = min(len(content), start + _MAX_HEADER_BLOCKS * BLOCK)
    for position in range(start, stop, BLOCK):
        block = content[position : position + BLOCK]
        for offset in range(0, len(block) - 2, CARD):
            card = block[offset : offset + 8]
            if card.startswith(b"END") and not card[3:].strip():
                return position + offset + CARD
    raise _reject(RejectReason.UNREADABLE, f"truncated: the header at byte {start} has no END card")


def _geometry(cards: Cards, *, is_primary: bool) -> tuple[tuple[int, ...], int, bool]:
    """Shape (numpy order), bytes of data, and whether the image is tile-compressed."""
    bitpix, n_axes = cards.integer("BITPIX"), cards.integer("NAXIS")
    if bitpix not in DTYPES or n_axes is None or not 0 <= n_axes <= 999:
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


def _reject(reason: RejectReason, detail: str) -> UnreadableImageError:
    return UnreadableImageError(reason, detail)
