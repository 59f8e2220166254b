"""From the arrays of compiled fits to what a result says of each image."""

import numpy as np
from numpy.typing import NDArray

from pipeline.fit.config import FitConfig
from pipeline.physics.geometry import Grid

type Floats = NDArray[np.float64]

#: Widths of the prior from its mean beyond which a value is not believed.
_FAR = 5.0
#: Gain in chi2 over no source at all below which there is none.
_DETECTED = 50.0


def doubts(
    config: FitConfig,
    names: tuple[str, ...],
    z: Floats,
    chi2: float,
    gain: float,
    unsettled: int | None,
) -> str:
    """Why a fit is poor; empty if it is good.

    Parameters
    ----------
    config : FitConfig
    names : tuple of str, length P
    z : Floats, shape (P,)
        Whitened coordinates.
    chi2 : float
        Reduced.
    gain : float
        In chi2, over no source.
    unsettled : int or None
        Steps of a fit that did not converge.
    """
    limit, far = config.poor_chi2, int(np.argmax(np.abs(z)))
    if gain < _DETECTED:
        return "no lensed source stands out of the noise"
    if chi2 > limit:
        return f"reduced chi2 is {chi2:.3g}, above {limit:g}"
    if chi2 < 1.0 / limit:
        return f"reduced chi2 is {chi2:.3g}: the noise is less than assumed"
    if abs(z[far]) > _FAR:
        return f"{names[far]} lies {abs(z[far]):.1f} widths of its prior off the mean"
    if unsettled is not None:
        return f"no convergence in {unsettled} steps"
    return ""


def in_half(maps: NDArray[np.floating], ok: NDArray[np.bool_]) -> NDArray[np.float16]:
    """Maps (n, S, H, W) in half precision; 0 where there is no fit."""
    limit = float(np.finfo(np.float16).max)
    found = np.clip(np.nan_to_num(maps), -limit, limit)
    return np.where(ok[:, None, None, None], found, 0.0).astype(np.float16)


def peaks(maps: NDArray[np.float16], grid: Grid) -> NDArray[np.float64]:
    """Highest value of the maps of each image, its x and y, arcsec: (n, 3); NaN without maps."""
    n, _, side, _ = maps.shape
    found = np.full((n, 3), np.nan)
    if maps.size:
        flat = maps.reshape(n, -1)
        place = flat.argmax(1)
        found[:, 0] = flat[np.arange(n), place]
        y, x = np.divmod(place % side**2, side)
        for column, pixel in ((1, x), (2, y)):
            found[:, column] = (pixel - (side - 1) / 2.0) * grid.pixel_scale
        found[found[:, 0] <= 0] = np.nan
    return found


def covariances(hessians: Floats) -> tuple[Floats, Floats]:
    """Inverses (n, P, P) of positive matrices, and ln det of these; NaN where one is none."""
    inverse, log_det = np.full_like(hessians, np.nan), np.full(len(hessians), np.nan)
    for k, matrix in enumerate(hessians):
        sign, value = np.linalg.slogdet(matrix) if np.isfinite(matrix).all() else (0.0, 0.0)
        if sign > 0:
            inverse[k], log_det[k] = np.linalg.inv(matrix), value
    return inverse, log_det
