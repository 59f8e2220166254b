"""A smooth lens as a compiled function: its image, and the derivatives of that image.

The image is linear in the fluxes, ``image = amplitudes @ columns``; everything else sits in the
columns. Derivatives use the chain of lensing: those of the source's brightness along its own plane
times those of the rays' places there, so that the ellipsoid is differentiated once and not once a
source. The formulas are those of ``physics``, as in the engines.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pipeline.fit import _basis
from pipeline.fit.config import FitConfig, PixelSource, ShapeletSource
from pipeline.fit.parameters import Coordinates
from pipeline.physics.geometry import Grid, axis_ratio_angle
from pipeline.physics.light import sersic_brightness
from pipeline.physics.profiles.macro import (
    convergence_epl,
    deflection_epl,
    deflection_shear,
    deflection_sie,
)
from pipeline.physics.profiles.multipoles import deflection_elliptical_multipole
from pipeline.physics.psf import Psf, blur_matrices

type Floats = NDArray[np.float64]
type Blur = Callable[[jax.Array], jax.Array]

#: Angles of a round shape are undefined: a rounder one is treated as if of this ellipticity.
_ROUNDEST = 1e-4
#: Relative size of what the series of the power law leaves out.
_SERIES_ERROR = 1e-6
#: XLA may not fuse across it; jax gives it no types.
_barrier: Callable[[Any], Any] = jax.lax.optimization_barrier


class SmoothModel:
    """Images of smooth lenses on one grid.

    Parameters
    ----------
    config : FitConfig
    grid : Grid
        Pixels of the image, and rays in them.
    psfs : sequence of Psf, length C
        Of the bands.
    binning : int
        Pixels of the image that become one along each side; divides ``grid.n_pix``.
    """

    def __init__(
        self, config: FitConfig, grid: Grid, psfs: Sequence[Psf], binning: int = 1
    ) -> None:
        self.coordinates = Coordinates(config)
        self.grid, self.binning = grid, binning
        self.n_bands = len(psfs)
        self.side = grid.n_pix // binning
        self._model = config.model
        self._dtype = np.dtype(config.precision)
        self._rays = tuple(np.asarray(axis, self._dtype) for axis in grid.rays())
        self._blurs = [_blur(psf, grid, binning, self._dtype) for psf in psfs]
        names = self.coordinates.names
        self._n_macro = next(k for k, name in enumerate(names) if name.startswith("source_"))
        self._sersics = [k for k, n in enumerate(names) if n.endswith("_r_eff")]
        self._scale = names.index("source_scale") if "source_scale" in names else None
        self._basis, self.regularisation = self._linear_basis()

    @property
    def _x(self) -> jax.Array:
        return jnp.asarray(self._rays[0])

    @property
    def _y(self) -> jax.Array:
        return jnp.asarray(self._rays[1])

    @property
    def n_columns(self) -> int:
        """Number of amplitudes in each band."""
        return len(self.regularisation)

    def _linear_basis(self) -> tuple[_basis.Basis | None, Floats]:
        """The linear basis, and the matrix (L, L) that regularises all amplitudes."""
        source = self._model.source
        basis, matrix = None, np.zeros((0, 0))
        if isinstance(source, ShapeletSource):
            basis, matrix = _basis.shapelets(source.n_max)
        elif isinstance(source, PixelSource):
            basis, matrix = _basis.pixels(source.n_side)
        n_free = len(self._sersics) + self._model.background
        whole = np.zeros((len(matrix) + n_free,) * 2)
        whole[: len(matrix), : len(matrix)] = matrix
        return basis, whole

    def columns(self, values: jax.Array) -> jax.Array:
        """Images of unit amplitude, shape (C, L, M), M pixels, of parameters (P,)."""
        bx, by = _barrier(self._traced(values[: self._n_macro]))
        rest = values[self._n_macro :]
        rays = [self._source_columns(bx, by, rest), *self._light_columns(values)]
        return self._on_pixels(jnp.concatenate(rays))

    def linearised(self, values: jax.Array, amplitudes: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Columns, and derivatives of ``amplitudes @ columns`` by the parameters.

        Parameters
        ----------
        values : jax.Array, shape (P,)
        amplitudes : jax.Array, shape (C, L)

        Returns
        -------
        columns : jax.Array, shape (C, L, M)
        derivatives : jax.Array, shape (C, P, M)
        """
        macro, rest = values[: self._n_macro], values[self._n_macro :]
        (bx, by), moves = _barrier(self._moved_rays(macro))
        n_source = self.n_source_columns
        along = self._along((bx, by, rest), amplitudes)
        slope_x, slope_y = self._source_slopes(along, bx, rest)
        by_macro = slope_x * moves[:, 0][:, None] + slope_y * moves[:, 1][:, None]  # (Pm, C, n, n)
        none = jnp.zeros_like(bx)
        by_rest = jax.lax.map(
            lambda direction: along((none, none, direction)), jnp.eye(len(rest), dtype=self._dtype)
        )
        tangents = jnp.concatenate([by_macro, by_rest])
        light = self._light_columns(values)
        if len(self._light_indices):
            tangents = tangents + self._light_tangents(values, amplitudes[:, n_source:])
        columns = jnp.concatenate([self._source_columns(bx, by, rest), *light])
        both = jnp.concatenate(
            [
                jnp.broadcast_to(columns, (self.n_bands, *columns.shape)),
                jnp.moveaxis(tangents, 1, 0),
            ],
            axis=1,
        )
        pixels = self._on_pixels_by_band(_barrier(both))
        return pixels[:, : len(columns)], pixels[:, len(columns) :]

    def slopes(
        self, values: jax.Array, amplitudes: jax.Array, middles: tuple[jax.Array, ...]
    ) -> jax.Array:
        """Derivatives of the image by five shifts of the rays in the source plane.

        By (1, 0), (0, 1), (dx, 0), (dy, dx) and (0, dy), dx, dy from the pixel's place to a ray's.

        Parameters
        ----------
        values : jax.Array, shape (P,)
        amplitudes : jax.Array, shape (C, L)
        middles : tuple of jax.Array, shape (M,) each
            Places x and y, arcsec, that belong to the pixels.

        Returns
        -------
        jax.Array, shape (C, 5, M)
        """
        rest = values[self._n_macro :]
        bx, by = _barrier(self._traced(values[: self._n_macro]))
        by_x, by_y = self._source_slopes(self._along((bx, by, rest), amplitudes), bx, rest)
        x, y, (at_x, at_y) = self._x, self._y, middles
        rays = jnp.stack([by_x, by_y, x * by_x, y * by_x, x * by_y, y * by_y], axis=1)
        p, q, xp, yp, xq, yq = jnp.moveaxis(self._on_pixels_by_band(rays), 1, 0)
        twist = (yp - at_y * p) + (xq - at_x * q)
        return jnp.stack([p, q, xp - at_x * p, twist, yq - at_y * q], axis=1)

    def _along(
        self, point: tuple[jax.Array, jax.Array, jax.Array], amplitudes: jax.Array
    ) -> Callable[[tuple[jax.Array, jax.Array, jax.Array]], jax.Array]:
        """Derivative (C, n, n) of the source's light at a point, in a direction, of the same form.

        A point is the places of the rays, along x and along y, and the source's own parameters.
        """
        flux = amplitudes[:, : self.n_source_columns]

        def along(direction: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
            tangent = jax.jvp(self._source_columns, point, direction)[1]
            mixed: jax.Array = jnp.tensordot(flux, tangent, 1)
            return mixed

        return along

    @staticmethod
    def _source_slopes(
        along: Callable[[tuple[jax.Array, jax.Array, jax.Array]], jax.Array],
        rays: jax.Array,
        rest: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """Derivatives (C, n, n) of the source's light by the rays' places along x and along y."""
        one, none, still = jnp.ones_like(rays), jnp.zeros_like(rays), jnp.zeros_like(rest)
        slopes: tuple[jax.Array, jax.Array] = _barrier(
            (along((one, none, still)), along((none, one, still)))
        )
        return slopes

    @property
    def n_free_amplitudes(self) -> int:
        """Number of amplitudes, of all bands, that nothing regularises."""
        held = int((self.regularisation.diagonal() > 0).sum())
        return self.n_bands * (self.n_columns - held)

    @property
    def n_source_columns(self) -> int:
        """Number of the first columns that are the source."""
        return self.n_columns - len(self._light_indices) - self._model.background

    @property
    def _light_indices(self) -> list[int]:
        return self._sersics[len(self._sersics) - self._model.lens_light :]

    @property
    def _source_indices(self) -> list[int]:
        return self._sersics[: len(self._sersics) - self._model.lens_light]

    def _ellipsoid(self, six: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Rays less the deflection of the ellipsoid, counted from the centre of the lens."""
        theta_E, slope, e1, e2, x, y = six
        q, phi = axis_ratio_angle(*_not_round(e1, e2))
        place = {"theta_E": theta_E, "q": q, "phi": phi, "center_x": x, "center_y": y}
        if self._model.macro.profile == "epl":
            limit = self.coordinates.parameters[2].high
            n_terms = math.ceil(math.log(_SERIES_ERROR) / math.log(limit))
            ax, ay = deflection_epl(self._x, self._y, slope=slope, n_terms=n_terms, **place)
        else:
            ax, ay = deflection_sie(self._x, self._y, **place)
        return self._x - x - ax, self._y - y - ay

    def _further(self, macro: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Deflection of the shear and the multipoles."""
        theta_E, _, e1, e2, x, y, gamma1, gamma2, *poles = macro
        total_x, total_y = deflection_shear(self._x, self._y, gamma1, gamma2, x, y)
        q, phi = axis_ratio_angle(*_not_round(e1, e2))
        for k, m in enumerate(self._model.macro.multipoles):
            turns = (0.0, 0.5 * np.pi / m)
            for strength, turn in zip(poles[2 * k : 2 * k + 2], turns, strict=True):
                a_m = strength * theta_E
                alpha_x, alpha_y = deflection_elliptical_multipole(
                    self._x, self._y, float(m), a_m, turn, q, phi, theta_E, x, y
                )
                total_x, total_y = total_x + alpha_x, total_y + alpha_y
        return total_x, total_y

    def _traced(self, macro: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Places of the rays in the source plane, from the centre of the lens."""
        bx, by = self._ellipsoid(macro[:6])
        ax, ay = self._further(macro)
        return bx - ax, by - ay

    def _moved_rays(self, macro: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        """Places of the rays, and their derivatives (Pm, 2, n, n) by the macro lens."""

        def move(direction: jax.Array) -> jax.Array:
            return jnp.stack(_barrier(jax.jvp(self._traced, (macro,), (direction,))[1]))

        # One direction after another, and a barrier before they are put together: mapped at once
        # XLA computes the series of the power law anew for every use of it.
        directions = jnp.eye(len(macro), dtype=self._dtype)
        traced = _barrier(self._traced(macro))
        if self._model.macro.multipoles:
            return traced, jax.lax.map(move, directions)
        is_epl = self._model.macro.profile == "epl"
        along_e, size = _direction(*_not_round(macro[2], macro[3]))
        by_slope = move(directions[1]) if is_epl else jnp.zeros((2, *traced[0].shape), self._dtype)
        by_flattening = move(directions[2] * along_e[0] + directions[3] * along_e[1])
        by_size, by_turn, *others = self._moved_in_closed_form(macro, traced)
        by_turn = by_turn / (2.0 * size)
        by_e1 = along_e[0] * by_flattening - along_e[1] * by_turn
        by_e2 = along_e[1] * by_flattening + along_e[0] * by_turn
        return traced, jnp.stack([by_size, by_slope, by_e1, by_e2, *others])

    def _moved_in_closed_form(
        self, macro: jax.Array, traced: tuple[jax.Array, jax.Array]
    ) -> list[jax.Array]:
        """Derivatives (2, n, n) of the rays' places that need no series.

        By theta_E, the angle of the ellipsoid, center_x, center_y, gamma1 and gamma2. With complex
        alpha and w = dx + i dy the ellipsoid's deflection changes by kappa dw + gamma dw*; as it is
        homogeneous of degree 2 - slope, gamma = ((2 - slope) alpha w - kappa w^2)/r^2
        (Tessore & Metcalf 2015).
        """
        theta_E, slope, e1, e2, x, y, gamma1, gamma2 = macro
        dx, dy = self._x - x, self._y - y
        # The ellipsoid's deflection is what shear and rays leave.
        alpha_x = dx - gamma1 * dx - gamma2 * dy - traced[0]
        alpha_y = dy - gamma2 * dx + gamma1 * dy - traced[1]
        q, phi = axis_ratio_angle(*_not_round(e1, e2))
        kappa = convergence_epl(dx, dy, theta_E, slope, q, phi)
        per_r2 = 1.0 / (dx * dx + dy * dy + 1e-20)
        share = 2.0 - slope
        shear1 = share * (alpha_x * dx - alpha_y * dy) - kappa * (dx * dx - dy * dy)
        shear2 = share * (alpha_x * dy + alpha_y * dx) - kappa * 2.0 * dx * dy
        shear1, shear2 = shear1 * per_r2, shear2 * per_r2
        turned_x = kappa * dy - shear2 * dx + shear1 * dy - alpha_y
        turned_y = alpha_x - kappa * dx + shear1 * dx + shear2 * dy
        growth = -(slope - 1.0) / theta_E  # alpha is proportional to theta_E^(slope - 1)
        total1, total2 = shear1 + gamma1, shear2 + gamma2
        moves = (
            (growth * alpha_x, growth * alpha_y),
            (-turned_x, -turned_y),
            (kappa + total1 - 1.0, total2),
            (total2, kappa - total1 - 1.0),
            (-dx, dy),
            (-dy, -dx),
        )
        return [jnp.stack(_barrier(move)) for move in moves]

    def _source_columns(self, bx: jax.Array, by: jax.Array, rest: jax.Array) -> jax.Array:
        """Brightness (L, n, n) of the source at places that count from the lens."""
        found = []
        if self._basis is not None:
            assert self._scale is not None
            scale = rest[self._scale - self._n_macro]
            u, v = (bx - rest[0]) / scale, (by - rest[1]) / scale
            found.append(self._basis(u, v))
        for k in self._source_indices:
            found.append(_sersic(bx, by, rest[k - 2 - self._n_macro : k + 4 - self._n_macro])[None])
        return jnp.concatenate(found)

    def _light_columns(self, values: jax.Array) -> list[jax.Array]:
        x, y = self._x - values[4], self._y - values[5]
        found = [_sersic(x, y, values[k - 2 : k + 4])[None] for k in self._light_indices]
        if self._model.background:
            area = self.grid.pixel_scale**2
            found.append(jnp.full((1, *self._x.shape), 1.0 / area, self._dtype))
        return found

    def _light_tangents(self, values: jax.Array, amplitudes: jax.Array) -> jax.Array:
        def along(direction: jax.Array) -> jax.Array:
            def light(v: jax.Array) -> jax.Array:
                return jnp.concatenate(self._light_columns(v))

            mixed: jax.Array = jnp.tensordot(
                amplitudes, jax.jvp(light, (values,), (direction,))[1], 1
            )
            return mixed

        return jax.vmap(along)(jnp.eye(len(values), dtype=values.dtype))

    def _on_pixels(self, rays: jax.Array) -> jax.Array:
        """Rays (L, n, n) to pixels (C, L, M) through each band's PSF."""
        return jnp.stack([blur(_barrier(rays)).reshape(len(rays), -1) for blur in self._blurs])

    def _on_pixels_by_band(self, rays: jax.Array) -> jax.Array:
        """Rays (C, K, n, n) to pixels (C, K, M)."""
        n = rays.shape[1]
        return jnp.stack(
            [blur(band).reshape(n, -1) for blur, band in zip(self._blurs, rays, strict=True)]
        )


def _sersic(x: jax.Array, y: jax.Array, six: jax.Array) -> jax.Array:
    """Brightness of a galaxy of parameters (x, y, r_eff, n, e1, e2)."""
    e1, e2 = _not_round(six[4], six[5])
    brightness: jax.Array = sersic_brightness(x - six[0], y - six[1], six[2], six[3], e1, e2)
    return brightness


def _direction(e1: jax.Array, e2: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """Direction and size of an ellipticity that is not round."""
    size = jnp.hypot(e1, e2)
    return (e1 / size, e2 / size), size


def _not_round(e1: jax.Array, e2: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.where(e1 * e1 + e2 * e2 < _ROUNDEST**2, e1 + _ROUNDEST, e1), e2


def _blur(psf: Psf, grid: Grid, binning: int, dtype: np.dtype[Any]) -> Blur:
    """Rays (K, n, n) to pixels (K, m, m): mean over each, PSF, times the area of a pixel."""
    matrix, kernel = blur_matrices(psf, grid)
    n = grid.n_pix // binning
    bins = np.repeat(np.eye(n), binning, axis=1)  # sums of pixels
    if kernel is None:
        left = jnp.asarray(bins @ matrix * grid.pixel_scale, dtype)
        return lambda rays: _sandwich(left, rays)
    side, coarse = jnp.asarray(matrix * grid.pixel_scale, dtype), jnp.asarray(bins, dtype)
    half, size = len(kernel) // 2, grid.n_pix + 4 * (len(kernel) // 2)
    transfer = jnp.asarray(
        np.fft.rfft2(kernel, s=(size, size)), np.result_type(dtype, np.complex64)
    )
    inside = slice(2 * half, 2 * half + grid.n_pix)

    def blur(rays: jax.Array) -> jax.Array:
        padded = jnp.pad(_sandwich(side, rays), ((0, 0), (half, half), (half, half)), mode="edge")
        wide = jnp.fft.irfft2(jnp.fft.rfft2(padded, s=(size, size)) * transfer, s=(size, size))
        pixels = wide[:, inside, inside].astype(dtype)
        return pixels if binning == 1 else _sandwich(coarse, pixels)

    return blur


def _sandwich(left: jax.Array, values: jax.Array) -> jax.Array:
    """Left times each of values (K, n, n) times left transposed, in full precision on a GPU too."""
    half = jnp.matmul(values, left.T, precision="highest")
    return jnp.matmul(left, half, precision="highest")
