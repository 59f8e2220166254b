"""Ask a FITS header without trusting it: typed values or nothing, and the pixel scale in arcsec."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

#: Pixel scales outside this are header errors, not telescopes (arcsec).
_SCALE_RANGE = (1e-4, 1e3)
#: Keywords that state a pixel scale in arcsec, for headers without WCS.
_SCALE_KEYWORDS = (
    "PIXSCALE",
    "PIXSCAL1",
    "PIXSCL",
    "PIXELSCL",
    "PIXSIZE",
    "SECPIX",
    "SECPIX1",
    "PSCALE",
)
_ARCSEC = {
    "deg": 3600.0,
    "degree": 3600.0,
    "degrees": 3600.0,
    "arcmin": 60.0,
    "arcsec": 1.0,
    "rad": 206264.80624709636,
}
#: First letters of the CTYPEs of the two sky axes (Calabretta & Greisen 2002, A&A 395, 1077).
_CELESTIAL = (
    "RA--",
    "DEC-",
    "GLON",
    "GLAT",
    "ELON",
    "ELAT",
    "SLON",
    "SLAT",
    "HPLN",
    "HPLT",
    "TLON",
    "TLAT",
)


_CARD = 80
_KEYWORD = re.compile("[A-Z0-9_-]{1,8}")
_COMMENTARY = ("", "COMMENT", "HISTORY")
_SPECIAL = ("CONTINUE", "HIERARCH", "END")
#: What follows the keyword of a plain card: a fixed-format value (FITS 4.0, section 4.2) and
#: perhaps a comment. A string with an ampersand may go on in the next card; one with ": " may be
#: what astropy calls record-valued.
_PLAIN = re.compile(
    r"= (?: {19}(?P<logical>[TF])| *(?P<integer>[+-]?[0-9]{1,18})"
    r"| *(?P<real>[+-]?[0-9]{1,17}(?:\.[0-9]{0,20}(?:E[+-]?[0-9]{1,2})?|E[+-]?[0-9]{1,2}))"
    r"|'(?P<text>(?:[ !-%(-9;-~]|:(?! ))*)') *(?:/[ -~]*)?"
)
_VALUES: dict[str, Callable[[str], object]] = {
    "logical": "T".__eq__,
    "integer": int,
    "real": float,
    "text": str.rstrip,
}


class Cards:
    """Cards of one header; a card that cannot be parsed counts as present and worthless.

    Parameters
    ----------
    source : bytes or astropy.io.fits.Header
        Bytes end with the END card. Where all cards are plain they are read here, much faster than
        by astropy, to the same values.
    """

    def __init__(self, source: Any) -> None:  # astropy's Header carries no types
        self._block = source if isinstance(source, bytes) else b""
        self._values = _plain_values(self._block) if self._block else None
        if not self._block:
            self.header = source
        # most questions are about cards that are not there, which astropy answers slowly
        self._keywords = frozenset(self.header.keys() if self._values is None else self._values)

    @cached_property
    def header(self) -> Any:  # astropy's Header carries no types
        """The header itself, for astropy's own readers."""
        from astropy.io import fits  # type: ignore[import-untyped]

        return fits.Header.fromstring(self._block.decode("ascii", "replace"))

    def __contains__(self, keyword: str) -> bool:
        return keyword in self._keywords

    def value(self, keyword: str) -> object:
        """Value as astropy reads it; None if absent, undefined or unreadable."""
        if keyword not in self._keywords:
            return None
        if self._values is not None:
            return self._values[keyword]
        from astropy.io.fits.verify import VerifyError  # type: ignore[import-untyped]

        try:
            value: object = self.header.get(keyword)
        except (VerifyError, ValueError):
            return None
        return value

    def text(self, keyword: str) -> str | None:
        """Value if it is a non-empty string."""
        value = self.value(keyword)
        return value if isinstance(value, str) and value.strip() else None

    def integer(self, keyword: str, default: int | None = None) -> int | None:
        """Value if it is an integer; ``default`` if absent; None if it is anything else."""
        if keyword not in self:
            return default
        value = self.value(keyword)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def number(self, keyword: str, default: float | None = None) -> float | None:
        """Value if it is a finite number; ``default`` if absent; None if it is anything else."""
        if keyword not in self:
            return default
        value = self.value(keyword)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None


def _plain_values(block: bytes) -> dict[str, object] | None:
    """First value of each keyword; None where a single card is not plain."""
    text = block.decode("ascii", "replace")
    values: dict[str, object] = {}
    for start in range(0, len(text) - _CARD, _CARD):
        keyword = text[start : start + 8].rstrip()
        if keyword in _COMMENTARY:
            values.setdefault(keyword, None)
            continue
        found = _PLAIN.fullmatch(text, start + 8, start + _CARD)
        if not found or not _KEYWORD.fullmatch(keyword) or keyword in _SPECIAL:
            return None
        kind = found.lastgroup or "text"
        values.setdefault(keyword, _VALUES[kind](found[kind]))
    return values


