"""Knobs fix priors of the configuration; what they make is an ordinary image of it."""

import math

import numpy as np
import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.priors import Constant
from pipeline.dataset.config import DatasetConfig, load_dataset_config
from pipeline.dataset.knobs import find_knobs, placed, with_settings
from pipeline.dataset.live import LiveSimulator
from pipeline.dataset.single import simulate
from pipeline.detectability.measure import Measure

SMALL = ("n_pix=32", "supersample=1", "engine={kind: jax, batch_size: 1}")


@pytest.fixture(scope="module")
def config() -> DatasetConfig:
    return load_dataset_config("demo", SMALL)


@pytest.fixture(scope="module")
def simulator(config: DatasetConfig) -> LiveSimulator:
    return LiveSimulator(config)


@pytest.mark.parametrize("preset", ["demo", "contrast_hst", "legacy_model_i", "hard_fdm"])
def test_every_knob_is_a_key_that_the_configuration_takes(preset: str) -> None:
    config = load_dataset_config(preset)
    knobs = find_knobs(config)
    assert {"lens", "source"} <= {knob.group for knob in knobs}
    settings = {knob.key: knob.setting(knob.value) for knob in knobs}
    fixed = with_settings(placed(config), settings)
    assert fixed.scenes.source_position.kind == "placed"
    for knob in knobs:
        assert knob.low <= knob.value <= knob.high
        assert knob.known is None or knob.low <= knob.known[0] < knob.known[1] <= knob.high


def test_a_knob_holds_its_value_inside_its_range_and_refuses_what_is_no_number(config) -> None:
    (knob,) = (k for k in find_knobs(config) if k.key == "scenes.macro.theta_E")
    assert knob.setting(99.0) == knob.high
    for wrong in (math.nan, math.inf, "1.0", True, None):
        with pytest.raises(ConfigError, match="is no number"):
            knob.setting(wrong)  # type: ignore[arg-type]


def test_the_image_is_that_of_the_configuration_with_the_priors_fixed(simulator) -> None:
    values = [knob.value for knob in simulator.knobs]
    live = simulator.simulate(values, class_name="vortex", index=3)
    assert isinstance(live.config.scenes.macro.theta_E, Constant)
    again = simulate(live.config, 3, class_name="vortex")
    np.testing.assert_array_equal(live.image, again.image)


def test_what_a_knob_says_is_what_the_scene_has(simulator) -> None:
    keys = [knob.key for knob in simulator.knobs]
    values = [knob.value for knob in simulator.knobs]
    values[keys.index("scenes.macro.theta_E")] = 1.23
    values[keys.index("scenes.source_position.x")] = -0.31
    values[keys.index("scenes.classes.2.substructure.mass")] = 9.5
    live = simulator.simulate(values, class_name="vortex")
    truth = live.scene.truth
    assert truth["theta_E"] == pytest.approx(1.23)
    assert truth["source_x"] - live.scene.host.center_x == pytest.approx(-0.31)
    assert truth["m_sub"] == pytest.approx(10.0**9.5 * live.config.scenes.signal_scale)


def test_the_difference_in_sigma_adds_up_to_d_raw_and_vanishes_without_substructure(
    simulator,
) -> None:
    values = [knob.value for knob in simulator.knobs]
    live = simulator.simulate(values, class_name="vortex")
    assert live.d_raw == pytest.approx(np.linalg.norm(live.in_sigma))
    smooth = simulator.simulate(values, class_name="no")
    assert smooth.d_raw == 0.0
    assert not smooth.in_sigma.any()


def test_d_prime_is_that_of_the_dataset(simulator, config) -> None:
    values = [knob.value for knob in simulator.knobs]
    live = simulator.simulate(values, class_name="vortex")
    found = simulator.detectability(live)
    expected = Measure(live.survey, widths=simulator._widths)([live.scene])
    for kind in ("raw", "prior", "refit"):  # float32 rays against float64
        np.testing.assert_allclose(getattr(found, kind), getattr(expected, kind), rtol=2e-3)
    assert found.refit[0, 0] <= found.prior[0, 0] <= found.raw[0, 0]


def test_another_telescope_sees_the_same_field(simulator, config) -> None:
    values = [knob.value for knob in simulator.knobs]
    live = simulator.simulate(values, class_name="no", instrument="euclid_vis")
    assert live.config.bands == ("euclid_vis",)
    field = live.config.n_pix * live.config.pixel_scale
    assert field == pytest.approx(config.n_pix * config.pixel_scale, abs=live.config.pixel_scale)


def test_a_telescope_without_noise_has_no_d_prime(simulator) -> None:
    values = [knob.value for knob in simulator.knobs]
    live = simulator.simulate(values, class_name="no", instrument="legacy_model_iii")
    assert live.d_raw is None and live.in_sigma is None
