"""AB magnitude of one unit of a pixel's value, from BUNIT and the keywords of the observatories.

HST: m = -2.5 log10(PHOTFLAM) - 5 log10(PHOTPLAM) - 2.408 for one count a second (ACS Data Handbook,
section 5.1); JWST: MJy/sr and PIXAR_SR; Rubin and HSC: FLUXMAG0; others: MAGZERO and the like.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.inference.fits_header import Cards

#: Flux of AB magnitude zero, Jy.
AB_JY = 3630.78
#: Square radians in a square arcsec.
_STERADIAN = (math.pi / 180 / 3600) ** 2
#: Units of flux density -> Jy.
_JANSKY = {"jy": 1.0, "mjy": 1e-3, "ujy": 1e-6, "njy": 1e-9, "nanomaggy": 3.63078e-6,
           "nanomaggies": 3.63078e-6, "nmgy": 3.63078e-6}  # fmt: skip
_PER_SECOND = ("/s", "/sec", " s-1", "s**-1", "s^-1")
_COUNTS = ("electron", "electrons", "e-", "e", "count", "counts", "ct", "cts", "dn", "adu")
#: Magnitude of one unit as stored, best first.
_ZERO_POINTS = ("MAGZERO", "MAGZPT", "MAGZEROPOINT", "MAG_ZP", "ZEROPNT", "PHOTZP", "MAGZP",
                "ZPAB", "ABMAGZP", "ZP")  # fmt: skip


@dataclass(frozen=True)
class Photometry:
    """AB magnitude of one unit (None: unknown), and the keyword that says so."""

    zero_point: float | None = None
    basis: str = ""


def zero_point(
    cards: Cards, primary: Cards, unit: str | None, pixel_scale: float | None
) -> Photometry:
    """Zero point of an image.

    Parameters
    ----------
    cards, primary : Cards
    unit : str or None
        BUNIT.
    pixel_scale : float or None, arcsec
        For surface brightness without PIXAR_SR.
    """

    def number(keyword: str) -> float | None:
        value = cards.number(keyword)
        return primary.number(keyword) if value is None else value

    name = (unit or "").strip()
    plain = name.lower().removesuffix("/pix").removesuffix("/pixel").removesuffix("/beam")
    if plain in _JANSKY:
        # "mJy" is milli and "MJy" is mega, which only the case tells
        jansky = 1e6 if name.startswith("MJ") else _JANSKY[plain]
        return Photometry(_magnitude(jansky), f"BUNIT {name}")
    if plain.replace(" ", "") in ("mjy/sr", "mjysr-1", "mjy/steradian") and name.startswith("M"):
        area = number("PIXAR_SR") or (pixel_scale**2 * _STERADIAN if pixel_scale else None)
        return Photometry(_magnitude(1e6 * area), f"BUNIT {name}") if area else Photometry()
    fluxmag0 = number("FLUXMAG0")
    if fluxmag0 is not None and fluxmag0 > 0:
        return Photometry(2.5 * math.log10(fluxmag0), "FLUXMAG0")
    for keyword in _ZERO_POINTS:
        value = number(keyword)
        if value is not None and 5.0 < value < 60.0:
            return Photometry(value, keyword)
    return _from_rate(number, plain)


def _from_rate(number: Callable[[str], float | None], plain: str) -> Photometry:
    """Zero points of one count a second, turned to one count where that is the unit."""
    flam, plam, fnu = number("PHOTFLAM"), number("PHOTPLAM"), number("PHOTFNU")
    if flam and plam and flam > 0 and plam > 0:
        rate = -2.5 * math.log10(flam) - 5 * math.log10(plam) - 2.408
        basis = "PHOTFLAM, PHOTPLAM"
    elif fnu and fnu > 0:
        rate, basis = _magnitude(fnu), "PHOTFNU"
    else:
        return Photometry()
    if plain in _COUNTS:
        seconds = number("EXPTIME")
        if not seconds or seconds <= 0:
            return Photometry()
        return Photometry(rate + 2.5 * math.log10(seconds), f"{basis}, EXPTIME")
    is_rate = plain == "" or any(plain.endswith(ending) for ending in _PER_SECOND)
    return Photometry(rate, basis) if is_rate else Photometry()


def _magnitude(jansky: float) -> float:
    return -2.5 * math.log10(jansky / AB_JY)