@dataclass(frozen=True)
class PixelScale:
    """Pixel scale in arcsec, None if the header does not say, and what is odd about it."""

    arcsec: float | None
    flags: tuple[str, ...] = ()


def header_pixel_scale(cards: Cards, primary: Cards) -> PixelScale:
    """Pixel scale from the WCS, else from a PIXSCALE-like keyword.

    With A the matrix of pixel to world coordinates (CD, or PC times CDELT, or CDELT; Greisen &
    Calabretta 2002, A&A 395, 1061) the scale is ``sqrt(|det A|)``: the side of a square pixel of
    the same area, whatever its rotation and parity.

    Parameters
    ----------
    cards, primary : Cards
        Header of the picture, and that of the primary HDU for PIXSCALE.

    Returns
    -------
    PixelScale
        ``bad_header`` where a WCS is there but unusable.
    """
    units = _axis_units(cards)
    if units is not None:
        matrix = _matrix(cards)
        if matrix is None:
            return PixelScale(None, ("bad_header",))
        (a, b), (c, d) = matrix
        a, b, c, d = a * units[0], b * units[0], c * units[1], d * units[1]
        scale = math.sqrt(abs(a * d - b * c))
        if not _SCALE_RANGE[0] < scale < _SCALE_RANGE[1]:
            return PixelScale(None, ("bad_header",))
        sides = math.hypot(a, c), math.hypot(b, d)
        is_square = abs(sides[0] - sides[1]) < 0.02 * scale
        return PixelScale(scale, () if is_square else ("anisotropic_pixels",))
    for source in (cards, primary):
        for keyword in _SCALE_KEYWORDS:
            value = source.number(keyword)
            if value is not None and _SCALE_RANGE[0] < abs(value) < _SCALE_RANGE[1]:
                return PixelScale(abs(value))
            if keyword in source:
                return PixelScale(None, ("bad_header",))
    return PixelScale(None)


def linear_wcs(cards: Cards) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Degrees on the sky's plane for a step of one pixel: ((xi/x, xi/y), (eta/x, eta/y)).

    None where the header has no usable celestial WCS.
    """
    units, matrix = _axis_units(cards), _matrix(cards)
    if units is None or matrix is None:
        return None
    (a, b), (c, d) = matrix
    x, y = units[0] / 3600.0, units[1] / 3600.0
    a, b, c, d = a * x, b * x, c * y, d * y
    scale = math.sqrt(abs(a * d - b * c)) * 3600.0
    return ((a, b), (c, d)) if _SCALE_RANGE[0] < scale < _SCALE_RANGE[1] else None


def _rotation(degrees: float, steps: list[float | None]) -> list[float | None]:
    """PC matrix of the older CROTA2 (Calabretta & Greisen 2002, equation 189)."""
    angle = math.radians(degrees)
    ratio = steps[1] / steps[0] if steps[0] and steps[1] else 1.0
    c, s = math.cos(angle), math.sin(angle)
    return [c, -s * ratio, s / ratio, c]


def _axis_units(cards: Cards) -> tuple[float, float] | None:
    """Arcsec per unit of both axes, or None if they are not the sky."""
    types = [cards.text("CTYPE1") or "", cards.text("CTYPE2") or ""]
    if not all(name.upper().startswith(_CELESTIAL) for name in types):
        return None
    units = [(cards.text(f"CUNIT{i}") or "deg").strip().lower() for i in (1, 2)]
    if not all(unit in _ARCSEC for unit in units):
        return None
    return _ARCSEC[units[0]], _ARCSEC[units[1]]


def _matrix(cards: Cards) -> tuple[tuple[float, float], tuple[float, float]] | None:
    keys = ("1_1", "1_2", "2_1", "2_2")
    if any(f"CD{key}" in cards for key in keys):
        values = [cards.number(f"CD{key}", 0.0) for key in keys]
        steps: list[float | None] = [1.0, 1.0]
    else:
        steps = [cards.number("CDELT1"), cards.number("CDELT2")]
        if any(f"PC{key}" in cards for key in keys):
            steps = [cards.number("CDELT1", 1.0), cards.number("CDELT2", 1.0)]
            values = [cards.number(f"PC{k}", float(k[0] == k[2])) for k in keys]
        elif "PC001001" in cards:
            values = [cards.number(f"PC00{k[0]}00{k[2]}", float(k[0] == k[2])) for k in keys]
        else:
            values = _rotation(cards.number("CROTA2", 0.0) or 0.0, steps)
    numbers = [value for value in (*values, *steps) if value is not None]
    if len(numbers) < 6:
        return None
    a, b, c, d, x, y = numbers
    return (a * x, b * x), (c * y, d * y)
