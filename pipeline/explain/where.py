"""Where the substructure of simulated lenses is: in the image, and in the sky.

The change is the difference between the noiseless image and that of the smooth twin, over the noise
of a pixel: d' per pixel, whose squares add up to d'^2 with all nuisances known. Two targets are
made of the truth:

- ``change``: the fewest pixels that hold half of d'^2;
- ``mass``: pixels within three of the vortex, or of the heaviest mass inside the image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.rebuild import stored_scene
from pipeline.dataset.store import Dataset
from pipeline.detectability.measure import Survey, change_in_sigma, render_exact
from pipeline.physics.geometry import Grid
from pipeline.physics.scene import Scene, smooth_twin

type Floats = NDArray[np.float64]
type Mask = NDArray[np.bool_]

#: Share of d'^2 that the pixels of the target ``change`` hold.
SHARE = 0.5
#: Radius of the target ``mass``, pixels: a map is smoothed over as many.
RADIUS = 3.0


@dataclass(frozen=True)
class Whereabouts:
    """Truth about n lenses with substructure.

    Attributes
    ----------
    signed : (n, H, W)
        Change of the first band over the noise of the pixel.
    observer : (n, H, W), >= 0
        d' per pixel, all bands together: where a perfect observer would look.
    light : (n, H, W), >= 0
        Smooth twin's surface brightness, all bands together.
    change, mass : (n, H, W) bool
        The targets; ``mass`` is empty for substructure without a place.
    """

    signed: Floats
    observer: Floats
    light: Floats
    change: Mask
    mass: Mask

    def of(self, rows: Mask) -> "Whereabouts":
        """Some of the lenses, ``rows`` (n,)."""
        return Whereabouts(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def d_prime(self) -> Floats:
        """Value of d' of each lens, nuisances known (n,)."""
        return np.asarray(np.sqrt((self.observer**2).sum(axis=(1, 2))))


def unknowable(dataset: Dataset) -> str:
    """Why it is not known where the substructure of a dataset is; "" where it is."""
    config = dataset.simulation
    if config is None:
        return f"the origin of {dataset.path.name} is {dataset.origin}: its scenes are not known"
    return Survey(config.scenes, config.seed, config.grid, config.instruments).unmeasurable


def locate_substructure(dataset: Dataset, indices: Sequence[int]) -> Whereabouts:
    """Say where the substructure of some images is.

    Parameters
    ----------
    dataset : Dataset
        Simulated, by a telescope with noise (see :func:`unknowable`).
    indices : sequence of int, length n
        Of images of classes with substructure.
    """
    config = dataset.require_simulation("a pointing score")
    scenes = [stored_scene(dataset, int(index))[0] for index in indices]
    twins = [smooth_twin(scene) for scene in scenes]
    smooth = render_exact(twins, config.grid, config.instruments)
    change = change_in_sigma(
        render_exact(scenes, config.grid, config.instruments),
        smooth,
        twins,
        config.grid,
        config.instruments,
    )
    observer = np.sqrt((change**2).sum(axis=1))
    return Whereabouts(
        signed=change[:, 0],
        observer=observer,
        light=np.clip(smooth, 0.0, None).sum(axis=1),
        change=np.stack([densest(one**2) for one in observer]),
        mass=np.stack([near_mass(scene, config.grid) for scene in scenes]),
    )


def densest(values: Floats, share: float = SHARE) -> Mask:
    """The fewest pixels that hold a share of the sum of values (H, W), not negative."""
    order = np.argsort(values, axis=None)[::-1]
    below = np.cumsum(values.ravel()[order])
    total = below[-1]
    n = int(np.searchsorted(below, share * total)) + 1 if total > 0 else 0
    chosen = np.zeros(values.size, bool)
    chosen[order[:n]] = True
    return chosen.reshape(values.shape)


def near_mass(scene: Scene, grid: Grid) -> Mask:
    """Pixels within ``RADIUS`` of the vortex, or of the heaviest mass inside the image (H, W)."""
    pixels = Grid(grid.n_pix, grid.pixel_scale)
    x, y = pixels.rays()
    near = RADIUS * grid.pixel_scale
    truth = scene.truth
    if math.isfinite(truth.get("vortex_x", math.nan)):
        dx, dy = x - truth["vortex_x"], y - truth["vortex_y"]
        c, s = math.cos(truth["vortex_angle"]), math.sin(truth["vortex_angle"])
        beyond = np.maximum(np.abs(c * dx + s * dy) - truth["vortex_half_length"], 0.0)
        return np.asarray(np.hypot(beyond, c * dy - s * dx) <= near)
    masses, xs, ys = [np.zeros(0)], [np.zeros(0)], [np.zeros(0)]
    for group in scene.perturbers:
        masses.append(group.mass)
        xs.append(np.broadcast_to(group.params["center_x"], group.mass.shape))
        ys.append(np.broadcast_to(group.params["center_y"], group.mass.shape))
    mass, px, py = np.concatenate(masses), np.concatenate(xs), np.concatenate(ys)
    inside = (mass > 0) & (np.maximum(np.abs(px), np.abs(py)) < grid.half_width)
    if not inside.any():
        return np.zeros(x.shape, bool)
    k = np.flatnonzero(inside)[mass[inside].argmax()]
    return np.asarray(np.hypot(x - px[k], y - py[k]) <= near)
