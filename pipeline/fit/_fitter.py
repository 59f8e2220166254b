"""Heavy half of the fitter: images in, starts screened on coarse pixels, the best finished.

Every compiled function takes one batch size and the number of images in it; the rest is blank,
which costs a GPU one empty step and a CPU nothing. Fits that are not settled are gathered between
rounds, so a slow image does not hold up the others.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pipeline.core.cores import usable_cores
from pipeline.engines import _jax_setup
from pipeline.fit._dictionary import Dictionary
from pipeline.fit._finish import covariances, doubts, in_half, peaks
from pipeline.fit._model import SmoothModel
from pipeline.fit._prepare import Prepared, prepare, round_light
from pipeline.fit._response import Response
from pipeline.fit._solve import Linear, Observed, Solver, State, mapped
from pipeline.fit._starts import Starter, start_offsets
from pipeline.fit.config import FitConfig
from pipeline.fit.parameters import Coordinates
from pipeline.fit.result import Fits, Status
from pipeline.physics.geometry import Grid
from pipeline.physics.profiles.array_api import Array
from pipeline.physics.psf import Psf

type Floats = NDArray[np.float64]

#: Steps of one round on the full image; between rounds the weights follow the model.
_ROUND = 8
#: Share of the peak that is added to sigma while starts are compared.
_HAZE = 0.03
#: Standard deviations of chi2 above its mean beyond which other starts are tried.
_SUSPICIOUS = 4.0
#: Gain of -2 ln posterior, hazy or not, that another start must bring.
_WORTH = 4.0
#: Change of -2 ln posterior between rounds below which weights and model agree.
_SETTLED = 0.3
#: Waits for what is computed; jax gives it no types.
_finished: Callable[[Array], Array] = jax.block_until_ready


class _Finished(NamedTuple):
    expected: Array  # (C, M)
    residual: Array  # (C, M)
    chi2: Array
    gain: Array  # in chi2, over a model without source
    objective: Array  # -2 ln posterior, the normalisation of the noise included
    hessian: Array  # (P, P)
    log_det: Array
    linear: Array  # (K + 1, 5 J): what the response is found from
    squares: Array  # (15 J)


@dataclass
class _Best:
    """What is known of each image of a batch; numpy arrays whose first axis is the batch."""

    state: State
    finished: _Finished
    start: NDArray[np.int64]
    iterations: NDArray[np.int64]


class BatchFitter:
    """Compiled fit of one batch size.

    Parameters
    ----------
    config : FitConfig
    grid : Grid
    psfs : tuple of Psf, length C
    batch_size : int
    """

    def __init__(
        self, config: FitConfig, grid: Grid, psfs: tuple[Psf, ...], batch_size: int
    ) -> None:
        _jax_setup.configure()
        self._config, self._grid, self._size = config, grid, batch_size
        self._coordinates = Coordinates(config)
        self._dtype = np.dtype(config.precision)
        self._binning = 2 if grid.n_pix % 2 == 0 and grid.n_pix >= 32 else 1
        coarse_grid = Grid(grid.n_pix, grid.pixel_scale, 1)
        self._fine_model = SmoothModel(config, grid, psfs)
        coarse_model = SmoothModel(config, coarse_grid, psfs, self._binning)
        search = config.search
        self._fine = Solver(self._fine_model, search.tolerance, config.robust)
        self._coarse = Solver(coarse_model, 3.0 * search.tolerance)
        self._starter = Starter(coarse_model)
        typical = self._coordinates.values(np.zeros(len(self._coordinates)))[0]
        looked_for = Dictionary(grid, config.response, float(typical))
        self._response = Response(looked_for) if config.response.n_groups else None
        #: Batches worth fitting at a time: XLA uses one core for each, and a GPU is full with one.
        self.n_threads = usable_cores() if jax.default_backend() == "cpu" else 1
        #: Whether a batch was fitted, so that its functions are compiled.
        self.has_run = False
        #: Processor time spent in each stage, s.
        self.spent = dict.fromkeys(("start", "coarse", "fine", "result", "response"), 0.0)
        self._start = self._timed("start", mapped(self._start_one))
        self._screen = self._timed("coarse", mapped(self._screen_one))
        self._round = self._timed("fine", mapped(self._round_one))
        self._finish = self._timed("result", mapped(self._finish_one))

    def fit(
        self,
        images: NDArray[np.floating],
        floor: Floats,
        slope: Floats,
        usable: NDArray[np.bool_],
    ) -> Fits:
        """Fit at most ``batch_size`` images; every array of shape (n, C, H, W)."""
        prepared = prepare(images, floor, slope, usable, len(self._coordinates))
        with jax.enable_x64(self._dtype == np.float64):
            seen = self._padded(prepared.seen)
            rough = self._binned(seen)
            haze = self._haze(rough)
            rows = np.arange(max(1, len(images)))
            starts = np.asarray(self._start(len(rows), self._without_lens(rough)))
            offsets = start_offsets(self._coordinates.names, self._config.search.n_starts)
            z, won, _ = self._best_start(rough, haze, starts, offsets, rows)
            best = self._improved(seen, z, won, rows)
            self._try_more(best, seen, rough, haze, starts)
        self.has_run = True
        return self._fits(best, prepared, len(images))

    def _timed(self, stage: str, function: Callable[..., Array]) -> Callable[..., Array]:
        def timed(n_images: int, *batch: Array) -> Array:
            before = time.process_time()
            result = _finished(function(n_images, *batch))
            self.spent[stage] += time.process_time() - before
            return result

        return timed

    def _start_one(self, rough: Observed) -> jax.Array:
        weights = self._coarse.weigh(rough, rough.image, 0.0)
        return self._starter(rough.image.sum(0), weights.min(0))

    def _screen_one(self, z: jax.Array, rough: Observed, haze: jax.Array) -> State:
        weights = self._coarse.weigh(rough, rough.image, haze)
        state = self._coarse.begin(z, jnp.zeros(len(weights), z.dtype), rough, weights)
        return self._coarse.improve(state, rough, weights, self._config.search.coarse_iterations)

    def _round_one(
        self, z: jax.Array, strength: jax.Array, seen: Observed, expected: jax.Array
    ) -> tuple[State, jax.Array]:
        weights = self._fine.weigh(seen, expected, 0.0)
        state = self._fine.begin(z, strength, seen, weights)
        state = self._fine.improve(state, seen, weights, _ROUND)
        return state, self._fine.expected(state)

    def _finish_one(self, state: State, seen: Observed, expected: jax.Array) -> _Finished:
        sigma_only = Solver(self._fine_model, 1.0).weigh(seen, expected, 0.0)
        weights = self._fine.weigh(seen, expected, 0.0)
        linear = self._fine.linearised(state)
        hessian, log_det = self._fine.curvature(linear, state, seen, weights)
        residual = (seen.image - expected) * sigma_only
        chi2 = jnp.sum(residual**2)
        unlensed = self._fine.expected_without_source(state)
        without = jnp.sum(((seen.image - unlensed) * sigma_only) ** 2)
        log_weights = jnp.where(sigma_only > 0, jnp.log(jnp.maximum(sigma_only, 1e-30)), 0.0)
        objective = state.cost - 2.0 * jnp.sum(log_weights)
        gain = without - chi2
        traces = self._traces(linear, state, weights, (seen.image - expected) * weights)
        return _Finished(expected, residual, chi2, gain, objective, hessian, log_det, *traces)

    def _traces(
        self, linear: Linear, state: State, weights: jax.Array, residual: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """What the response needs to know of an image."""
        if self._response is None:
            return jnp.zeros((0, 0)), jnp.zeros(0)
        values = self._coordinates.values(state.z)
        middles = self._response.middles
        slopes = self._fine_model.slopes(values, state.amplitudes, middles) * weights[:, None]
        return self._response.traces(
            slopes, residual, *self._fine.derivatives(linear, state, weights)
        )

    def _best_start(
        self,
        rough: Observed,
        haze: jax.Array,
        starts: Floats,
        offsets: Floats,
        rows: NDArray[np.int64],
    ) -> tuple[Floats, NDArray[np.int64], Floats]:
        """Coarse fits from every start: the best z of each row, its number, and its cost."""
        part, hazy = self._gathered(rough, rows, len(rows)), haze[self._filled(rows)]
        best = np.array(starts[self._filled(rows)], self._dtype)
        cost = np.full(self._size, np.inf)
        won = np.zeros(self._size, np.int64)
        for k, offset in enumerate(offsets):
            z = np.clip(starts[self._filled(rows)] + offset, -3.0, 3.0).astype(self._dtype)
            state = self._screen(len(rows), z, part, hazy)
            found = np.nan_to_num(np.asarray(state.cost, np.float64), nan=np.inf)
            better = found < cost
            best[better] = np.asarray(state.z)[better]
            cost[better], won[better] = found[better], k
        n = len(rows)
        return best[:n], won[:n], cost[:n]

    def _improved(
        self, seen: Observed, z: Floats, won: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> _Best:
        """Fits of some rows on the full image, in rounds, from z (len(rows), P)."""
        n, everyone = len(rows), np.arange(len(rows))
        images = np.array(seen.image)[rows]
        zero = np.zeros(n, self._dtype)
        n_bands, n_columns = self._fine_model.n_bands, self._fine_model.n_columns
        states = State(
            z=np.array(z, self._dtype),
            amplitudes=np.zeros((n, n_bands, n_columns), self._dtype),
            cost=zero + np.inf,
            damping=zero.copy(),
            strength=np.zeros((n, n_bands), self._dtype),
            n_iterations=np.zeros(n, np.int64),
            done=np.zeros(n, bool),
        )
        left = everyone
        while len(left):
            fill = self._filled(left)
            part = self._gathered(seen, rows[left], len(left))
            state, expected = self._round(
                len(left), states.z[fill], states.strength[fill], part, images[fill]
            )
            found = State(*(np.asarray(a)[: len(left)] for a in state))
            moved = ~(np.abs(states.cost[left] - found.cost) <= _SETTLED)
            found = found._replace(n_iterations=states.n_iterations[left] + found.n_iterations)
            for mine, new in zip(states, found, strict=True):
                mine[left] = new
            images[left] = np.asarray(expected)[: len(left)]
            going = np.isfinite(found.cost)
            going &= found.n_iterations < self._config.search.max_iterations
            left = left[going & (moved | ~found.done)]
        fill = self._filled(everyone)
        final = State(*(a[fill] for a in states))
        finished = self._finish(n, final, self._gathered(seen, rows, n), images[fill])
        return _Best(
            states, _Finished(*(np.array(a)[:n] for a in finished)), won, states.n_iterations
        )

    def _try_more(
        self, best: _Best, seen: Observed, rough: Observed, haze: jax.Array, starts: Floats
    ) -> None:
        """Other starts for the images that ended badly; ``best`` keeps what is better."""
        search = self._config.search
        n_used = np.asarray(seen.usable).sum((1, 2))[: len(best.start)]
        limit = n_used + _SUSPICIOUS * np.sqrt(2.0 * n_used)
        suspicious = (n_used > 0) & ~(best.finished.chi2 <= limit)
        rows = np.flatnonzero(suspicious)
        if not len(rows) or not search.more_starts:
            return
        here = np.array(starts)
        here[rows] = np.nan_to_num(best.state.z[rows])
        none = np.zeros((1, len(self._coordinates)))
        _, _, old_cost = self._best_start(rough, haze, here, none, rows)
        offsets = start_offsets(self._coordinates.names, search.more_starts, search.n_starts)
        z, won, cost = self._best_start(rough, haze, starts, offsets, rows)
        worth = cost < old_cost - _WORTH
        rows, z, won = rows[worth], z[worth], won[worth] + search.n_starts
        if not len(rows):
            return
        other = self._improved(seen, z, won, rows)
        old = best.finished.objective[rows]
        better = ~(old <= other.finished.objective + 1e-3)
        chosen, rows = np.flatnonzero(better), rows[better]
        for mine, theirs in ((best.state, other.state), (best.finished, other.finished)):
            for a, b in zip(mine, theirs, strict=True):
                a[rows] = b[chosen]
        best.start[rows], best.iterations[rows] = other.start[chosen], other.iterations[chosen]

    def _fits(self, best: _Best, prepared: Prepared, n: int) -> Fits:
        """Results in the units of the images."""
        coordinates, state, end = self._coordinates, best.state, best.finished
        shape = (n, self._fine_model.n_bands, self._grid.n_pix, self._grid.n_pix)
        z = np.asarray(state.z[:n], np.float64)
        covariance, log_det = covariances(np.asarray(end.hessian[:n], np.float64))
        chain = coordinates.jacobian(z)
        n_free = int((coordinates.width > 0).sum()) + self._fine_model.n_free_amplitudes
        n_used = prepared.n_used
        chi2 = np.asarray(end.chi2[:n], np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            reduced = chi2 / (n_used - n_free)
        judged = [self._judged(k, prepared.reasons[k], z[k], reduced[k], best) for k in range(n)]
        status = tuple(str(s) for s, _ in judged)
        ok = np.array([s != Status.FAILED for s, _ in judged], bool).reshape(n)
        unit = prepared.unit
        objective, of_flux = (np.asarray(a[:n], np.float64) for a in (end.objective, end.log_det))
        total = objective + n_used * np.log(2.0 * np.pi) + log_det + of_flux
        evidence = -0.5 * total - np.log(unit) * n_used
        scaled = unit[:, None, None, None]
        response, bayes = self._looked_for(end, n)
        response = in_half(response, ok)
        nan = np.where(ok, 1.0, np.nan)

        def pixels(a: NDArray[Any], scale: Floats | float) -> NDArray[np.float32]:
            found = np.asarray(a[:n], np.float64).reshape(shape) * scale
            return np.where(ok[:, None, None, None], found, 0.0).astype(np.float32)

        return Fits(
            names=coordinates.names,
            units=coordinates.units,
            values=coordinates.values(z) * nan[:, None],
            covariance=chain @ covariance @ np.swapaxes(chain, 1, 2) * nan[:, None, None],
            amplitudes=state.amplitudes[:n] * unit[:, None, None] * nan[:, None, None],
            model=pixels(end.expected, scaled),
            residual=pixels(end.residual, 1.0),
            response=response,
            perturber=peaks(response, self._grid),
            ln_bayes=bayes * nan[:, None],
            chi2=reduced * nan,
            n_used=n_used,
            log_evidence=evidence * nan,
            bic=(chi2 + n_free * np.log(np.maximum(n_used, 1))) * nan,
            start=best.start[:n],
            n_iterations=best.iterations[:n],
            status=status,
            reason=tuple(reason for _, reason in judged),
        )

    def _looked_for(self, end: _Finished, n: int) -> tuple[NDArray[Any], Floats]:
        """Maps (n, S, H, W) and ln Bayes factors (n, G) of masses that the models lack."""
        if self._response is None:
            side = self._grid.n_pix
            return np.zeros((n, 0, side, side)), np.zeros((n, 0))
        before = time.process_time()
        maps, bayes = self._response.of_batch(end.linear[:n], end.squares[:n], self._size)
        self.spent["response"] += time.process_time() - before
        return maps, bayes

    def _judged(
        self, k: int, reason: str, z: Floats, chi2: float, best: _Best
    ) -> tuple[Status, str]:
        """Status of one image, and why it is not good."""
        end = best.finished
        numbers = (end.expected[k], end.hessian[k], end.objective[k])
        if not reason and not all(np.isfinite(a).all() for a in (z, chi2, *numbers)):
            reason = "the fit left the numbers that can be represented"
        if reason:
            return Status.FAILED, reason
        steps = None if best.state.done[k] else int(best.iterations[k])
        doubt = doubts(self._config, self._coordinates.names, z, chi2, float(end.gain[k]), steps)
        return (Status.POOR, doubt) if doubt else (Status.GOOD, "")

    def _padded(self, seen: Observed) -> Observed:
        """Blank images behind the last, up to the batch size."""
        missing = self._size - len(seen.image)
        one = np.pad(seen.floor, ((0, missing), (0, 0), (0, 0)), constant_values=1.0)
        rest = (np.pad(a, ((0, missing), (0, 0), (0, 0))) for a in (seen[0], seen[1], seen[3]))
        image, usable, slope = (jnp.asarray(a, self._dtype) for a in rest)
        return Observed(image, usable, jnp.asarray(one, self._dtype), slope)

    def _binned(self, seen: Observed) -> Observed:
        """Sums over coarse pixels; one that holds an unusable pixel is unusable."""
        n, b = self._grid.n_pix // self._binning, self._binning

        def blocks(a: jax.Array) -> jax.Array:
            return a.reshape(*a.shape[:2], n, b, n, b)

        image, floor = (
            blocks(a).sum((3, 5)).reshape(*a.shape[:2], -1) for a in (seen.image, seen.floor)
        )
        usable = blocks(seen.usable).min((3, 5)).reshape(image.shape)
        slope = blocks(seen.slope).mean((3, 5)).reshape(image.shape)
        return Observed(image * usable, usable, floor, slope)

    def _without_lens(self, rough: Observed) -> Observed:
        """Images less what is round about their middle, if the model has light of the lens."""
        if not self._config.model.lens_light:
            return rough
        image = np.array(rough.image)
        light = round_light(image, np.asarray(rough.usable) > 0)
        return rough._replace(image=jnp.asarray((image - light) * rough.usable, self._dtype))

    def _haze(self, rough: Observed) -> jax.Array:
        peak = np.percentile(np.asarray(rough.image), 99.5, axis=(1, 2))
        return jnp.asarray(_HAZE * np.maximum(peak, 0.0), self._dtype)

    def _filled(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows repeated to the batch size."""
        return np.concatenate([rows, np.full(self._size - len(rows), rows[-1])])

    def _gathered(self, seen: Observed, rows: NDArray[np.int64], n: int) -> Observed:
        """Some rows, and blank images behind the n-th, up to the batch size."""
        fill, real = self._filled(rows), np.arange(self._size) < n
        part = Observed(*(a[fill] for a in seen))
        return part._replace(usable=part.usable * real[:, None, None].astype(self._dtype))
