"""Images as PNG data addresses: one shared stretch for pictures that are to be compared."""

import base64
import io

import numpy as np
from numpy.typing import NDArray

#: Largest side of a thumbnail, pixels.
THUMBNAIL = 128
#: A pixel of a map is so many wide, so that an outline hides none.
_ZOOM = 3


def stretch_limits(images: NDArray[np.floating]) -> tuple[float, float]:
    """Black and white level that suit a whole set of images.

    Black lies 2 robust standard deviations below the border's median, white at the 99.7th
    percentile of all finite pixels.

    Parameters
    ----------
    images : (N, H, W)

    Returns
    -------
    black, white : float
        In the images' unit; ``white > black`` always.
    """
    border = np.concatenate(
        [
            images[:, 0].ravel(),
            images[:, -1].ravel(),
            images[:, :, 0].ravel(),
            images[:, :, -1].ravel(),
        ]
    )
    border = border[np.isfinite(border)]
    finite = images[np.isfinite(images)]
    if finite.size == 0:
        return 0.0, 1.0
    median = float(np.median(border)) if border.size else float(np.median(finite))
    spread = 1.4826 * float(np.median(np.abs(border - median))) if border.size else 0.0
    black = median - 2.0 * spread
    white = float(np.quantile(finite, 0.997))
    return (black, white) if white > black else (black, black + 1.0)


def grey_picture(image: NDArray[np.floating], black: float, white: float) -> str:
    """Picture with an asinh stretch between two levels.

    Parameters
    ----------
    image : (H, W)
        Row 0 at the bottom. Pixels that are not finite become mid-blue.
    black, white : float
        In the unit of ``image``.

    Returns
    -------
    str
        ``data:image/png;base64,...``
    """
    scaled = np.clip((image - black) / (white - black), 0.0, 1.0)
    return _png(np.arcsinh(6.0 * scaled) / np.arcsinh(6.0), "gray")


def difference_picture(image: NDArray[np.floating], limit: float) -> str:
    """Picture of a difference on a diverging scale from ``-limit`` to ``+limit``.

    Parameters
    ----------
    image : (H, W)
    limit : float, > 0
        In the unit of ``image``.

    Returns
    -------
    str
        ``data:image/png;base64,...``
    """
    return _png(np.clip(image / (2.0 * limit) + 0.5, 0.0, 1.0), "RdBu_r")


def heat_picture(heat: NDArray[np.floating], target: NDArray[np.bool_] | None = None) -> str:
    """Picture of a map in [0, 1]; the outline of a target is drawn, each pixel three wide.

    Parameters
    ----------
    heat : (H, W)
    target : (H, W) bool, optional

    Returns
    -------
    str
        ``data:image/png;base64,...``
    """
    zoom = np.ones((_ZOOM, _ZOOM))
    values = np.kron(heat, zoom)
    if target is not None:
        inside = np.pad(np.kron(target, zoom).astype(bool), 1)
        core = inside[1:-1, 1:-1].copy()
        for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
            core &= np.roll(inside, shift, axis)[1:-1, 1:-1]
        values = np.where(inside[1:-1, 1:-1] & ~core, np.nan, values)
    return _png(values, "inferno", bad=(0.35, 0.9, 0.95, 1.0))


def thumbnail(image: NDArray[np.floating]) -> str:
    """Picture of one image of any size under its own stretch, at most ``THUMBNAIL`` pixels a side.

    Parameters
    ----------
    image : (H, W)

    Returns
    -------
    str
        ``data:image/png;base64,...``
    """
    step = -(-max(image.shape) // THUMBNAIL)
    rows, columns = (max(n // step, 1) * step for n in image.shape)
    if step > 1 and min(image.shape) >= step:
        blocks = image[:rows, :columns].reshape(rows // step, step, columns // step, step)
        image = blocks.mean(axis=(1, 3))
    return grey_picture(image, *stretch_limits(image[None]))


def _png(
    values: NDArray[np.floating],
    colormap: str,
    bad: tuple[float, float, float, float] = (0.25, 0.35, 0.6, 1.0),
) -> str:
    """Encode values in [0, 1] (row 0 at the bottom) through a matplotlib colour map."""
    import matplotlib
    from matplotlib.image import imsave

    colours = matplotlib.colormaps[colormap].with_extremes(bad=bad)
    pixels = colours(np.ma.masked_invalid(values), bytes=True)[::-1]
    buffer = io.BytesIO()
    imsave(buffer, np.ascontiguousarray(pixels), format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
