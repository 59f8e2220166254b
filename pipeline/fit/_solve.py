"""Levenberg-Marquardt for one image, compiled for batches: the maximum of the posterior.

Minimises |w (d - a Phi(z))|^2 + lambda a R a + |z|^2 in the whitened coordinates z; the amplitudes
a are at their own minimum in every step (variable projection, Golub & Pereyra 1973, in the
approximation of Kaufman 1975). Damping and convergence belong to each image alone.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pipeline.engines import _jax_setup
from pipeline.fit._model import SmoothModel
from pipeline.physics.profiles.array_api import Array

#: Longest step, in widths of the prior.
_LONGEST = 1.5
#: Damping at the start, its factors after a good and a bad step, and where a fit is stuck.
_DAMPING, _EASE, _STIFFEN, _STUCK = 1e-2, 0.2, 6.0, 1e7
#: Ridge on normalised amplitudes: keeps a column that vanishes from breaking the solution.
_RIDGE = 3e-6
#: Rounds of the evidence's fixed point each time it is consulted.
_EVIDENCE_ROUNDS = 5


class Observed(NamedTuple):
    """What was seen of one image.

    ``image`` and ``usable`` (0 or 1) have the shape (C, M); the variance of a pixel is
    ``floor + slope * max(model, 0)``, each of shape (C, M).
    """

    image: Array
    usable: Array
    floor: Array
    slope: Array


class State(NamedTuple):
    """Where the fit of one image stands."""

    z: Array  # (P,)
    amplitudes: Array  # (C, L)
    cost: Array
    damping: Array
    strength: Array  # (C,), lambda of the regularisation
    n_iterations: Array
    done: Array


class Linear(NamedTuple):
    """The image of one state, to first order."""

    columns: Array  # (C, L, M)
    tangents: Array  # (C, P, M), by the parameters
    chain: Array  # (P, P), derivatives of the parameters by z


class Solver:
    """Compiled pieces of the fit for one model; each takes one image and is mapped over batches.

    Parameters
    ----------
    model : SmoothModel
    tolerance : float
        Predicted gain of a step, in -2 ln posterior, that ends a fit.
    robust : float or None
        Residual, in sigma, beyond which a pixel counts less (Huber 1964).
    """

    def __init__(self, model: SmoothModel, tolerance: float, robust: float | None = None) -> None:
        self.model = model
        self._tolerance = tolerance
        self._robust = robust

    def weigh(self, seen: Observed, expected: jax.Array, haze: jax.Array | float) -> jax.Array:
        """Weights (C, M) of pixels whose expected image is ``expected``: 1/sigma, or less.

        ``haze`` is added to every sigma: it smooths what the solver sees of a bright image.
        Outliers from the expected image are lowered if the fit is robust.
        """
        variance = seen.floor + seen.slope * jnp.maximum(expected, 0.0) + haze**2
        weights: jax.Array = jax.lax.rsqrt(jnp.maximum(variance, 1e-30)) * seen.usable
        if self._robust is None:
            return weights
        size = jnp.abs(seen.image - expected) * weights
        share: jax.Array = jnp.minimum(1.0, self._robust / jnp.maximum(size, 1e-6))
        return weights * jnp.sqrt(share)

    def begin(self, z: jax.Array, strength: jax.Array, seen: Observed, weights: jax.Array) -> State:
        """State of a start; the regularisation ``strength`` (C,) is found anew if it is used."""
        if self.model.regularisation.any():
            first = self._first_strength(z, weights)
            strength = jnp.where(strength > 0, strength, first)
            strength = self._evidence_strength(z, strength, seen, weights)
        cost, amplitudes = self._evaluate(z, seen, weights, strength)
        return State(
            z=z,
            amplitudes=amplitudes,
            cost=cost,
            damping=jnp.asarray(_DAMPING, z.dtype),
            strength=strength,
            n_iterations=jnp.asarray(0),
            done=~jnp.isfinite(cost) | ~jnp.any(weights > 0),  # blank images cost no step
        )

    def improve(self, state: State, seen: Observed, weights: jax.Array, n_steps: int) -> State:
        """At most ``n_steps`` steps; fewer where the fit ends earlier."""
        last = state.n_iterations + n_steps

        def goes_on(state: State) -> jax.Array:
            going: jax.Array = ~state.done & (state.n_iterations < last)
            return going

        def step(state: State) -> State:
            return self._step(state, seen, weights)

        last_state: State = jax.lax.while_loop(goes_on, step, state)
        return last_state

    def expected(self, state: State) -> jax.Array:
        """Model image, shape (C, M)."""
        columns = self.model.columns(self.model.coordinates.values(state.z))
        return _mix(state.amplitudes, columns)

    def expected_without_source(self, state: State) -> jax.Array:
        """Model image, shape (C, M), of the light of the lens and the background alone."""
        columns = self.model.columns(self.model.coordinates.values(state.z))
        n = self.model.n_source_columns
        return _mix(state.amplitudes[:, n:], columns[:, n:])

    def linearised(self, state: State) -> Linear:
        """The image about a state."""
        values = self.model.coordinates.values
        chain = jax.jacfwd(values)(state.z)
        return Linear(*self.model.linearised(values(state.z), state.amplitudes), chain)

    def curvature(
        self, linear: Linear, state: State, seen: Observed, weights: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Half the second derivatives of the cost by z, (P, P), and ln det of the amplitudes'."""
        hessian, _, log_det = self._normal(linear, state, seen, weights)
        return hessian, log_det

    def derivatives(
        self, linear: Linear, state: State, weights: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Weighted derivatives (K, C, M) of the image by z and all amplitudes, and their prior.

        The prior (K, K) is half the second derivatives of the cost that are not the data's.
        """
        columns, tangents, chain = linear
        n_bands, n_columns, n_pixels = columns.shape
        by_z = jnp.einsum("pq,cpm->qcm", chain, tangents * weights[:, None])
        own = jnp.eye(n_bands, dtype=weights.dtype)[:, None, :, None]
        by_amplitude = own * (columns * weights[:, None])[:, :, None]
        by_amplitude = by_amplitude.reshape(n_bands * n_columns, n_bands, n_pixels)
        blocks = [jnp.eye(len(state.z), dtype=state.z.dtype), *self._penalty(state.strength)]
        return jnp.concatenate([by_z, by_amplitude]), jax.scipy.linalg.block_diag(*blocks)

    def _step(self, state: State, seen: Observed, weights: jax.Array) -> State:
        hessian, gradient, _ = self._normal(self.linearised(state), state, seen, weights)
        diagonal = jnp.diagonal(hessian)
        shift = _solve(hessian + jnp.diag(state.damping * diagonal), gradient)
        shift = shift * jnp.minimum(1.0, _LONGEST / jnp.maximum(jnp.max(jnp.abs(shift)), 1e-12))
        trial = state.z + shift
        cost, amplitudes = self._evaluate(trial, seen, weights, state.strength)
        better = cost < state.cost  # false for NaN
        gain = shift @ gradient
        damping = state.damping * jnp.where(better, _EASE, _STIFFEN)
        small = (gain < self._tolerance) & (state.damping < 1.0)
        return state._replace(
            z=jnp.where(better, trial, state.z),
            amplitudes=jnp.where(better, amplitudes, state.amplitudes),
            cost=jnp.where(better, cost, state.cost),
            damping=jnp.maximum(damping, 1e-8),
            n_iterations=state.n_iterations + 1,
            done=small | (damping > _STUCK) | ~jnp.isfinite(gain),
        )

    def _normal(
        self, linear: Linear, state: State, seen: Observed, weights: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Projected normal matrix (P, P), its right-hand side (P,), ln det of the amplitudes'."""
        columns, tangents, chain = linear
        residual = (seen.image - _mix(state.amplitudes, columns)) * weights
        columns, tangents = columns * weights[:, None], tangents * weights[:, None]
        inner = _products(columns, columns) + self._penalty(state.strength)  # (C, L, L)
        cross = _products(columns, tangents)  # (C, L, P)
        factor, scale = _factor(inner)
        half = jax.lax.linalg.triangular_solve(
            factor, cross * scale[:, :, None], left_side=True, lower=True
        )
        projected = jnp.sum(_products(tangents, tangents), 0) - jnp.einsum(
            "clp,clq->pq", half, half, precision="highest"
        )
        slope = jnp.einsum("cpm,cm->p", tangents, residual, precision="highest")
        log_det = 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor, axis1=1, axis2=2)) - jnp.log(scale))
        hessian = chain.T @ projected @ chain + jnp.eye(len(state.z), dtype=state.z.dtype)
        return hessian, chain.T @ slope - state.z, log_det

    def _evaluate(
        self, z: jax.Array, seen: Observed, weights: jax.Array, strength: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Cost at z with the best amplitudes, and these (C, L)."""
        columns = self.model.columns(self.model.coordinates.values(z)) * weights[:, None]
        data = seen.image * weights
        inner = _products(columns, columns) + self._penalty(strength)
        right = jnp.einsum("clm,cm->cl", columns, data, precision="highest")
        factor, scale = _factor(inner)
        half = jax.scipy.linalg.cho_solve((factor, True), (right * scale)[:, :, None])
        amplitudes = scale * half[:, :, 0]
        residual = data - _mix(amplitudes, columns)
        held = jnp.einsum("cl,lk,ck->c", amplitudes, self._matrix(z.dtype), amplitudes)
        cost = jnp.sum(residual * residual) + jnp.sum(strength * held) + jnp.sum(z * z)
        return cost, amplitudes

    def _matrix(self, dtype: jnp.dtype) -> jax.Array:
        return jnp.asarray(self.model.regularisation, dtype)

    def _penalty(self, strength: jax.Array) -> jax.Array:
        return strength[:, None, None] * self._matrix(strength.dtype)

    def _first_strength(self, z: jax.Array, weights: jax.Array) -> jax.Array:
        """A hundredth of what the data say, until the evidence is asked."""
        columns = self.model.columns(self.model.coordinates.values(z)) * weights[:, None]
        n_held = jnp.asarray(jnp.diagonal(self._matrix(z.dtype)) > 0, z.dtype)
        size = jnp.einsum("clm,clm,l->c", columns, columns, n_held)
        return 1e-2 * size / jnp.trace(self._matrix(z.dtype))

    def _evidence_strength(
        self, z: jax.Array, strength: jax.Array, seen: Observed, weights: jax.Array
    ) -> jax.Array:
        """Fixed point lambda = gamma / (a R a) of the evidence (MacKay 1992), (C,)."""
        columns = self.model.columns(self.model.coordinates.values(z)) * weights[:, None]
        right = jnp.einsum("clm,cm->cl", columns, seen.image * weights, precision="highest")
        inner, matrix = _products(columns, columns), self._matrix(z.dtype)
        rank = int((self.model.regularisation.diagonal() > 0).sum())

        def one_round(_: int, strength: jax.Array) -> jax.Array:
            factor, scale = _factor(inner + self._penalty(strength))

            def solved(right: jax.Array) -> jax.Array:
                return scale[:, :, None] * jax.scipy.linalg.cho_solve(
                    (factor, True), right * scale[:, :, None]
                )

            amplitudes = solved(right[:, :, None])[:, :, 0]
            spread = jnp.trace(solved(jnp.broadcast_to(matrix, inner.shape)), axis1=1, axis2=2)
            held = jnp.einsum("cl,lk,ck->c", amplitudes, matrix, amplitudes)
            n_good = jnp.clip(rank - strength * spread, 0.5, rank)
            return n_good / jnp.maximum(held, 1e-30)

        found: jax.Array = jax.lax.fori_loop(0, _EVIDENCE_ROUNDS, one_round, strength)
        return found


def mapped(function: Callable[..., Array]) -> Callable[..., Array]:
    """``function`` of one image for a batch: one after another on a CPU, together on a GPU.

    The first argument of what is returned is the number of images; on a CPU what lies behind them
    in the batch costs nothing and is answered by zeros. An image's arrays then stay in cache, and a
    fit that ends early makes no other wait.
    """

    def one_by_one(n_images: Array, *batch: Array) -> Array:
        def row(k: Array) -> Array:
            return function(*jax.tree.map(lambda a: a[k], batch))

        def step(k: Array, answers: Array) -> Array:
            return jax.tree.map(lambda a, new: a.at[k].set(new), answers, row(k))

        size = len(jax.tree.leaves(batch)[0])
        one = jax.eval_shape(row, 0)
        empty = jax.tree.map(lambda a: jnp.zeros((size, *a.shape), a.dtype), one)
        return jax.lax.fori_loop(0, n_images, step, empty)

    def batched(n_images: Array, *batch: Array) -> Array:
        if jax.default_backend() == "cpu":
            return one_by_one(n_images, *batch)
        return jax.vmap(function)(*batch)

    compiled: Callable[..., Array] = jax.jit(batched, compiler_options=_jax_setup.ONE_THREAD)
    return compiled


def _mix(amplitudes: jax.Array, columns: jax.Array) -> jax.Array:
    return jnp.einsum("cl,clm->cm", amplitudes, columns, precision="highest")


def _products(one: jax.Array, other: jax.Array) -> jax.Array:
    """Scalar products over pixels, (C, i, j), in full precision on a GPU too."""
    return jnp.einsum("cim,cjm->cij", one, other, precision="highest")


def _factor(inner: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cholesky factor of positive matrices (C, L, L) scaled to unit diagonals, and the scales."""
    diagonal = jnp.diagonal(inner, axis1=1, axis2=2)
    scale = jax.lax.rsqrt(jnp.maximum(diagonal, 1e-30))
    unit = inner * scale[:, :, None] * scale[:, None, :]
    ridge = _RIDGE * jnp.eye(inner.shape[-1], dtype=inner.dtype)
    return jnp.linalg.cholesky(unit + ridge), scale


def _solve(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """Solution of a positive system after scaling it to a unit diagonal; NaN if it is not."""
    scale = jax.lax.rsqrt(jnp.maximum(jnp.diagonal(matrix), 1e-30))
    factor = jnp.linalg.cholesky(matrix * scale[:, None] * scale[None, :])
    solution: jax.Array = scale * jax.scipy.linalg.cho_solve((factor, True), right * scale)
    return solution
