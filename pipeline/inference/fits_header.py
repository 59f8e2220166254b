"""Ask a FITS header without trusting it: typed values or nothing, and the pixel scale in arcsec."""

import math
from dataclasses import dataclass
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


class Cards:
    """Cards of one header; a card that cannot be parsed counts as present and worthless."""

    def __init__(self, header: Any) -> None:  # astropy's Header carries no types
        self._header = header
        # most questions are about cards that are not there, which astropy answers slowly
        self._keywords = frozenset(header.keys())

    @classmethod
    def parse(cls, block: bytes) -> "Cards":
        """Parse the cards in ``block``, which ends with the END card."""
        from astropy.io import fits  # type: ignore[import-untyped]

        return cls(fits.Header.fromstring(block.decode("ascii", "replace")))

    @property
    def header(self) -> Any:  # astropy's Header carries no types
        """The header itself, for astropy's own readers."""
        return self._header

    def __contains__(self, keyword: str) -> bool:
        return keyword in self._keywords

    def value(self, keyword: str) -> object:
        """Value as astropy reads it; None if absent, undefined or unreadable."""
        from astropy.io.fits.verify import VerifyError  # type: ignore[import-untyped]

        if keyword not in self._keywords:
            return None
        try:
            value: object = self._header.get(keyword)
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
