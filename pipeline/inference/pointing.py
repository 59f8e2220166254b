"""Where an image's pixels lie on the sky: direction of a pixel, orientation and parity."""

import math
import warnings

import numpy as np

from pipeline.inference.fits_header import Cards, linear_wcs

#: Projections whose plane is worked out here; others go to astropy.
_TAN = ("RA---TAN", "DEC--TAN")


class Pointing:
    """World coordinates of a header, worked out when they are asked for.

    Parameters
    ----------
    cards : Cards
    offset : tuple of int
        Column and row of the first pixel in the image the header is about.
    """

    def __init__(self, cards: Cards, offset: tuple[int, int] = (0, 0)) -> None:
        self._cards = cards
        self._offset = offset
        self._linear = linear_wcs(cards)

    @property
    def north_angle(self) -> float | None:
        """Direction of north, degrees from +y counter-clockwise; None where it is unknown."""
        if self._linear is None:
            return None
        (a, b), (c, d) = self._linear
        determinant = a * d - b * c
        x, y = -b / determinant, a / determinant
        return math.degrees(math.atan2(-x, y))

    @property
    def is_mirrored(self) -> bool | None:
        """Whether east is to the right of north, against the sky; None where it is unknown."""
        if self._linear is None:
            return None
        (a, b), (c, d) = self._linear
        return a * d - b * c > 0

    def radec(self, x: float, y: float) -> tuple[float, float] | None:
        """Right ascension and declination (degrees) of a pixel of the data, counted from 0."""
        cards = self._cards
        types = tuple((cards.text(f"CTYPE{i}") or "").strip().upper() for i in (1, 2))
        if not (types[0].startswith("RA--") and types[1].startswith("DEC-")):
            return None
        x, y = x + self._offset[0], y + self._offset[1]
        if types != _TAN or any(k in cards for k in ("LONPOLE", "PV1_1", "PV2_1", "A_ORDER")):
            return self._by_astropy(x, y)
        reference = [cards.number(f"{name}{i}") for name in ("CRPIX", "CRVAL") for i in (1, 2)]
        if self._linear is None or any(value is None for value in reference):
            return None
        px, py, ra, dec = (float(value) for value in reference if value is not None)
        (a, b), (c, d) = self._linear
        dx, dy = x + 1 - px, y + 1 - py
        return _deproject(math.radians(a * dx + b * dy), math.radians(c * dx + d * dy), ra, dec)

    def _by_astropy(self, x: float, y: float) -> tuple[float, float] | None:
        from astropy.io.fits.verify import VerifyError  # type: ignore[import-untyped]
        from astropy.wcs import WCS  # type: ignore[import-untyped]

        unusable = (  # astropy's WcsError is a ValueError
            ValueError, KeyError, AssertionError, TypeError, MemoryError, IndexError, VerifyError,
        )  # fmt: skip
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                found = WCS(self._cards.header, naxis=2).all_pix2world(x, y, 0)
        except unusable:
            return None
        ra, dec = float(found[0]), float(found[1])
        return (ra % 360.0, dec) if math.isfinite(ra) and math.isfinite(dec) else None


def _deproject(xi: float, eta: float, ra: float, dec: float) -> tuple[float, float]:
    """Gnomonic plane (rad) around (ra, dec) in degrees to the sphere, degrees."""
    dec0 = math.radians(dec)
    along = math.cos(dec0) - eta * math.sin(dec0)
    new_ra = ra + math.degrees(math.atan2(xi, along))
    new_dec = math.atan2(math.sin(dec0) + eta * math.cos(dec0), math.hypot(xi, along))
    return new_ra % 360.0, math.degrees(new_dec)
