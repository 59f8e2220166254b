"""Masses that a smooth model may lack: the deflection of each, per squared Einstein radius.

Round masses (Plummer spheres of each softening length) on a lattice over the image, and rods of
each half length and angle about the middle of the lens. A deflection is kept as a plane in each
block of pixels, its mean and its gradient there, which is what the light of a block can tell of it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.fit.config import Perturbers
from pipeline.physics.geometry import Grid
from pipeline.physics.profiles.array_api import Array
from pipeline.physics.profiles.halos import deflection_plummer
from pipeline.physics.profiles.rod import deflection_rod
from pipeline.physics.substructure import vortex

type Floats = NDArray[np.float64]

#: Mean along x and y, and the gradient (xx, xy, yy): of a potential, so that yx is xy.
N_FIELDS = 5
#: Blocks of pixels along a side of the image, about.
_N_BLOCKS = 40
#: Blocks from one place of the lattice to the next.
_SPACING = 1.25
#: Core of a rod over its half length, and its least, arcsec: as a vortex has by default.
_CORE_FRACTION, _LEAST_CORE = (
    float(vortex.Config.model_fields[name].default) for name in ("core_fraction", "core")
)
#: Angles of a rod: at least, and at most.
_FEWEST_ANGLES, _MOST_ANGLES = 3, 16


@dataclass(frozen=True)
class Dictionary:
    """Every mass that is looked for.

    Parameters
    ----------
    grid : Grid
    perturbers : Perturbers
    theta_E : float
        arcsec, of a typical lens.
    """

    grid: Grid
    perturbers: Perturbers
    theta_E: float

    @property
    def binning(self) -> int:
        """Pixels along a side of a block."""
        return max(1, round(self.grid.n_pix / _N_BLOCKS))

    @property
    def n_blocks(self) -> int:
        """Blocks along a side of the image; the last may reach beyond it."""
        return -(-self.grid.n_pix // self.binning)

    @property
    def block_size(self) -> float:
        """Side of a block, arcsec."""
        return self.binning * self.grid.pixel_scale

    @property
    def block_axis(self) -> Floats:
        """Middles of the blocks along an axis, arcsec."""
        first = -self.grid.half_width + 0.5 * self.block_size
        return np.asarray(first + self.block_size * np.arange(self.n_blocks))

    @property
    def lattice(self) -> Floats:
        """Places along an axis, arcsec."""
        step = _SPACING * self.block_size
        n_steps = math.floor(self.grid.half_width / step)
        return np.asarray(step * np.arange(-n_steps, n_steps + 1), np.float64)

    @cached_property
    def in_reach(self) -> NDArray[np.bool_]:
        """Places of the lattice where round masses are looked for, (L, L): the image's disc."""
        x, y = np.meshgrid(self.lattice, self.lattice)
        return np.asarray(np.hypot(x, y) <= self.grid.half_width)

    @cached_property
    def rods(self) -> Floats:
        """Half length, arcsec, angle, rad, and middle x, y, arcsec, of each rod: (R, 4)."""
        x, y = (a.ravel() for a in np.meshgrid(self.lattice, self.lattice))
        near = np.hypot(x, y) <= self.perturbers.rod_reach * self.theta_E
        middles = np.stack([x[near], y[near]], axis=1)
        found = [np.zeros((0, 4))]
        for half_length in self.perturbers.half_lengths:
            n_angles = math.ceil(math.pi * half_length / (_SPACING * self.block_size))
            n_angles = min(max(n_angles, _FEWEST_ANGLES), _MOST_ANGLES)
            for angle in np.pi * np.arange(n_angles) / n_angles:
                shape = np.broadcast_to([half_length, angle], middles.shape)
                found.append(np.concatenate([shape, middles], axis=1))
        return np.concatenate(found)

    @cached_property
    def groups(self) -> tuple[slice, ...]:
        """Masses of each softening length, then of each half length, in the order of ``fields``."""
        n_places = int(self.in_reach.sum())
        sizes = [n_places] * len(self.perturbers.softenings)
        lengths = self.rods[:, 0]
        sizes += [int(np.sum(lengths == length)) for length in self.perturbers.half_lengths]
        ends = np.cumsum(sizes)
        return tuple(slice(int(b - n), int(b)) for n, b in zip(sizes, ends, strict=True))

    def fields(self) -> NDArray[np.float32]:
        """Deflection of each mass of theta_E = 1 arcsec, (masses, 5, blocks): see the module."""
        x, y = (a.ravel()[self.in_reach.ravel()] for a in np.meshgrid(self.lattice, self.lattice))
        parts = [np.zeros((0, N_FIELDS, self.n_blocks**2), np.float32)]
        for softening in self.perturbers.softenings:
            params = (np.ones_like(x), np.full_like(x, softening), x, y)
            parts.append(self._planes(deflection_plummer, params))
        if len(self.rods):
            length, angle, x, y = self.rods.T
            core = np.maximum(_CORE_FRACTION * length, _LEAST_CORE)
            parts.append(self._planes(deflection_rod, (np.ones_like(x), length, angle, core, x, y)))
        return np.concatenate(parts)

    def _planes(
        self, deflection: Callable[..., tuple[Array, Array]], params: tuple[Floats, ...]
    ) -> NDArray[np.float32]:
        """Planes through the deflection at the middles of the quarters of each block."""
        x, y = (a.ravel().astype(np.float32) for a in np.meshgrid(self.block_axis, self.block_axis))
        step = np.float32(0.25 * self.block_size)
        columns = [p.astype(np.float32)[:, None] for p in params]
        found = np.zeros((len(columns[0]), N_FIELDS, len(x)), np.float32)
        for sign_x in (-1, 1):
            for sign_y in (-1, 1):
                a, b = deflection(x + sign_x * step, y + sign_y * step, *columns)
                along = np.float32(0.25) / step
                found[:, 0] += np.float32(0.25) * a
                found[:, 1] += np.float32(0.25) * b
                found[:, 2] += sign_x * along * a
                found[:, 3] += np.float32(0.5) * along * (sign_x * b + sign_y * a)
                found[:, 4] += sign_y * along * b
        return found
