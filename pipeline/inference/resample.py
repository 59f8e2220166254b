"""Change the pixel grid of an image without changing the sky: resample, pad, fill gaps."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: Median absolute deviation to standard deviation of a Gaussian, 1 / (sqrt(2) erfinv(1/2)).
_MAD_TO_SIGMA = 1.4826022185056018


def repair(plane: Array) -> Array:
    """Fill missing pixels: single ones from their neighbours, large gaps with empty sky."""
    from scipy.ndimage import uniform_filter  # type: ignore[import-untyped]

    good = np.isfinite(plane)
    weight = uniform_filter(good.astype(np.float64), 5, mode="constant")
    background, _ = sky_level(plane)
    local = uniform_filter(np.where(good, plane - background, 0.0), 5, mode="constant")
    with np.errstate(divide="ignore", invalid="ignore"):
        local = local / weight + background
    gaps = np.where(weight > 0.5, local, empty_sky(plane, plane.shape))
    return np.where(good, plane, gaps)


def resample(planes: Array, size: int, ratio: float) -> Array:
    """Flux-conserving change of the pixel scale by ``ratio`` on both axes."""
    rows, columns = (
        resampling_matrix(n, min(size, math.floor(n * ratio + 0.01)), ratio)
        for n in planes.shape[-2:]
    )
    return np.asarray(rows @ planes @ columns.T)


@lru_cache(maxsize=64)
def resampling_matrix(n_in: int, n_out: int, ratio: float) -> Array:
    """Matrix that takes the flux in ``n_in`` pixels to ``n_out`` pixels around the same centre.

    The cumulative flux along the axis is interpolated by a cubic spline and differenced at the new
    pixel edges, so each new pixel holds the flux between its edges and none is lost.

    Parameters
    ----------
    n_in, n_out : int
    ratio : float
        Old pixel side over new pixel side.

    Returns
    -------
    NDArray, shape (n_out, n_in)
    """
    from scipy.interpolate import make_interp_spline  # type: ignore[import-untyped]

    cumulative = np.vstack([np.zeros(n_in), np.cumsum(np.eye(n_in), axis=0)])
    edges = n_in / 2 + (np.arange(n_out + 1) - n_out / 2) / ratio
    spline = make_interp_spline(np.arange(n_in + 1.0), cumulative, k=3)
    return np.diff(spline(np.clip(edges, 0.0, n_in)), axis=0)


def pad(planes: Array, size: int) -> Array:
    """Centre the planes in ``size`` x ``size`` pixels of empty sky."""
    if planes.shape[-2:] == (size, size):
        return planes
    height, width = planes.shape[-2:]
    top, left = (size - height) // 2, (size - width) // 2
    padded = np.stack([empty_sky(plane, (size, size)) for plane in planes])
    padded[:, top : top + height, left : left + width] = planes
    return padded


def empty_sky(plane: Array, shape: tuple[int, ...]) -> Array:
    """Background and noise like the border of ``plane``.

    The noise is one fixed pattern, scaled: the same file always gives the same image, and a change
    of units changes the filled pixels with all others. A flat fill would tell the checkpoint, which
    measures the noise on the border, that there is none.
    """
    background, sigma = sky_level(plane)
    return np.asarray(background + sigma * _noise_pattern(shape))


@lru_cache(maxsize=16)
def _noise_pattern(shape: tuple[int, ...]) -> Array:
    return np.random.Generator(np.random.Philox(20090)).standard_normal(shape)


def sky_level(plane: Array) -> tuple[float, float]:
    """Background and noise: median and scaled MAD of the outermost pixels that have values."""
    values = _border(plane)
    background = float(np.median(values))
    return background, _MAD_TO_SIGMA * float(np.median(np.abs(values - background)))


def _border(plane: Array) -> Array:
    """Values of a frame wide enough to tell the noise; all of them where it has none."""
    side = min(plane.shape)
    enough = 2 * sum(plane.shape)
    edge = max(2, round(side / 16))
    while True:
        inner = plane[edge:-edge]
        parts = (plane[:edge], plane[-edge:], inner[:, :edge], inner[:, -edge:])
        values = np.concatenate(
            [part.ravel() for part in parts] if 2 * edge < side else [plane.ravel()]
        )
        values = values[np.isfinite(values)]
        if values.size >= enough or 4 * edge >= side:
            break
        edge *= 2
    return values if values.size else plane[np.isfinite(plane)]
