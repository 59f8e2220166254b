"""Engine agreement (PHYSICS 11): every preset through jax and autolens against lenstronomy."""

import numpy as np
import pytest

from pipeline.core.resources import sim_params
from pipeline.dataset.config import load_dataset_config
from pipeline.engines.base import ENGINES
from pipeline.physics.geometry import Grid
from pipeline.physics.scene import draw_scene

PRESETS = sorted(path.stem for path in sim_params().glob("*.yaml"))
#: Scenes of each class.
N_EACH = 2
#: Pixels along a side: the preset's field at coarser pixels, which every formula still meets.
N_PIX = 28


def engine(kind):
    module = ENGINES.load(kind)
    return module.build(module.Config())


@pytest.fixture(scope="module", params=PRESETS)
def reference(request):
    """Scenes of a preset, their grid and instruments, and the images of lenstronomy."""
    config = load_dataset_config(request.param)
    scale = config.n_pix * config.pixel_scale / N_PIX
    grid = Grid(N_PIX, scale, min(config.supersample, 2))
    instruments = tuple(i.with_changes(pixel_scale=scale) for i in config.instruments)
    n_scenes = N_EACH * len(config.class_names)
    scenes = [draw_scene(config.scenes, config.seed, i) for i in range(n_scenes)]
    return scenes, grid, instruments, engine("lenstronomy").render(scenes, grid, instruments)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jax", "autolens"])
def test_every_preset_within_the_tolerance_of_the_specification(kind, reference):
    scenes, grid, instruments, expected = reference
    found = engine(kind).render(scenes, grid, instruments)
    peak = expected.max(axis=(1, 2, 3), keepdims=True)
    difference = (found - expected) / peak
    assert np.abs(difference).max() <= 1e-3
    assert np.sqrt(np.mean(difference**2, axis=(1, 2, 3))).max() <= 1e-4
