"""Width of a point-spread function, from its picture or from a header."""

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.fits_header import Cards

#: Keywords that give the full width at half maximum of the PSF in arcsec.
_KEYWORDS = ("PSF_FWHM", "PSFFWHM", "FWHMPSF", "SEEING")
#: Widths outside this are no PSF (arcsec).
_RANGE = (0.005, 10.0)
#: Fine pixels per pixel on which the area above half maximum is measured.
_FINE = 8


def kernel_fwhm(kernel: NDArray[np.float64]) -> float | None:
    """Full width at half maximum, pixels: that of the circle as large as the area above half.

    Parameters
    ----------
    kernel : NDArray, shape (H, W)

    Returns
    -------
    float or None
        None where nothing peaks.
    """
    from scipy.ndimage import zoom  # type: ignore[import-untyped]

    values = np.where(np.isfinite(kernel), kernel, 0.0)
    if min(values.shape) < 3 or not values.max() > 0:
        return None
    y, x = np.unravel_index(int(values.argmax()), values.shape)
    near = values[max(0, y - 16) : y + 17, max(0, x - 16) : x + 17]
    fine = zoom(near, _FINE, order=3, mode="nearest", grid_mode=True)
    area = float((fine > 0.5 * fine.max()).sum()) / _FINE**2
    if area >= 0.5 * near.size:
        return None
    return 2.0 * math.sqrt(area / math.pi)


def header_fwhm(cards: Cards, primary: Cards) -> float | None:
    """Full width at half maximum that a header states, arcsec."""
    for source in (cards, primary):
        for keyword in _KEYWORDS:
            value = source.number(keyword)
            if value is not None and _RANGE[0] < value < _RANGE[1]:
                return value
    return None
