"""What maps share, with torch or without: how one is finished, and where covered patches lie."""

import numpy as np
from numpy.typing import NDArray

#: Standard deviation of the smoothing, pixels: single pixels of a gradient mean little.
SMOOTHING = 1.5


def patch_places(size: int, patch: int, stride: int) -> list[tuple[slice, slice]]:
    """Rows and columns of square patches that cover ``size`` x ``size`` pixels, to the edges."""
    patch = min(patch, size)
    starts = sorted({*range(0, size - patch + 1, stride), size - patch})
    sides = [slice(start, start + patch) for start in starts]
    return [(rows, columns) for rows in sides for columns in sides]


def finished(heat: NDArray[np.floating]) -> NDArray[np.float64]:
    """Maps (B, H, W) smoothed over three pixels and scaled so that the largest value is 1.

    A map of zeros, which says that nothing matters, stays one.
    """
    from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]  # heavy

    smooth = np.stack([gaussian_filter(one, SMOOTHING) for one in np.asarray(heat, np.float64)])
    top = smooth.max(axis=(1, 2), keepdims=True)
    return np.asarray(smooth / np.where(top > 0, top, 1.0))
