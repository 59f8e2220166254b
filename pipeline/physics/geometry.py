"""Pixel grids, ellipticities and rotations: the axis convention of the whole package.

x points right (increasing column), y up (increasing row), arrays are ``[row = y, column = x]``;
position angles run counter-clockwise from +x to the major axis (PHYSICS 0).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.physics.profiles.array_api import Array, namespace


@dataclass(frozen=True)
class Grid:
    """A square grid of pixels, centred on the optical axis.

    Attributes
    ----------
    n_pix : int
        Pixels along one side.
    pixel_scale : float, arcsec
    supersample : int
        Rays along one side of a pixel.
    """

    n_pix: int
    pixel_scale: float
    supersample: int = 1

    @property
    def ray_scale(self) -> float:
        """Distance between neighbouring rays, arcsec."""
        return self.pixel_scale / self.supersample

    @property
    def half_width(self) -> float:
        """Half of the side of the image, arcsec."""
        return 0.5 * self.n_pix * self.pixel_scale

    def axis(self) -> NDArray[np.float64]:
        """Coordinates of the rays along one axis, arcsec, shape (n_pix * supersample,)."""
        n = self.n_pix * self.supersample
        return np.asarray((np.arange(n) - (n - 1) / 2.0) * self.ray_scale, dtype=np.float64)

    def rays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions of all rays, arcsec, each of shape (n, n) with n = n_pix * supersample."""
        x, y = np.meshgrid(self.axis(), self.axis())
        return x, y


def ellipticity(q: Array, phi: Array) -> tuple[Array, Array]:
    """Return (e1, e2) = (1-q)/(1+q) (cos 2 phi, sin 2 phi).

    Parameters
    ----------
    q : Array, axis ratio in (0, 1]
    phi : Array, rad

    Returns
    -------
    e1, e2 : Array
    """
    xp = namespace(q, phi)
    size = (1.0 - q) / (1.0 + q)
    return size * xp.cos(2.0 * phi), size * xp.sin(2.0 * phi)


def axis_ratio_angle(e1: Array, e2: Array) -> tuple[Array, Array]:
    """Return (q, phi), the inverse of :func:`ellipticity`; the size of e must be below 1.

    Parameters
    ----------
    e1, e2 : Array

    Returns
    -------
    q : Array
    phi : Array, rad, in (-pi/2, pi/2]
    """
    xp = namespace(e1, e2)
    size = xp.hypot(e1, e2)
    return (1.0 - size) / (1.0 + size), 0.5 * xp.atan2(e2, e1)


def rotate_in(
    x: Array, y: Array, phi: Array, center_x: Array, center_y: Array
) -> tuple[Array, Array]:
    """Coordinates (u, v) in the frame of a profile whose major axis lies at angle phi (rad)."""
    c, s = _cos_sin(phi)
    dx, dy = x - center_x, y - center_y
    return c * dx + s * dy, c * dy - s * dx


def rotate_out(u: Array, v: Array, phi: Array) -> tuple[Array, Array]:
    """Sky components of a vector given in the frame of a profile at angle phi (rad)."""
    c, s = _cos_sin(phi)
    return c * u - s * v, s * u + c * v


def _cos_sin(phi: Array) -> tuple[Array, Array]:
    # Plain numbers stay plain numbers, so that float32 positions stay float32.
    if isinstance(phi, int | float):
        return math.cos(phi), math.sin(phi)
    xp = namespace(phi)
    return xp.cos(phi), xp.sin(phi)
