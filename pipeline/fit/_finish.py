"""From the arrays of compiled fits to what a result says of each image."""

import numpy as np
from numpy.typing import NDArray

from pipeline.physics.geometry import Grid

type Floats = NDArray[np.float64]


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
