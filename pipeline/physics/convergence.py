"""Convergence of a scene's substructure, averaged over each pixel of an image.

By Gauss, the mean convergence over a pixel is half the deflection's flux through its four sides
over its area; the flux through a side is taken at its two Gauss points. One rule serves every
profile and field, point masses too, and the pixels add up to the mass inside the image.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.physics import fields
from pipeline.physics.geometry import Grid
from pipeline.physics.profiles.table import PROFILES
from pipeline.physics.scene import Scene

type Floats = NDArray[np.float64]

#: Points of the two-point Gauss-Legendre rule on [-1, 1], of weight 1 each.
_GAUSS = 3.0**-0.5


def substructure_convergence(scene: Scene, grid: Grid) -> Floats:
    """Mean convergence of the substructure over each pixel.

    What balances the mean mass of the substructure (the negative disc, the lowered macro lens) is
    left out: it belongs to the smooth lens.

    Parameters
    ----------
    scene : Scene
    grid : Grid

    Returns
    -------
    Floats, shape (n_pix, n_pix)
        Zero for a lens without substructure.
    """
    n, h = grid.n_pix, grid.pixel_scale
    middle = fields.axis(n, h)
    # Fields are known as far as the outermost rays, which end a little inside the last pixel.
    edge = np.clip(fields.axis(n + 1, h), -grid.half_width, grid.half_width)
    width = np.diff(edge)
    alpha_x, alpha_y = np.zeros((n, n + 1)), np.zeros((n + 1, n))
    for point in (-_GAUSS, _GAUSS):
        along = np.clip(middle + 0.5 * point * h, edge[0], edge[-1])
        alpha_x += 0.5 * _deflection(scene, *np.meshgrid(edge, along))[0]
        alpha_y += 0.5 * _deflection(scene, *np.meshgrid(along, edge))[1]
    divergence = np.diff(alpha_x, axis=1) / width + np.diff(alpha_y, axis=0) / width[:, None]
    return np.asarray(0.5 * divergence, np.float64)


def _deflection(scene: Scene, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Deflection of the substructure alone, arcsec."""
    total_x, total_y = np.zeros_like(x), np.zeros_like(y)
    for population in scene.perturbers:
        formula = PROFILES[population.profile].deflection
        for k in np.flatnonzero(population.mass > 0):
            one = {name: values[k] for name, values in population.params.items()}
            a_x, a_y = formula(x, y, **one)
            total_x += a_x
            total_y += a_y
    for field in scene.fields:
        a_x, a_y = fields.deflection(field, x, y)
        total_x += a_x
        total_y += a_y
    return total_x, total_y
