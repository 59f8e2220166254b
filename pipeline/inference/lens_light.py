"""Subtract the light of the lens galaxy: concentric ellipses that fall off outwards.

The galaxy's centre is its peak near the middle, its shape that of the second moments of its core,
its profile the median brightness on ellipses, which arcs that cover less than half of an ellipse do
not move, made to fall outwards. A quick model for a first look; a fit with ``deeplense fit`` is
better.
"""

import numpy as np

from pipeline.inference.resample import Array, sky_level

#: The peak is sought within this fraction of the side from the middle.
_SEARCH = 0.1
#: Radius of the core whose moments give the shape, as a fraction of the side.
_CORE = 0.1
#: Flattest ellipse that is believed.
_MIN_AXIS_RATIO = 0.3


def subtract_lens_light(plane: Array) -> Array:
    """Image (H, W) less the model of the light around its middle, sky kept."""
    sky, _ = sky_level(plane)
    light = plane - sky
    radius = _elliptical_radius(light)
    edges = _edges(float(radius.max()))
    ring = np.digitize(radius.ravel(), edges)
    values = light.ravel()
    middles, profile = [], []
    for k in range(1, len(edges)):
        members = values[ring == k]
        if members.size:
            middles.append(0.5 * (edges[k - 1] + edges[k]))
            profile.append(float(np.median(members)))
    falling = np.minimum.accumulate(np.maximum(profile, 0.0))
    return np.asarray(plane - np.interp(radius, middles, falling))


def _edges(largest: float) -> Array:
    """Ring borders: a pixel wide inside, wider outside."""
    edges = [0.0]
    while edges[-1] < largest + 1:
        edges.append(edges[-1] + max(1.0, 0.08 * edges[-1]))
    return np.asarray(edges)


def _elliptical_radius(light: Array) -> Array:
    """Radius (pixels) of every pixel on ellipses of the core's shape around its peak."""
    from scipy.ndimage import uniform_filter  # type: ignore[import-untyped]

    height, width = light.shape
    y, x = np.mgrid[:height, :width].astype(float)
    reach = max(2.0, _SEARCH * min(light.shape))
    near = np.hypot(x - (width - 1) / 2, y - (height - 1) / 2) <= reach
    smooth = np.where(near, uniform_filter(light, 3), -np.inf)
    y0, x0 = np.unravel_index(int(smooth.argmax()), smooth.shape)
    x, y = x - x0, y - y0
    core = np.hypot(x, y) <= max(3.0, _CORE * min(light.shape))
    weight = np.where(core, np.maximum(light, 0.0), 0.0)
    total = float(weight.sum())
    if not total > 0:
        return np.asarray(np.hypot(x, y))
    cx, cy = float((weight * x).sum() / total), float((weight * y).sum() / total)
    x, y = x - cx, y - cy
    xx, yy, xy = (float((weight * m).sum() / total) for m in (x * x, y * y, x * y))
    e1, e2 = (xx - yy) / (xx + yy + 1e-9), 2 * xy / (xx + yy + 1e-9)
    e = min(float(np.hypot(e1, e2)), 0.9)
    q = max(_MIN_AXIS_RATIO, np.sqrt((1 - e) / (1 + e)))
    angle = 0.5 * np.arctan2(e2, e1)
    major = x * np.cos(angle) + y * np.sin(angle)
    minor = -x * np.sin(angle) + y * np.cos(angle)
    return np.asarray(np.sqrt(q * major**2 + minor**2 / q))
