"""Where a small mass would explain what a smooth fit leaves: linear gravitational imaging.

A mass of squared Einstein radius m at a place p, softened by s, changes the image by m t, to first
order, with t(theta) = -(gradient of the source) . (theta - p)/(|theta - p|^2 + s^2), blurred by the
PSF, which is small beside the template and is therefore applied to the gradient alone. With
everything in units of sigma, residual r and the derivatives B of the image by all parameters of the
fit, their priors included, m has the estimate T/N +- 1/sqrt N where

    T = t . r,    N = t . t - (B t) . (B B^T + prior)^-1 (B t):

the fit would follow part of the change, and that part says nothing (compare the potential
corrections of Koopmans 2005 and Vegetti & Koopmans 2009). T and t . t are correlations of fields
with fixed kernels; these are written as sums of Gaussians, which act on rows and columns in turn.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pipeline.physics.geometry import Grid

type Floats = NDArray[np.float64]

#: A priori standard deviation of the squared Einstein radius of such a mass, arcsec^2.
PRIOR = 1e-2
#: Pixels of the image along a pixel of N, which is smooth.
_STEP = 2
#: Least share of t . t that the fit leaves.
_LEAST = 0.02
#: Step of the rates of Gaussians, in their logarithm.
_LOG_STEP = 1.25
#: Ridge on normalised derivatives, as in the solver's own equations.
_RIDGE = 1e-4


class ResponseMaps:
    """Maps of T/sqrt(N + 1/prior^2): how significantly the data ask for a mass at each place.

    Parameters
    ----------
    grid : Grid
        Places are the pixels of its image.
    softenings : tuple of float
        arcsec; a map for each.
    """

    def __init__(self, grid: Grid, softenings: tuple[float, ...]) -> None:
        self._n = grid.n_pix
        self._n_coarse = -(-grid.n_pix // _STEP)
        rates, weights = _exponentials(grid, min(softenings))
        damped = np.exp(-rates * np.square(softenings)[:, None])
        # As 1/R^2 and 1/R^4 are integrals of exp(-t R^2) and t exp(-t R^2) over t.
        self._weights = jnp.asarray(weights * damped)
        self._square_weights = jnp.asarray(weights * rates * damped)
        self._fine = _moments(self._n, grid.pixel_scale, rates)
        self._coarse = _moments(self._n_coarse, grid.pixel_scale * _STEP, rates)

    def __call__(
        self, slopes: jax.Array, residual: jax.Array, derivatives: jax.Array, prior: jax.Array
    ) -> jax.Array:
        """Maps (S, n, n) of one image.

        Parameters
        ----------
        slopes : jax.Array, shape (C, 2, M)
            Derivatives of the image by a shift of the rays in the source plane, over sigma.
        residual : jax.Array, shape (C, M)
            Over sigma.
        derivatives : jax.Array, shape (K, C, M)
            Of the image by every parameter and amplitude of the fit, over sigma.
        prior : jax.Array, shape (K, K)
            Half the second derivatives of -2 ln prior by these.
        """
        n = self._n
        # A deflection moves the rays in the source plane by its negative.
        slopes = -slopes.reshape(*slopes.shape[:2], n, n)
        pull = jnp.sum(slopes * residual.reshape(-1, 1, n, n), 0)
        size = jnp.sqrt(jnp.sum(derivatives**2, (1, 2)) + jnp.diagonal(prior))
        scale = jnp.where(size > 0, 1.0 / jnp.where(size > 0, size, 1.0), 0.0)
        unit = derivatives * scale[:, None, None]
        inner = jnp.einsum("kcm,lcm->kl", unit, unit, precision="highest")
        inner = (
            inner + prior * scale[:, None] * scale + _RIDGE * jnp.eye(len(unit), dtype=unit.dtype)
        )
        factor = jnp.linalg.cholesky(inner)
        flat = unit.reshape(len(unit), -1)
        basis = jax.lax.linalg.triangular_solve(factor, flat, left_side=True, lower=True)
        flat_slopes = slopes.reshape(*slopes.shape[:2], -1)
        basis = basis.reshape(derivatives.shape)
        shared = jnp.einsum("kcm,cdm->kdm", basis, flat_slopes, precision="highest")
        shared = _pulled(self._binned(shared), self._coarse, self._weights)
        x, y = slopes[:, 0], slopes[:, 1]
        squares = jnp.stack([jnp.sum(a, 0) for a in (x * x, 2.0 * x * y, y * y)])
        whole = _squared(self._binned(squares.reshape(3, -1)), self._coarse, self._square_weights)
        known = jnp.maximum(whole - jnp.sum(shared**2, 0), _LEAST * whole)
        wide = (len(known), _STEP * self._n_coarse, _STEP * self._n_coarse)
        known = jax.image.resize(known, wide, "linear")[:, :n, :n]
        found = _pulled(pull[None], self._fine, self._weights)[0]
        maps: jax.Array = found * jax.lax.rsqrt(known + PRIOR**-2)
        return maps

    def _binned(self, fields: jax.Array) -> jax.Array:
        """Sums of fields (..., n n) over pixels of N, (..., m, m)."""
        n, m = self._n, self._n_coarse
        square = fields.reshape(*fields.shape[:-1], n, n)
        rest = [(0, 0)] * (square.ndim - 2) + [(0, _STEP * m - n)] * 2
        blocks = jnp.pad(square, rest).reshape(*square.shape[:-2], m, _STEP, m, _STEP)
        return blocks.sum((-3, -1))


def _exponentials(grid: Grid, least: float) -> tuple[Floats, Floats]:
    """Rates t and weights w of 1/R^2 = sum of w exp(-t R^2), from the least R to all of the image.

    The trapezoidal rule in ln t: its error is 0.5 % for steps of 1.25.
    """
    farthest = 2.0 * math.sqrt(2.0) * grid.half_width
    low, high = math.log(0.05 / farthest**2), math.log(6.0 / least**2)
    logs = np.arange(low, high + _LOG_STEP, _LOG_STEP)
    return np.exp(logs), _LOG_STEP * np.exp(logs)


def _moments(n: int, spacing: float, rates: Floats) -> jax.Array:
    """Matrices d^j exp(-t d^2), (3, T, n, n), of the distance d from a place to a pixel, j < 3."""
    steps = np.arange(n) * spacing
    distance = steps - steps[:, None]
    bell = np.exp(-rates[:, None, None] * distance**2)
    return jnp.asarray(np.stack([bell, distance * bell, distance**2 * bell]))


def _pulled(fields: jax.Array, moments: jax.Array, weights: jax.Array) -> jax.Array:
    """Fields (F, 2, n, n) of vectors along (theta - p)/(|theta - p|^2 + s^2): (F, S, n, n)."""
    flat, slanted, _ = moments.astype(fields.dtype)
    return _summed(((flat, fields[:, 0], slanted), (slanted, fields[:, 1], flat)), weights)


def _squared(fields: jax.Array, moments: jax.Array, weights: jax.Array) -> jax.Array:
    """Sums (S, n, n) of xx, xy and yy of ``fields`` (3, n, n) by the squares of that kernel."""
    flat, slanted, curved = moments.astype(fields.dtype)
    xx, xy, yy = fields[:, None]
    parts = ((flat, xx, curved), (slanted, xy, slanted), (curved, yy, flat))
    return _summed(parts, weights)[0]


def _summed(
    parts: Sequence[tuple[jax.Array, jax.Array, jax.Array]], weights: jax.Array
) -> jax.Array:
    """Sums over parts and T of weights (S, T), rows (T, n, n), field, columns (T, n, n) transposed.

    Fields (F, n, n) are mapped at once, so that everything is a product of two large matrices, in
    full precision on a GPU too.
    """
    product = functools.partial(jnp.matmul, precision="highest")
    n_terms, n, _ = parts[0][0].shape
    halves = []
    for _, field, columns in parts:
        across = product(field.reshape(-1, n), columns.reshape(-1, n).T)  # (F n, T n)
        halves.append(jnp.moveaxis(across.reshape(len(field), n, n_terms, n), 2, 0))
    half = jnp.concatenate(halves, axis=2)  # (T, F, parts n, n)
    half = jnp.moveaxis(half, 1, 2).reshape(n_terms, len(parts) * n, -1)
    rows = jnp.concatenate([rows for rows, _, _ in parts], axis=2)  # (T, n, parts n)
    terms = jnp.stack([product(rows[k], half[k]) for k in range(n_terms)])
    total = product(weights.astype(terms.dtype), terms.reshape(n_terms, -1))
    return jnp.moveaxis(total.reshape(len(weights), n, -1, n), 2, 0)
