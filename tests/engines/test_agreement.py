"""Engine agreement (PHYSICS 11): every preset through jax and autolens against lenstronomy."""

import numpy as np
import pytest

from pipeline.benchmark import agreement
from pipeline.engines.base import ENGINES


@pytest.fixture(scope="module")
def engines():
    modules = {k: ENGINES.load(k) for k in (agreement.REFERENCE, *agreement.ENGINES_COMPARED)}
    return {kind: module.build(module.Config()) for kind, module in modules.items()}


@pytest.mark.slow
@pytest.mark.parametrize("preset", agreement.presets())
def test_every_preset_is_within_the_tolerance_of_the_specification(preset, engines):
    rows = agreement.compare(preset, engines, n_each=2, quick=True)
    assert [row.engine for row in rows] == list(agreement.ENGINES_COMPARED)
    for row in rows:
        assert row.max_deviation <= 1e-3 and row.rms_deviation <= 1e-4, row
        assert row.agrees


def test_engine_that_is_wrong_is_found_out():
    class Wrong:
        def render(self, scenes, grid, instruments):
            images = np.ones((len(scenes), 1, grid.n_pix, grid.n_pix))
            images[1, 0, 3, 3] += self.error
            return images

    right, wrong = Wrong(), Wrong()
    right.error, wrong.error = 0.0, 2e-3
    (row,) = agreement.compare("demo", {"a": right, "b": wrong}, n_each=1, quick=True)
    assert not row.agrees and row.worst_class == "subhalo"
    assert row.max_deviation == pytest.approx(2e-3)
    (row,) = agreement.compare("demo", {"a": right, "b": right}, n_each=1, quick=True)
    assert row.agrees and row.max_deviation == 0
