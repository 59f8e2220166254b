"""From images to what a compiled fit takes: usable pixels, in units of each image's own noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.fit._solve import Observed

type Floats = NDArray[np.float64]

#: Fewer pixels, for each parameter, constrain nothing.
_PIXELS_PER_PARAMETER = 4


@dataclass(frozen=True)
class Prepared:
    """Images in units of their own noise: (n, C, M) each, and why an image cannot be fitted."""

    seen: Observed
    unit: Floats  # (n,)
    n_used: NDArray[np.int64]
    reasons: tuple[str, ...]


def prepare(
    images: NDArray[np.floating],
    floor: Floats,
    slope: Floats,
    usable: NDArray[np.bool_],
    n_parameters: int,
) -> Prepared:
    """Images in units of their noise; what cannot be fitted is left without usable pixels.

    Parameters
    ----------
    images : array, shape (n, C, H, W)
    floor, slope : Floats, shape (n, C, H, W)
        See ``Noise``.
    usable : bool array, shape (n, C, H, W)
    n_parameters : int

    Returns
    -------
    Prepared
    """
    flat = (len(images), images.shape[1], images.shape[2] * images.shape[3])
    pixels, base, gain = (np.asarray(a, np.float64).reshape(flat) for a in (images, floor, slope))
    finite = np.isfinite(pixels)
    noisy = np.isfinite(base) & (base > 0) & np.isfinite(gain) & (gain >= 0)
    good = usable.reshape(flat) & finite & noisy
    needed = _PIXELS_PER_PARAMETER * n_parameters
    reasons = tuple(_fault(good[k], finite[k], noisy[k], needed) for k in range(len(images)))
    good &= np.array([not reason for reason in reasons], bool)[:, None, None]
    unit = np.array(
        [np.sqrt(np.median(b[g])) if g.any() else 1.0 for b, g in zip(base, good, strict=True)]
    ).reshape(len(images))
    scale = unit[:, None, None]
    return Prepared(
        seen=Observed(
            image=np.where(good, pixels, 0.0) / scale,
            usable=good.astype(np.float64),
            floor=np.where(good, base, 1.0) / scale**2,
            slope=np.where(good, gain, 0.0) / scale,
        ),
        unit=unit,
        n_used=good.sum((1, 2)),
        reasons=reasons,
    )


def round_light(images: NDArray[np.floating], usable: NDArray[np.bool_]) -> Floats:
    """Lower quartile of the pixels at each distance from the middle: a galaxy, but not its arcs.

    Parameters
    ----------
    images : array, shape (n, C, M)
        Of M = side^2 pixels.
    usable : bool array, shape (n, C, M)

    Returns
    -------
    Floats, shape (n, C, M)
        Never rising outwards; 0 where no pixel of a ring is usable.
    """
    side = round(images.shape[-1] ** 0.5)
    axis = np.arange(side) - (side - 1) / 2.0
    ring = np.rint(np.hypot(axis, axis[:, None])).astype(int).ravel()
    light = np.zeros(images.shape)
    for values, good, out in zip(
        *(a.reshape(-1, side**2) for a in (images, usable, light)), strict=True
    ):
        level = np.inf
        for k in range(ring.max() + 1):
            here = ring == k
            if (here & good).any():
                level = min(level, float(np.quantile(values[here & good], 0.25)))
            out[here] = level if np.isfinite(level) else 0.0
    return light


def _fault(
    good: NDArray[np.bool_], finite: NDArray[np.bool_], noisy: NDArray[np.bool_], needed: int
) -> str:
    """Why an image of these pixels cannot be fitted; "" if it can."""
    n = int(good.sum())
    if n >= needed:
        return ""
    if not finite.any():
        return "no pixel has a finite value"
    if not noisy.any():
        return "no pixel has a variance above zero"
    return f"{n} usable pixels, {needed} are needed"
