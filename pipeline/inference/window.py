"""Which pixels of an image count: its centre, and the window around it."""

import math
from dataclasses import dataclass

import numpy as np

from pipeline.core.errors import ConfigError
from pipeline.inference.images import RejectReason, UnreadableImageError
from pipeline.inference.resample import Array

#: Side of the box over which light is averaged before its peak is sought, pixels.
_PEAK_BOX = 5


@dataclass(frozen=True)
class Centre:
    """Pixel at the centre, counted from 0; ``is_middle`` if it is that of the image itself."""

    x: float
    y: float
    is_middle: bool = True


def check_center(text: str) -> str:
    """``text`` if it says where the centre is.

    Raises
    ------
    ConfigError
        Otherwise.
    """
    if text not in ("middle", "peak") and _pixel(text) is None:
        raise ConfigError(
            f"--center {text}: expected 'middle', 'peak' or X,Y, a pixel counted from 1"
        )
    return text


def find_centre(data: Array, asked: str) -> Centre:
    """Centre that was asked for, of an image (P, H, W).

    Raises
    ------
    UnreadableImageError
        If it lies outside the image.
    """
    height, width = data.shape[-2:]
    if asked == "middle":
        return Centre((width - 1) / 2, (height - 1) / 2)
    if asked == "peak":
        return _peak(data)
    pixel = _pixel(check_center(asked))
    assert pixel is not None  # checked above
    x, y = pixel[0] - 1, pixel[1] - 1
    if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
        raise UnreadableImageError(
            RejectReason.OUTSIDE, f"the centre {asked} lies outside {width} x {height} pixels"
        )
    return Centre(x, y, is_middle=False)


def _pixel(text: str) -> tuple[float, float] | None:
    parts = text.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return None
    return (numbers[0], numbers[1]) if len(numbers) == 2 and np.isfinite(numbers).all() else None


def _peak(data: Array) -> Centre:
    """Brightest place of the middle half, all planes together."""
    from scipy.ndimage import uniform_filter  # type: ignore[import-untyped]

    good = np.isfinite(data)
    light = np.where(good, data - np.median(data[good]) if good.any() else 0.0, 0.0).sum(axis=0)
    smooth = uniform_filter(light, _PEAK_BOX, mode="nearest")
    height, width = smooth.shape
    top, left = height // 4, width // 4
    inner = smooth[top : height - top, left : width - left]
    y, x = np.unravel_index(int(inner.argmax()), inner.shape)
    return Centre(float(x + left), float(y + top), is_middle=False)


def keep_around(data: Array, centre: Centre, needed: float) -> Array:
    """Largest part of an image, up to ``needed`` pixels and a margin, with ``centre`` amid it."""
    half = needed / 2 + 5
    parts = []
    for position, n in ((centre.y, data.shape[-2]), (centre.x, data.shape[-1])):
        reach = min(half, position + 0.5, n - 0.5 - position)
        start = max(0, math.ceil(position + 0.5 - reach - 0.501))
        parts.append(slice(start, min(n, start + max(1, math.floor(2 * reach + 0.501)))))
    return data[:, parts[0], parts[1]]


def middle_window(data: Array, size: int, ratio: float) -> Array:
    """Middle of the image: the checkpoint's field, with a margin if it is to be resampled."""
    margin = 0 if ratio == 1.0 else 4
    needed = math.ceil(size / ratio) + 2 * margin
    rows, columns = (_middle(n, needed, keep_centre=ratio != 1.0) for n in data.shape[-2:])
    return data[:, rows, columns]


def _middle(n: int, needed: int, *, keep_centre: bool) -> slice:
    start = max(0, (n - needed) // 2)
    return slice(start, n - start if keep_centre else min(n, start + needed))
