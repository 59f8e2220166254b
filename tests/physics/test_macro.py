"""Macro lens options: multipoles, the dispersion as size, a macro lens by class."""

import math

import numpy as np
import pytest

from pipeline.core.config import validate
from pipeline.core.errors import ConfigError
from pipeline.physics.macro import MultipoleConfig
from pipeline.physics.profiles.multipoles import (
    deflection_elliptical_multipole,
    deflection_multipole,
)
from pipeline.physics.scene import SceneConfig, draw_scene, smooth_twin, truth_columns

from .scenes import scene_config, scene_data

SPREAD = {"kind": "truncated_normal", "mean": 0.0, "sigma": 0.01, "low": -0.05, "high": 0.05}
FREE = {"kind": "uniform", "low": 0.0, "high": 1.5}
POLES = [{"m": 3, "amplitude": SPREAD, "angle": FREE}, {"m": 4, "amplitude": SPREAD}]


def config_with(multipoles):
    data = scene_data()
    return validate({**data, "macro": {**data["macro"], "multipoles": multipoles}}, SceneConfig)


def test_multipoles_shift_no_other_draw():
    plain, shaped = scene_config(), config_with(POLES)
    for name in plain.class_names:
        one, other = draw_scene(plain, 3, 5, name), draw_scene(shaped, 3, 5, name)
        assert other.macro[:2] == one.macro
        assert {k: other.truth[k] for k in one.truth} == pytest.approx(one.truth, nan_ok=True)
        assert [s.params for s in other.source] == [s.params for s in one.source]


def test_multipoles_are_blind_to_the_class_and_stay_in_the_twin():
    config = config_with(POLES)
    scenes = [draw_scene(config, 3, 5, name) for name in config.class_names]
    for scene in scenes:
        assert scene.macro[2:] == scenes[0].macro[2:]
        assert smooth_twin(scene).macro[2:] == scene.macro[2:]
        assert len(scene.macro) == 4


def test_amplitude_is_in_units_of_the_total_einstein_radius():
    config = config_with(POLES)
    scene = draw_scene(config, 3, 8)
    for pole, m in zip(scene.macro[2:], (3, 4), strict=True):
        assert pole.profile == "elliptical_multipole"
        assert pole.params["a_m"] == scene.truth[f"a_{m}"] * scene.truth["theta_E"]
        assert pole.params["phi_m"] == scene.truth[f"phi_{m}"]
        assert (pole.params["q"], pole.params["phi"]) == (scene.truth["q"], scene.truth["phi"])
    assert scene.truth["phi_4"] == 0.0
    assert {"a_3", "phi_3", "a_4", "phi_4"} <= set(truth_columns(config))


def test_drawn_amplitudes_follow_their_prior():
    config = config_with(POLES)
    drawn = np.array([draw_scene(config, 3, 3 * i, "smooth").truth["a_4"] for i in range(400)])
    assert abs(drawn.mean()) < 5 * 0.01 / math.sqrt(400)
    assert abs(drawn.std() / 0.01 - 1) < 5 / math.sqrt(800)


def test_circular_and_elliptical_multipoles_of_a_round_lens_agree():
    data = scene_data()
    shape = {"q": 1.0, "phi": 0.4}
    x, y = np.array([0.5, 1.1, -0.3]), np.array([0.2, -0.6, 0.9])
    found = []
    for kind in ("circular", "elliptical"):
        macro = {
            **data["macro"],
            "shape": shape,
            "multipoles": [{"kind": kind, "m": 4, "amplitude": 0.02, "angle": 0.3}],
        }
        scene = draw_scene(validate({**data, "macro": macro}, SceneConfig), 3, 5)
        formula = deflection_multipole if kind == "circular" else deflection_elliptical_multipole
        found.append(formula(x, y, **scene.macro[2].params))
    np.testing.assert_allclose(found[0], found[1], atol=1e-12)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ([{"m": 5, "amplitude": 0.01}], "3 or 4"),
        ([{"m": 3, "amplitude": 0.2}], r"from 0\.2 to 0\.2 .*can leave the allowed range"),
        ([{"m": 3, "amplitude": {"kind": "normal", "mean": 0, "sigma": 0.01}}], "truncated_normal"),
        ([{"m": 3, "amplitude": 0.01}, {"m": 3, "amplitude": 0.02}], "different m"),
    ],
)
def test_bad_multipoles_are_refused(block, message):
    with pytest.raises(ConfigError, match=message) as caught:
        config_with(block)
    assert "macro" in str(caught.value)


def test_multipole_defaults_to_the_elliptical_aligned_one():
    block = MultipoleConfig.model_validate({"m": 4, "amplitude": 0.01})
    assert block.kind == "elliptical"
    assert block.angle.support() == (0.0, 0.0)


def test_dispersion_as_size_is_that_of_the_isothermal_sphere():
    data = scene_data()
    macro = {k: v for k, v in data["macro"].items() if k != "theta_E"} | {"sigma_v": 260.0}
    scene = draw_scene(validate({**data, "macro": macro}, SceneConfig), 3, 0)
    assert scene.host.theta_E == pytest.approx(0.83511, abs=1e-5)
    assert scene.truth["sigma_v"] == pytest.approx(260.0, rel=1e-9)


def test_macro_lens_by_class_needs_its_defect():
    data = scene_data()
    own = {"substructure": "smooth", "macro": {**data["macro"], "theta_E": 2.0}}
    classes = {"a": own, "b": {"substructure": "smooth"}}
    with pytest.raises(ConfigError, match="class_dependent_macro"):
        scene_config(classes=classes)
    config = scene_config(classes=classes, defects={"class_dependent_macro": True})
    assert draw_scene(config, 1, 0).host.theta_E == 2.0
    assert draw_scene(config, 1, 1).host.theta_E < 1.3


def test_legacy_model_iv_tells_its_classes_by_the_ring():
    from .scenes import preset_scenes

    config = preset_scenes("legacy_model_iv")
    smooth, cdm, axion = ([draw_scene(config, 1, 3 * i + k) for i in range(60)] for k in range(3))
    radii = np.array([s.host.theta_E for s in smooth])
    assert abs(radii.mean() - 0.835) < 5 * 0.13 / math.sqrt(60) + 0.005
    assert radii.std() == pytest.approx(0.13, rel=0.4)
    assert {round(s.host.theta_E, 3) for s in (*cdm, *axion)} == {0.951}
    assert all(s.macro[1].params["gamma1"] == 0.0 for s in smooth)
    assert cdm[0].macro[1].params["gamma1"] == pytest.approx(0.05 * 0.63374, rel=1e-4)
