"""Where a small mass would explain what a smooth fit leaves: linear gravitational imaging.

A mass of squared Einstein radius m at some place changes the image by m t, to first order, with t
the blurred product of the source's gradient and minus the deflection for m = 1. With everything in
units of sigma, residual r and an orthonormal basis Q of the changes that the fit itself can follow,
its priors included, the logarithm of the likelihood gains m T - m^2 N / 2 where

    T = t . r,    N = t . t - |Q t|^2:

what the fit would have followed says nothing (compare the potential corrections of Koopmans 2005
and Vegetti & Koopmans 2009). A distant mass only moves and shears the image; N is a hundredth of
t . t and less, so both are found from one and the same t: the deflection is a plane in each block
of pixels (``_dictionary.py``), exact to the first order through PSF and block, and T, Q t and t . t
are products with sums over each block.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pipeline.engines import _jax_setup
from pipeline.fit._dictionary import N_FIELDS, Dictionary
from pipeline.physics.geometry import Grid
from pipeline.physics.profiles.array_api import Array

#: A priori standard deviation of the squared Einstein radius of the masses in the maps, arcsec^2.
PRIOR = 1e-2
#: Least share of t . t that the fit leaves.
_LEAST = 3e-4
#: Values of theta_E over which Bayes factors are averaged.
N_SIZES = 12
#: Ridge on normalised derivatives, as in the solver's own equations.
_RIDGE = 1e-5
#: Masses of one step, and on a CPU images: small enough for its cache, many enough for its speed.
_MASSES, _IMAGES = 64, 4
#: Pairs of fields, and how often each counts in a square.
_PAIRS = tuple((a, b) for a in range(N_FIELDS) for b in range(a, N_FIELDS))


class Response:
    """Maps of T/sqrt(N + 1/prior^2), and Bayes factors, of every mass of a dictionary.

    Parameters
    ----------
    dictionary : Dictionary
    """

    def __init__(self, dictionary: Dictionary) -> None:
        self._dictionary = dictionary
        self._groups = dictionary.groups
        self._n_maps = len(dictionary.perturbers.softenings)
        self._n_masses = self._groups[-1].stop
        fields = dictionary.fields()
        missing = -len(fields) % _MASSES
        fields = np.pad(fields, ((0, missing), (0, 0), (0, 0)))
        self._fields = jnp.asarray(fields.reshape(-1, _MASSES, *fields.shape[1:]))
        axis = dictionary.block_axis.repeat(dictionary.binning)[: dictionary.grid.n_pix]
        #: Middle of the block of each pixel, arcsec: x and y, each of shape (M,).
        self.middles = tuple(jnp.asarray(a.ravel(), jnp.float32) for a in np.meshgrid(axis, axis))
        low, high = np.log(dictionary.perturbers.theta_E)
        steps = (np.arange(N_SIZES) + 0.5) / N_SIZES
        self._sizes = np.exp(low + (high - low) * steps) ** 2
        self._compiled: Callable[..., tuple[Array, Array]] = jax.jit(
            self._evaluate, compiler_options=_jax_setup.ONE_THREAD
        )

    def traces(
        self, slopes: jax.Array, residual: jax.Array, derivatives: jax.Array, prior: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Sums over blocks of one image: (K + 1, 5 J) for Q and r, and (15 J) for t . t.

        Parameters
        ----------
        slopes : jax.Array, shape (C, 5, M)
            Derivatives of the image by the five fields of a shift of the rays in the source plane,
            over sigma.
        residual : jax.Array, shape (C, M)
            Over sigma.
        derivatives : jax.Array, shape (K, C, M)
            Of the image by every parameter and amplitude of the fit, over sigma.
        prior : jax.Array, shape (K, K)
            Half the second derivatives of -2 ln prior by these.
        """
        size = jnp.sqrt(jnp.sum(derivatives**2, (1, 2)) + jnp.diagonal(prior))
        scale = jnp.where(size > 0, 1.0 / jnp.where(size > 0, size, 1.0), 0.0)
        unit = derivatives * scale[:, None, None]
        inner = jnp.einsum("kcm,lcm->kl", unit, unit, precision="highest")
        ridge = _RIDGE * jnp.eye(len(unit), dtype=unit.dtype)
        factor = jnp.linalg.cholesky(inner + prior * scale[:, None] * scale + ridge)
        # By the inverse of the factor: XLA solves for many right-hand sides slowly.
        eye = jnp.eye(len(unit), dtype=unit.dtype)
        inverse = jax.lax.linalg.triangular_solve(factor, eye, left_side=True, lower=True)
        basis = jnp.matmul(inverse, unit.reshape(len(unit), -1), precision="highest")
        rows = jnp.concatenate([basis.reshape(derivatives.shape), residual[None]])
        # A deflection moves the rays in the source plane by its negative.
        linear = self._summed(jnp.sum(rows[:, :, None] * -slopes, 1))
        squares = jnp.stack([jnp.sum(slopes[:, a] * slopes[:, b], 0) for a, b in _PAIRS])
        return linear.reshape(len(rows), -1), self._summed(squares).reshape(-1)

    def __call__(self, n_images: int, linear: Array, squares: Array) -> tuple[Array, Array]:
        """Maps (B, S, n, n) and logarithms of Bayes factors (B, G) of a batch of traces.

        Parameters
        ----------
        n_images : int
            The first of the batch that count; on a CPU the others cost nothing and hold nothing.
        linear : Array, shape (B, K + 1, 5 J)
        squares : Array, shape (B, 15 J)
        """
        return self._compiled(n_images, self._fields, linear, squares)

    def of_batch(
        self, linear: Array, squares: Array, size: int
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Maps and logarithms of Bayes factors of n images, with the code compiled for ``size``."""
        n = len(linear)
        missing = size - n
        linear = np.pad(linear, ((0, missing), (0, 0), (0, 0)))
        maps, bayes = self(n, linear, np.pad(squares, ((0, missing), (0, 0))))
        return np.asarray(maps[:n]), np.asarray(bayes[:n], np.float64)

    def significances(
        self, n_images: int, linear: Array, squares: Array
    ) -> tuple[jax.Array, jax.Array]:
        """T and N, (B, masses) each, of every mass of the dictionary; parameters as in a call."""
        return self._products(n_images, self._fields, linear, squares)

    def _summed(self, fields: jax.Array) -> jax.Array:
        """Sums of fields (..., M) over blocks, (..., J)."""
        n, b, m = self._dictionary.grid.n_pix, self._dictionary.binning, self._dictionary.n_blocks
        square = fields.reshape(*fields.shape[:-1], n, n)
        rest = [(0, 0)] * (square.ndim - 2) + [(0, b * m - n)] * 2
        square = jnp.pad(square, rest)
        # Strided sums: XLA's reduction over short axes is several times slower.
        square = functools.reduce(jnp.add, (square[..., k::b, :] for k in range(b)))
        square = functools.reduce(jnp.add, (square[..., k::b] for k in range(b)))
        return square.reshape(*fields.shape[:-1], m * m)

    def _evaluate(
        self, n_images: Array, fields: jax.Array, linear: jax.Array, squares: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        found, known = self._products(n_images, fields, linear, squares)
        maps = self._maps(found * jax.lax.rsqrt(known + PRIOR**-2))
        return maps, self._bayes(found, known)

    def _products(
        self, n_images: Array, fields: jax.Array, linear: jax.Array, squares: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """T and N of every mass, (B, masses) each."""
        n_batch, n_rows, _ = linear.shape
        on_cpu = jax.default_backend() == "cpu"
        size = _IMAGES if on_cpu else n_batch
        missing = -n_batch % size
        linear = jnp.pad(linear, ((0, missing), (0, 0), (0, 0))).reshape(
            -1, size * n_rows, linear.shape[2]
        )
        squares = jnp.pad(squares, ((0, missing), (0, 0))).reshape(-1, size, squares.shape[1])
        n_steps = (n_images + size - 1) // size if on_cpu else 1

        def of_masses(some: jax.Array) -> jax.Array:
            flat = some.reshape(_MASSES, -1)
            twice = jnp.stack([(1 + (a != b)) * some[:, a] * some[:, b] for a, b in _PAIRS], 1)
            twice = twice.reshape(_MASSES, -1)

            def of_images(k: jax.Array, answer: jax.Array) -> jax.Array:
                along = jnp.matmul(flat, linear[k].T, precision="highest")
                along = along.reshape(_MASSES, size, n_rows)
                whole = jnp.matmul(twice, squares[k].T, precision="highest")
                left = whole - jnp.sum(along[:, :, :-1] ** 2, 2)
                known = jnp.maximum(left, _LEAST * whole)
                return answer.at[k].set(jnp.stack([along[:, :, -1], known]))

            empty = jnp.zeros((len(linear), 2, _MASSES, size), linear.dtype)
            filled: jax.Array = jax.lax.fori_loop(0, n_steps, of_images, empty)
            return filled

        all_masses = jnp.moveaxis(jax.lax.map(of_masses, fields), 0, 2)  # (steps, 2, ., ., size)
        flat = all_masses.reshape(len(linear), 2, -1, size)[:, :, : self._n_masses]
        both = jnp.moveaxis(flat, 3, 1).reshape(-1, 2, self._n_masses)[:n_batch]
        return both[:, 0], both[:, 1]

    def _maps(self, values: jax.Array) -> jax.Array:
        """Values of the round masses, on the pixels of the image: linear between places."""
        dictionary, side = self._dictionary, len(self._dictionary.lattice)
        where = np.flatnonzero(dictionary.in_reach)
        n = self._n_maps
        flat = jnp.zeros((len(values), n, side**2), values.dtype)
        maps = flat.at[:, :, where].set(
            values[:, : n * len(where)].reshape(len(values), n, len(where))
        )
        pixels = Grid(dictionary.grid.n_pix, dictionary.grid.pixel_scale).axis()
        distance = pixels[:, None] - dictionary.lattice
        step = np.diff(dictionary.lattice[:2])
        hats = jnp.asarray(np.maximum(0.0, 1.0 - np.abs(distance) / step), values.dtype)
        square = maps.reshape(len(values), n, side, side)
        return jnp.einsum("yi,bsij,xj->bsyx", hats, square, hats, precision="highest")

    def _bayes(self, found: jax.Array, known: jax.Array) -> jax.Array:
        """Ln of the mean gain in likelihood over the masses of each group and over their sizes."""
        factors = []
        for group in self._groups:
            gains = [m * found[:, group] - 0.5 * m**2 * known[:, group] for m in self._sizes]
            every = jnp.concatenate(gains, axis=1)
            factors.append(jax.nn.logsumexp(every, axis=1) - np.log(every.shape[1]))
        return jnp.stack(factors, axis=1)
