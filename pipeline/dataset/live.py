"""One lens at a time, as fast as a hand moves: its image, its smooth twin's, and their difference.

The configuration, the scenes, the noise and the detectability are those of every dataset; only the
engine is kept between calls, compiled, for single images.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.generate import record
from pipeline.dataset.knobs import find_knobs, placed, with_settings
from pipeline.detectability.dprime import DPrime
from pipeline.detectability.measure import Measure, Survey, change_in_sigma
from pipeline.detectability.nuisances import PriorWidths
from pipeline.physics.instrument import load_instrument
from pipeline.physics.scene import Scene, draw_scene, smooth_twin

if TYPE_CHECKING:
    from pipeline.engines.base import Engine

Floats = NDArray[np.float64]

#: Draws from which prior widths are measured: 3 % of the width at worst, in half a second.
_N_DRAWS = 500


@dataclass(frozen=True)
class LiveImage:
    """A lens, what the telescope records of it, and what its substructure changes.

    Attributes
    ----------
    config : DatasetConfig
        That says everything about it.
    scene : Scene
    image : NDArray, shape (C, H, W), electron/s
        With noise.
    noiseless, smooth : Floats, shape (C, H, W), electron/s
        Without noise; ``smooth`` is the twin without substructure.
    in_sigma : Floats, shape (C, H, W), or None
        Their difference over the noise; None for a telescope without noise.
    d_raw : float or None
        Detectability if lens and source were known exactly: a strict ceiling.
    """

    config: DatasetConfig
    scene: Scene
    image: NDArray[np.float32]
    noiseless: Floats
    smooth: Floats
    in_sigma: Floats | None
    d_raw: float | None

    @property
    def survey(self) -> Survey:
        """The lens's survey."""
        config = self.config
        return Survey(config.scenes, config.seed, config.grid, config.instruments)


class LiveSimulator:
    """Simulates lenses around one configuration.

    Parameters
    ----------
    config : DatasetConfig
        Whose priors are the ranges that are known, e.g. that of a network's training data.
    """

    def __init__(self, config: DatasetConfig) -> None:
        self.config = config
        self.knobs = find_knobs(config)
        self._placed = placed(config)
        self._engine: Engine | None = None
        self._widths: PriorWidths | None = None
        self._lock = threading.Lock()

    def simulate(
        self,
        values: Sequence[float],
        *,
        class_name: str,
        index: int = 0,
        instrument: str | None = None,
    ) -> LiveImage:
        """Simulate the lens that the knobs describe.

        Parameters
        ----------
        values : sequence of float
            One for each of ``knobs``.
        class_name : str
        index : int
            Which realisation of what no knob fixes: places of halos, and the noise.
        instrument : str, optional
            Another telescope than the configuration's, by name; the field of view stays.

        Returns
        -------
        LiveImage

        Raises
        ------
        ConfigError, PhysicsError, EngineError
            If there can be no such lens.
        """
        config = self._configuration(values, instrument)
        scene = draw_scene(config.scenes, config.seed, int(index), class_name)
        twin = smooth_twin(scene)
        noiseless, smooth = self._render(config, [scene, twin])
        in_sigma, detectability = None, None
        if not any(i.defects.noise_free for i in config.instruments):
            pair = (noiseless[None], smooth[None])
            (in_sigma,) = change_in_sigma(*pair, [twin], config.grid, config.instruments)
            detectability = float(np.linalg.norm(in_sigma))
        image = record(config, noiseless[None], [scene])[0]
        return LiveImage(config, scene, image, noiseless, smooth, in_sigma, detectability)

    def detectability(self, live: LiveImage) -> DPrime:
        """Detectability with lens and source unknown, as the priors of the configuration say.

        The first call for a telescope compiles derivatives, which takes seconds.

        Returns
        -------
        DPrime
            Each of shape (1, 1).
        """
        with self._lock:  # nothing is compiled twice
            if self._widths is None:
                self._widths = PriorWidths(self.config.scenes, _N_DRAWS)
            measure = Measure(live.survey, widths=self._widths)
            return measure.of_images([live.scene], live.noiseless[None], live.smooth[None])

    def warm_up(self) -> None:
        """Compile what the first images need: a lens of each class, with the knobs as they are."""
        for name in self.config.class_names:
            live = self.simulate([knob.value for knob in self.knobs], class_name=name)
        self.detectability(live)

    def _configuration(self, values: Sequence[float], instrument: str | None) -> DatasetConfig:
        settings = {k.key: k.setting(v) for k, v in zip(self.knobs, values, strict=True)}
        config = self._placed
        if instrument is not None and instrument not in config.bands:
            config = _seen_with(config, instrument)
        return with_settings(config, settings)

    def _render(self, config: DatasetConfig, scenes: list[Scene]) -> Floats:
        if self._engine is None:
            from pipeline.engines import jax

            self._engine = jax.build(jax.Config(batch_size=1))
        return self._engine.render(scenes, config.grid, config.instruments)


def _seen_with(config: DatasetConfig, instrument: str) -> DatasetConfig:
    """The same field with other pixels."""
    field = config.n_pix * config.pixel_scale
    pixels = load_instrument(instrument).pixel_scale
    settings = {"instruments": [instrument], "n_pix": max(1, round(field / pixels))}
    return with_settings(config, settings)
