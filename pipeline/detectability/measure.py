"""Detectability of the substructure in simulated lenses.

The signal is the difference between two noiseless images of one lens that share every nuisance; the
noise is the exposure's at the smooth twin; the nuisances are linearised there (PHYSICS 8).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.detectability.dprime import DPrime, d_prime
from pipeline.detectability.nuisances import PriorWidths
from pipeline.physics.detector import legacy_count_moments, variance
from pipeline.physics.geometry import Grid
from pipeline.physics.instrument import Instrument
from pipeline.physics.lens_light import light_rate
from pipeline.physics.scene import Scene, SceneConfig, draw_scene, smooth_twin

type Floats = NDArray[np.float64]

#: Scenes whose images are held at once; bounds memory, never the result.
CHUNK = 64


@dataclass(frozen=True)
class Survey:
    """Which lenses are looked at, and with what."""

    scenes: SceneConfig
    seed: int
    grid: Grid
    instruments: tuple[Instrument, ...]

    @property
    def unmeasurable(self) -> str:
        """Why d' is not defined for this telescope; "" where it is."""
        names = [i.name for i in self.instruments if i.defects.noise_free]
        return f"no noise to compare with: {', '.join(names)} is noise_free" if names else ""


class Measure:
    """Measures d' in scenes of one survey; keeps the prior widths and the engine.

    Parameters
    ----------
    survey : Survey
    only : tuple of str, optional
        Nuisances that are not known (see ``nuisance_names``); all of them by default.
    coarse : bool
        Render in float32, halos as sums of Gaussians and shallow ones on a coarse grid (see
        ``JaxEngine``): five to ten times as fast for hundreds of them, and within 1 % of d'.
    widths : PriorWidths, optional
        Those of the survey's scenes where they are known already.
    """

    def __init__(
        self,
        survey: Survey,
        only: tuple[str, ...] | None = None,
        *,
        coarse: bool = False,
        widths: PriorWidths | None = None,
    ) -> None:
        self.survey = survey
        self._only = only
        self._coarse = coarse
        self._widths = PriorWidths(survey.scenes) if widths is None else widths

    def __call__(self, scenes: Sequence[Scene], against: Sequence[str | None] = (None,)) -> DPrime:
        """Measure the difference between each scene and other versions of the same lens.

        Parameters
        ----------
        scenes : sequence of Scene, length n
            Drawn from the survey's configuration and seed.
        against : sequence of str or None, length m
            None is the smooth twin; a name is the scene of that class and the same index.

        Returns
        -------
        DPrime
            Each of shape (n, m); NaN where a scene would be compared with itself, and everywhere
            for a telescope without noise (see ``Survey.unmeasurable``).
        """
        found = DPrime(*(np.full((len(scenes), len(against)), np.nan) for _ in range(3)))
        if self.survey.unmeasurable:
            return found
        for first in range(0, len(scenes), CHUNK):
            part = slice(first, min(first + CHUNK, len(scenes)))
            self._fill(found, part, scenes[part], against)
        for k, name in enumerate(against):
            same = np.array([s.class_name == name for s in scenes], bool)
            for values in (found.raw, found.prior, found.refit):
                values[same, k] = np.nan
        return found

    def of_images(self, scenes: Sequence[Scene], images: Floats, smooth: Floats) -> DPrime:
        """Measure scenes against their smooth twins in images that are rendered already.

        Parameters
        ----------
        scenes : sequence of Scene, length n
        images, smooth : Floats, shape (n, C, H, W), electron/s
            Noiseless, of the scenes and of their smooth twins.

        Returns
        -------
        DPrime
            Each of shape (n, 1); NaN for a telescope without noise.
        """
        found = DPrime(*(np.full((len(scenes), 1), np.nan) for _ in range(3)))
        if not self.survey.unmeasurable:
            means = (mean_counts(part, self.survey.instruments) for part in (images, smooth))
            delta = np.subtract(*means).reshape(len(scenes), 1, -1)
            twins = [smooth_twin(scene) for scene in scenes]
            self._solve(found, slice(0, len(scenes)), twins, smooth, delta)
        return found

    def _fill(
        self,
        found: DPrime,
        part: slice,
        scenes: Sequence[Scene],
        against: Sequence[str | None],
    ) -> None:
        survey = self.survey
        twins = [smooth_twin(scene) for scene in scenes]
        smooth = self._render(twins)
        with_it = mean_counts(self._render(scenes), survey.instruments)
        delta = np.empty((len(scenes), len(against), with_it[0].size))
        for k, name in enumerate(against):
            other = smooth if name is None else self._render(self._redrawn(scenes, name))
            rest = with_it - mean_counts(other, survey.instruments)
            delta[:, k] = rest.reshape(len(scenes), -1)
        self._solve(found, part, twins, smooth, delta)

    def _solve(
        self, found: DPrime, part: slice, twins: Sequence[Scene], smooth: Floats, delta: Floats
    ) -> None:
        """Fill rows ``part`` from the signals (n, m, pixels) in the mean counts of the twins."""
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        from pipeline.detectability.jacobian import jacobians  # heavy: JAX

        survey = self.survey
        sigma = noise(smooth, twins, survey.grid, survey.instruments).reshape(len(twins), -1)
        slope = mean_slope(smooth, survey.instruments).reshape(len(twins), -1)
        for batch in jacobians(twins, survey.grid, survey.instruments, self._only):
            rows = list(batch.positions)
            jacobian = batch.values.reshape(len(rows), -1, len(batch.names))
            jacobian = jacobian * slope[rows][..., None]
            # One thread: the bits must not depend on how many there are.
            with threadpool_limits(1):
                d = d_prime(delta[rows], sigma[rows], jacobian, self._widths.of(batch.names))
            images = part.start + np.array(rows)
            found.raw[images], found.prior[images] = d.raw, d.prior
            found.refit[images] = d.refit

    def _redrawn(self, scenes: Sequence[Scene], name: str) -> list[Scene]:
        config, seed = self.survey.scenes, self.survey.seed
        return [draw_scene(config, seed, scene.index, name) for scene in scenes]

    def _render(self, scenes: Sequence[Scene]) -> Floats:
        survey = self.survey
        return render_exact(scenes, survey.grid, survey.instruments, coarse=self._coarse)


