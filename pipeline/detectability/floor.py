"""The least mean absolute error with which any method can measure the axion mass of a vortex.

For each image, the exact Gaussian likelihood (mean and variance of the exposure) on a grid of log10
mass over its prior, nuisances marginalised by Laplace at every grid point; the posterior median is
the best estimator in mean absolute error (PHYSICS 10). Cramer-Rao alone is wrong here: for a short
vortex the information vanishes and the prior caps the error.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import PhysicsError
from pipeline.core.priors import Constant
from pipeline.core.seeding import Stream, image_rng
from pipeline.detectability.measure import Survey, mean_counts, mean_slope, noise
from pipeline.detectability.nuisances import VORTEX, PriorWidths, nuisance_names
from pipeline.physics.detector import expose
from pipeline.physics.instrument import Instrument
from pipeline.physics.lens_light import light_rate
from pipeline.physics.scene import Scene, SceneConfig, draw_scene
from pipeline.physics.substructure import vortex

type Floats = NDArray[np.float64]

#: Points of a grid; it is laid again, ever finer, over what is left of the posterior.
N_GRID = 81
MAX_ROUNDS = 6
#: Log likelihood below the maximum at which a grid point no longer counts: 6 sigma.
DEPTH = 18.0
#: Derivatives change slowly with the mass: taken at every so many points, linear between them.
JACOBIAN_STRIDE = 5
#: Lenses from which the prior widths of a vortex are measured.
N_DRAWS = 1000


@dataclass(frozen=True)
class Floor:
    """Information floor of one survey.

    Attributes
    ----------
    truth, median : Floats, shape (n,)
        True log10 axion mass (eV) of each image and the median of its posterior.
    spacing : Floats, shape (n,)
        Final grid spacing of each image, dex.
    width : float
        Width of the prior, dex; without any data the error is a quarter of it.
    nuisances : tuple of str
        What was marginalised.
    """

    truth: Floats
    median: Floats
    spacing: Floats
    width: float
    nuisances: tuple[str, ...]

    @property
    def mae(self) -> float:
        """Mean absolute error, dex."""
        return float(np.mean(np.abs(self.median - self.truth)))

    @property
    def error(self) -> float:
        """Standard error of :attr:`mae`, dex."""
        return float(np.std(np.abs(self.median - self.truth), ddof=1) / math.sqrt(len(self.truth)))

    def by_bin(self, edges: Sequence[float]) -> tuple[float, ...]:
        """Mean absolute error of the images whose true log10 mass lies between two edges."""
        bins = np.digitize(self.truth, edges) - 1
        errors = np.abs(self.median - self.truth)
        return tuple(
            float(np.mean(errors[bins == k])) if np.any(bins == k) else math.nan
            for k in range(len(edges) - 1)
        )


def information_floor(
    survey: Survey,
    class_name: str,
    n_images: int,
    *,
    free: tuple[str, ...] | None = None,
    first: int = 0,
    advance: Callable[[], None] | None = None,
    precision: Literal["float32", "float64"] = "float64",
) -> Floor:
    """Information floor for the log10 axion mass of one class of vortices.

    Parameters
    ----------
    survey : Survey
    class_name : str
        A class of kind ``vortex``, with its axion mass drawn from an interval.
    n_images : int
        Images; their true masses lie evenly over the prior.
    free : tuple of str, optional
        Nuisances, see ``nuisance_names`` and ``VORTEX``; by default all whose prior has a width.
    first : int
        Index of the first image.
    advance : Callable, optional
        Called after each image.
    precision : str
        Of the images, not of their derivatives; float32 is three times as fast, and enough where
        noise is far above 1e-5 of an image's peak.

    Returns
    -------
    Floor

    Raises
    ------
    PhysicsError
        If the class has no drawn axion mass, or the telescope no noise.
    """
    block = survey.scenes.classes[class_name].substructure
    if not isinstance(block, vortex.Config):
        raise PhysicsError(f"class {class_name!r} is no vortex: it has no axion mass to measure")
    low, high = block.log10_axion_mass.support()
    if not low < high:
        raise PhysicsError(f"class {class_name!r}: log10_axion_mass is fixed, nothing to measure")
    if survey.unmeasurable:
        raise PhysicsError(survey.unmeasurable)
    names, widths = _free(survey.scenes, class_name, free)
    truth = low + (np.arange(n_images) + 0.5) / n_images * (high - low)
    median, spacing = np.empty(n_images), np.empty(n_images)
    for k in range(n_images):
        image = _Image(survey, class_name, first + k, float(truth[k]), names, widths, precision)
        median[k], spacing[k] = _posterior_median(image.log_likelihood, low, high)
        if advance is not None:
            advance()
    return Floor(truth, median, spacing, high - low, names)


class _Image:
    """One exposure of a vortex, and the likelihood of any axion mass given it."""

    def __init__(
        self,
        survey: Survey,
        class_name: str,
        index: int,
        truth: float,
        names: tuple[str, ...],
        widths: Floats,
        precision: Literal["float32", "float64"],
    ) -> None:
        from pipeline.engines import jax as engine  # heavy once built

        self._survey, self._class_name, self._index = survey, class_name, index
        self._names, self._widths = names, widths
        self._engine = engine.build(engine.Config(precision=precision))
        self._instruments = _at_drawn_time(survey.instruments, survey.seed, index)
        rng = image_rng(survey.seed, index, Stream.NOISE)
        scene = self._scene(truth)
        (noiseless,) = self._render([scene])
        light = scene.subtracted_light
        gone = light_rate(light, survey.grid, self._instruments) if light else None
        exposure = expose(noiseless, self._instruments, rng, gone)
        self._exposure = exposure.astype(np.float64)

    def log_likelihood(self, masses: Floats) -> Floats:
        """Log likelihood of each log10 axion mass, nuisances marginalised; shape (n,)."""
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        scenes = [self._scene(float(mass)) for mass in masses]
        images = self._render(scenes)
        mean = mean_counts(images, self._instruments)
        sigma = noise(images, scenes, self._survey.grid, self._instruments)
        residual = ((self._exposure - mean) / sigma).reshape(len(masses), -1)
        slope = mean_slope(images, self._instruments) / sigma
        jacobian = self._jacobian(scenes, slope.reshape(len(masses), -1))
        with threadpool_limits(1):
            marginal = marginal_log_likelihood(residual, jacobian, self._widths)
        return np.asarray(marginal - np.sum(np.log(sigma), axis=(1, 2, 3)))

    def _scene(self, mass: float) -> Scene:
        scenes = _with_mass(self._survey.scenes, self._class_name, mass)
        return draw_scene(scenes, self._survey.seed, self._index, self._class_name)

    def _render(self, scenes: Sequence[Scene]) -> Floats:
        return self._engine.render(scenes, self._survey.grid, self._instruments)

    def _jacobian(self, scenes: Sequence[Scene], slope: Floats) -> Floats:
        """Whitened Jacobian, shape (n, n_pixels, K), of scenes that differ in their mass alone."""
        from pipeline.detectability.jacobian import jacobians  # heavy: JAX

        if not self._names:
            return np.zeros((*slope.shape, 0))
        last = len(scenes) - 1
        knots = sorted({*range(0, last, JACOBIAN_STRIDE), last})
        exact = np.empty((len(knots), slope.shape[1], len(self._names)))
        chosen = [scenes[k] for k in knots]
        for batch in jacobians(chosen, self._survey.grid, self._instruments, self._names):
            order = [batch.names.index(name) for name in self._names]
            rows = list(batch.positions)
            exact[rows] = batch.values.reshape(len(rows), -1, len(order))[..., order]
        right = np.clip(np.searchsorted(knots, np.arange(last + 1)), 1, None)
        start, stop = np.array(knots)[right - 1], np.array(knots)[right]
        share = ((np.arange(last + 1) - start) / (stop - start))[:, None, None]
        between = exact[right - 1] + share * (exact[right] - exact[right - 1])
        return np.asarray(between * slope[..., None])


def marginal_log_likelihood(residual: Floats, jacobian: Floats, widths: Floats) -> Floats:
    """Log likelihood after Laplace marginalisation of linear nuisances, up to a constant.

    -1/2 min_p {|r - J p|^2 + |p/S|^2} - 1/2 ln det(1 + S J^T J S): exact for a linear model.

    Parameters
    ----------
    residual : Floats, shape (..., n)
        Over the noise.
    jacobian : Floats, shape (..., n, k)
        Over the noise.
    widths : Floats, shape (k,)
        Prior standard deviations.

    Returns
    -------
    Floats, shape (...)
    """
    k = jacobian.shape[-1]
    basis, triangle = np.linalg.qr(jacobian * widths)
    inside = np.squeeze(np.swapaxes(basis, -1, -2) @ residual[..., None], -1)
    outside = residual - np.squeeze(basis @ inside[..., None], -1)
    identity = np.broadcast_to(np.eye(k), triangle.shape)
    u, values, _ = np.linalg.svd(np.concatenate([triangle, identity], axis=-2), full_matrices=False)
    target = np.concatenate([inside, np.zeros_like(inside)], axis=-1)
    fitted = np.squeeze(np.swapaxes(u, -1, -2) @ target[..., None], -1)
    rest = target - np.squeeze(u @ fitted[..., None], -1)
    chi2 = np.sum(outside**2, axis=-1) + np.sum(rest**2, axis=-1)
    return np.asarray(-0.5 * chi2 - np.sum(np.log(values), axis=-1))


def _posterior_median(
    log_likelihood: Callable[[Floats], Floats], low: float, high: float
) -> tuple[float, float]:
    """Median of the posterior under a flat prior, and the spacing of the last grid."""
    start, stop = low, high
    for _ in range(MAX_ROUNDS):
        grid = np.linspace(start, stop, N_GRID)
        values = log_likelihood(grid)
        alive = np.flatnonzero(values > values.max() - DEPTH)
        start, stop = grid[max(alive[0] - 1, 0)], grid[min(alive[-1] + 1, N_GRID - 1)]
        if len(alive) >= N_GRID // 2:
            break
    weight = np.exp(values - values.max())
    spacing = float(grid[1] - grid[0])
    share = np.concatenate([[0.0], np.cumsum(0.5 * (weight[1:] + weight[:-1]))])
    return float(np.interp(0.5 * share[-1], share, grid)), spacing


def _free(
    config: SceneConfig, class_name: str, free: tuple[str, ...] | None
) -> tuple[tuple[str, ...], Floats]:
    """Names and prior widths of the nuisances that the priors leave free."""
    smooth = PriorWidths(config)
    scene = draw_scene(config, 0, 0, class_name)
    names = [n for n in nuisance_names(scene) if not n.startswith("ln_clump")]
    widths = dict(zip(names, smooth.of(names), strict=True)) | _vortex_widths(config, class_name)
    unknown = sorted(set(free or ()) - set(widths))
    if unknown:
        raise PhysicsError(f"no nuisances {', '.join(unknown)}; known: {', '.join(widths)}")
    chosen = tuple(n for n, w in widths.items() if w > 0 and (free is None or n in free))
    return chosen, np.array([widths[name] for name in chosen])


def _vortex_widths(config: SceneConfig, class_name: str) -> dict[str, float]:
    draws = [draw_scene(config, 0, index, class_name) for index in range(N_DRAWS)]
    columns = {
        "vortex_x": [s.truth["vortex_x"] - s.host.center_x for s in draws],
        "vortex_y": [s.truth["vortex_y"] - s.host.center_y for s in draws],
        # Half a turn brings a rod back onto itself.
        "vortex_angle": [s.truth["vortex_angle"] % math.pi for s in draws],
        "vortex_ln_mass": [math.log(s.truth["m_sub"]) for s in draws],
    }
    assert tuple(columns) == VORTEX
    return {n: float(np.std(v)) if np.ptp(v) > 1e-9 else 0.0 for n, v in columns.items()}


def _with_mass(config: SceneConfig, class_name: str, log10_mass: float) -> SceneConfig:
    """Configuration with the axion mass fixed; every other draw stays what it was."""
    block = config.classes[class_name]
    fixed = block.substructure.model_copy(update={"log10_axion_mass": Constant(value=log10_mass)})
    changed = block.model_copy(update={"substructure": fixed})
    return config.model_copy(update={"classes": {**config.classes, class_name: changed}})


def _at_drawn_time(
    instruments: tuple[Instrument, ...], seed: int, index: int
) -> tuple[Instrument, ...]:
    """Instruments with the exposure time that the noise of image ``index`` is drawn with.

    Only the first band's time is known without drawing its noise.

    Raises
    ------
    PhysicsError
        If a further band draws its exposure time.
    """
    first, *others = instruments
    if any(i.exposure_time.support()[0] < i.exposure_time.support()[1] for i in others):
        raise PhysicsError("only the first band may draw its exposure time")
    time = first.exposure_time.draw(image_rng(seed, index, Stream.NOISE))
    fixed = first.model_copy(update={"exposure_time": Constant(value=time)})
    return (fixed, *others)
