"""Lens light: shown as it is, or subtracted with its Poisson noise kept."""

import dataclasses
import math

import numpy as np
import pytest

from pipeline.core.config import validate
from pipeline.core.errors import ConfigError
from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.generate import record, subtracted_rate
from pipeline.engines.base import ENGINES
from pipeline.physics.detector import expose, variance
from pipeline.physics.geometry import Grid
from pipeline.physics.instrument import load_instrument
from pipeline.physics.lens_light import LensLightConfig, light_rate
from pipeline.physics.scene import draw_scene

from .scenes import scene_config

LIGHT = {
    "components": [
        {"magnitude": {"kind": "uniform", "low": 19.0, "high": 20.0}, "r_eff": 0.5, "n": 4.0},
        {"magnitude": 21.0, "r_eff": 1.2, "n": 1.0, "shape": {"e1": 0.1, "e2": 0.0}},
    ]
}
N = 40_000


@pytest.fixture(scope="module")
def euclid():
    return load_instrument("euclid_vis")


def test_lens_light_shifts_no_other_draw():
    plain, lit = scene_config(), scene_config(lens_light=LIGHT)
    one, other = draw_scene(plain, 2, 1), draw_scene(lit, 2, 1)
    assert one.macro == other.macro and one.host == other.host
    assert {k: v for k, v in other.truth.items() if k in one.truth} == pytest.approx(
        one.truth, nan_ok=True
    )
    assert other.lens_light == () and len(other.subtracted_light) == 2


def test_component_without_a_shape_has_that_of_the_mass():
    scene = draw_scene(scene_config(lens_light=LIGHT), 2, 1)
    bulge, disc = scene.subtracted_light
    assert (bulge.params["e1"], bulge.params["e2"]) == (scene.truth["e1"], scene.truth["e2"])
    assert disc.params["e1"] == 0.1
    assert bulge.params["center_x"] == scene.host.center_x
    flux = sum(10 ** (-0.4 * float(c.magnitude[0])) for c in scene.subtracted_light)
    assert scene.truth["lens_magnitude"] == pytest.approx(-2.5 * math.log10(flux))


def test_light_rate_is_what_an_engine_renders(euclid):
    shown = draw_scene(scene_config(lens_light={**LIGHT, "subtracted": False}), 2, 1)
    alone = dataclasses.replace(shown, source=())
    grid = Grid(24, 0.101, 2)
    module = ENGINES.load("lenstronomy")
    image = module.build(module.Config()).render([alone], grid, (euclid,))[0]
    np.testing.assert_allclose(
        light_rate(shown.lens_light, grid, (euclid,)), image, rtol=1e-6, atol=1e-9 * image.max()
    )


@pytest.mark.parametrize("poisson", [True, False])
def test_subtracted_light_adds_to_the_variance_and_not_to_the_mean(euclid, poisson):
    instrument = euclid.with_changes(poisson=poisson)
    image, gone = np.full((1, 200, 200), 0.3), np.full((1, 200, 200), 2.0)
    draws = expose(image, (instrument,), np.random.default_rng(3), gone).astype(float)
    sigma2 = variance(image, (instrument,), gone)[0, 0, 0]
    plain = variance(image, (instrument,))[0, 0, 0]
    assert sigma2 == pytest.approx(plain + 2.0 / instrument.total_time, rel=1e-12)
    assert abs(draws.mean() - 0.3) / math.sqrt(sigma2 / N) < 5
    assert abs(draws.var() / sigma2 - 1) < 5 * math.sqrt(2 / N) + 1e-3


def test_no_subtracted_light_changes_no_image(euclid):
    image = np.full((1, 20, 20), 0.3)
    none, zero = (
        expose(image, (euclid,), np.random.default_rng(3), gone)
        for gone in (None, np.zeros_like(image))
    )
    np.testing.assert_array_equal(none, zero)


def test_preset_with_subtracted_light_is_noisier_in_the_middle():
    config = load_dataset_config("model_iv_fixed", ["n_pix=24", "supersample=1"])
    scene = draw_scene(config.scenes, 1, 0)
    nothing = np.zeros((30, 1, 24, 24))
    scenes = [dataclasses.replace(scene, index=i) for i in range(30)]
    images = record(config, nothing, scenes)
    middle, edge = images[:, 0, 10:14, 10:14], images[:, 0, :4, :4]
    assert middle.std() > 1.5 * edge.std()
    assert abs(middle.mean()) < 5 * middle.std() / math.sqrt(middle.size)
    expected = subtracted_rate(config, scene)
    assert expected is not None and expected.argmax() in range(10 * 24, 14 * 24)


def test_lens_light_without_components_is_refused():
    with pytest.raises(ConfigError, match="components"):
        validate({"components": []}, LensLightConfig)