def detectability(
    survey: Survey,
    indices: Sequence[int],
    class_name: str,
    against: Sequence[str | None] = (None,),
) -> DPrime:
    """Measure class ``class_name`` in the lenses ``indices``, whatever class their turn is.

    Parameters
    ----------
    survey : Survey
    indices : sequence of int, length n
    class_name : str
    against : sequence of str or None, length m
        See ``Measure.__call__``.

    Returns
    -------
    DPrime
        Each of shape (n, m).
    """
    scenes = [draw_scene(survey.scenes, survey.seed, int(i), class_name) for i in indices]
    return Measure(survey)(scenes, against)


def render_exact(
    scenes: Sequence[Scene],
    grid: Grid,
    instruments: tuple[Instrument, ...],
    *,
    coarse: bool = False,
) -> Floats:
    """Noiseless images (n, C, H, W) of the JAX engine, whatever engine makes the dataset.

    In float64, save where ``coarse`` trades precision for speed (see :class:`Measure`).
    """
    from pipeline.engines._jax import JaxEngine  # heavy

    renderer = JaxEngine("float32" if coarse else "float64", approximate=coarse)
    return renderer.render(scenes, grid, instruments)


def change_in_sigma(
    with_it: Floats,
    smooth: Floats,
    twins: Sequence[Scene],
    grid: Grid,
    instruments: Sequence[Instrument],
) -> Floats:
    """What substructure changes in each pixel, over the pixel's noise (n, C, H, W).

    The sum of its squares is d'^2 with all nuisances known.

    Parameters
    ----------
    with_it, smooth : Floats, shape (n, C, H, W), electron/s
        Noiseless images of the lenses and of their smooth twins.
    twins : sequence of Scene, length n
    grid : Grid
    instruments : sequence of Instrument, length C
        With noise (see ``Survey.unmeasurable``).
    """
    seen = mean_counts(with_it, instruments) - mean_counts(smooth, instruments)
    return seen / noise(smooth, twins, grid, instruments)


def noise(
    images: Floats, scenes: Sequence[Scene], grid: Grid, instruments: Sequence[Instrument]
) -> Floats:
    """Standard deviation of each pixel's exposure, that of subtracted lens light included.

    Parameters
    ----------
    images : Floats, shape (n, C, H, W), electron/s
        Noiseless images of ``scenes``.
    scenes : sequence of Scene, length n
    grid : Grid
    instruments : sequence of Instrument, length C

    Returns
    -------
    Floats, shape (n, C, H, W)
        Electron/s; counts under ``double_poisson``.
    """
    spread = np.empty_like(images)
    for k, scene in enumerate(scenes):
        light = scene.subtracted_light
        gone = light_rate(light, grid, instruments) if light else None
        spread[k] = np.sqrt(variance(images[k], instruments, gone))
    return spread


def mean_counts(images: Floats, instruments: Sequence[Instrument]) -> Floats:
    """Mean of the exposure of noiseless images, shape (..., C, H, W).

    The image itself, save under the double noise of DeepLenseSim's Model I, whose clipping shifts
    the mean (counts, at the median exposure time).
    """
    means = np.array(images)
    for band, instrument in enumerate(instruments):
        if instrument.defects.double_poisson:
            assert instrument.background_rms is not None
            means[..., band, :, :], _ = legacy_count_moments(
                images[..., band, :, :], instrument.total_time, instrument.background_rms
            )
    return means


def mean_slope(images: Floats, instruments: Sequence[Instrument]) -> Floats:
    """Derivative of :func:`mean_counts` by the noiseless image, shape (..., C, H, W).

    With m = C Phi(t) + s phi(t), s^2 = C + s_b^2 and t = C/s (PHYSICS 6): dm/dC = Phi(t) +
    phi(t)/(2 s).
    """
    from scipy.special import ndtr  # type: ignore[import-untyped]  # heavy

    slopes = np.ones_like(images)
    for band, instrument in enumerate(instruments):
        if instrument.defects.double_poisson:
            assert instrument.background_rms is not None
            time = instrument.total_time
            counts = time * images[..., band, :, :]
            s = np.sqrt(counts + (time * instrument.background_rms) ** 2)
            t = counts / s
            density = np.exp(-0.5 * t * t) / np.sqrt(2.0 * np.pi)
            slopes[..., band, :, :] = time * (ndtr(t) + density / (2.0 * s))
    return slopes
