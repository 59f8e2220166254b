"""Synthetic skies and headers shared by the tests of this folder."""

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray


def ring(n: int = 64, scale: float = 0.05, noise: float = 0.02) -> NDArray[np.float64]:
    """A ring and a core in flux per pixel, on any pixel scale; noise per pixel of 0.05 arcsec."""
    y, x = (np.mgrid[:n, :n] - (n - 1) / 2) * scale
    radius = np.hypot(x - 0.03, y * 1.1)
    brightness = np.exp(-(((radius - 0.9) / 0.15) ** 2)) * (1.2 + x) + 2 * np.exp(-radius / 0.15)
    rng = np.random.default_rng(4)
    return (brightness + noise * rng.standard_normal((n, n))) * (scale / 0.05) ** 2


def sky_header(scale: float = 0.05, angle: float = 0.0, flip: bool = False) -> fits.Header:
    """Header with a CD matrix, scale in arcsec, angle in degrees."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    sign, step = (1.0 if flip else -1.0), scale / 3600
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CD1_1"], header["CD1_2"] = sign * step * c, step * s
    header["CD2_1"], header["CD2_2"] = -sign * step * s, step * c
    return header
