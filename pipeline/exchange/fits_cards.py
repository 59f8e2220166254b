"""Write FITS headers and images (FITS 4.0): a header is its cards, each number in full.

astropy would do, twenty times slower and with the last digits of small numbers cut off.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Keyword, value, comment.
type Card = tuple[str, bool | int | float | str, str]

_BLOCK, _CARD = 2880, 80
_BITPIX = {"f4": -32, "i2": 16}


def primary_hdu(cards: Sequence[Card]) -> bytes:
    """Primary HDU without pixels."""
    first: list[Card] = [
        ("SIMPLE", True, "FITS 4.0"),
        ("BITPIX", 8, ""),
        ("NAXIS", 0, ""),
        ("EXTEND", True, ""),
    ]
    return _header([*first, *cards])


def image_hdu(name: str, pixels: NDArray[Any], cards: Sequence[Card]) -> bytes:
    """Image extension of float32 or int16 pixels, with the checksum of its data.

    Parameters
    ----------
    name : str
        EXTNAME.
    pixels : NDArray
        Last axis first in FITS.
    cards : sequence of Card
    """
    code = pixels.dtype.str[1:]
    data = _padded(np.ascontiguousarray(pixels, f">{code}").tobytes(), b"\0")
    axes: list[Card] = [(f"NAXIS{i}", n, "") for i, n in enumerate(pixels.shape[::-1], start=1)]
    first: list[Card] = [
        ("XTENSION", "IMAGE", ""),
        ("BITPIX", _BITPIX[code], ""),
        ("NAXIS", pixels.ndim, ""),
        *axes,
        ("PCOUNT", 0, ""),
        ("GCOUNT", 1, ""),
        ("EXTNAME", name, ""),
    ]
    return _header([*first, *cards, ("DATASUM", str(_data_sum(data)), "of the data")]) + data


def card(keyword: str, value: bool | int | float | str, comment: str) -> str:
    """One card of eighty characters; the comment is cut where it does not fit.

    Keywords of more than eight characters, or of two words, follow the HIERARCH convention.
    """
    if isinstance(value, bool):
        text = f"{'T' if value else 'F':>20}"
    elif isinstance(value, str):
        text = f"'{_quoted(value):<8}'"
    else:
        text = f"{str(value).upper():>20}"
    is_plain = len(keyword) <= 8 and " " not in keyword
    start = f"{keyword:<8}= " if is_plain else f"HIERARCH {keyword} = "
    about = f" / {_ascii(comment)}" if comment else ""
    whole = f"{start}{text if is_plain else text.strip()}{about}"
    return f"{whole[:_CARD]:<{_CARD}}"


def _header(cards: Sequence[Card]) -> bytes:
    text = "".join(card(*item) for item in cards) + f"{'END':<{_CARD}}"
    return _padded(text.encode("ascii"), b" ")


def _padded(content: bytes, fill: bytes) -> bytes:
    return content + fill * (-len(content) % _BLOCK)


def _quoted(text: str) -> str:
    """Text inside quotes, cut to one card; a quote is written twice."""
    plain = _ascii(text)
    while len(plain.replace("'", "''")) > _CARD - 13:
        plain = plain[:-1]
    return plain.replace("'", "''")


def _ascii(text: str) -> str:
    return "".join(c if 32 <= ord(c) < 127 else "?" for c in text)


def _data_sum(data: bytes) -> int:
    """Ones' complement sum of 32-bit words (FITS 4.0, appendix J)."""
    total = int(np.frombuffer(data, ">u4").sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total
