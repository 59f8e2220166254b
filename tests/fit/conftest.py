"""Lenses that the tests of the fit share: coarse pixels, isothermal, of the priors of a preset."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.core.seeding import Stream, image_rng
from pipeline.dataset.config import DatasetConfig, load_dataset_config
from pipeline.engines import jax as engine
from pipeline.fit.config import FitConfig, LensModel, MacroModel
from pipeline.fit.fitter import Fitter
from pipeline.fit.parameters import merged_priors
from pipeline.fit.scene_priors import scene_priors
from pipeline.physics.detector import expose
from pipeline.physics.geometry import Grid
from pipeline.physics.scene import Scene, draw_scene

N_PIX = 40
SMALL = [
    f"n_pix={N_PIX}",
    "instruments=[euclid_vis]",  # pixels of 0.1 arcsec
    "scenes.macro.slope=2.0",
    "scenes.source.magnitude=20.0",
]


@dataclass(frozen=True)
class Lenses:
    """Smooth lenses, with and without noise, electron/s."""

    config: DatasetConfig
    scenes: list[Scene]
    noiseless: NDArray[np.float64]
    images: NDArray[np.float32]


@pytest.fixture(scope="session")
def lenses() -> Lenses:
    config = load_dataset_config("contrast_hst", SMALL)
    scenes = [draw_scene(config.scenes, 1, index, "no") for index in range(24)]
    grid = Grid(N_PIX, config.instruments[0].pixel_scale, 2)
    noiseless = engine.build(engine.Config()).render(scenes, grid, config.instruments)
    images = [
        expose(image, config.instruments, image_rng(1, k, Stream.NOISE))
        for k, image in enumerate(noiseless)
    ]
    return Lenses(config, scenes, noiseless, np.stack(images))


@pytest.fixture(scope="session")
def fit_config(lenses: Lenses) -> FitConfig:
    model = LensModel(macro=MacroModel(profile="sie"))
    return merged_priors(FitConfig(model=model), scene_priors(lenses.config.scenes, 300))


@pytest.fixture(scope="session")
def fitter(fit_config: FitConfig, lenses: Lenses) -> Fitter:
    return Fitter(fit_config, N_PIX, lenses.config.instruments, batch_size=8)
