"""Scenes: nuisances blind to the class, total Einstein radius kept, bad priors refused."""

import dataclasses
import math
import pickle

import numpy as np
import pytest

from pipeline.core.config import config_sha256, dump, validate
from pipeline.core.errors import ConfigError, PhysicsError
from pipeline.physics import fields
from pipeline.physics.compensation import mean_deflection, mean_field_deflection
from pipeline.physics.population import CLASS_TRUTH
from pipeline.physics.profiles.table import PROFILES
from pipeline.physics.scene import (
    SceneConfig,
    draw_scene,
    smooth_twin,
    truth_columns,
)
from pipeline.physics.substructure.base import SUBSTRUCTURE

from .scenes import preset_scenes, scene_config, scene_data

#: The classes of CONFIG: one per kind of substructure.
KINDS = SUBSTRUCTURE.kinds()


@pytest.fixture(scope="module")
def config():
    return scene_config()


def _deflection(scene, x, y):
    total = np.zeros((2, *x.shape))
    for mass in scene.macro:
        total += PROFILES[mass.profile].deflection(x, y, **mass.params)
    for group in scene.perturbers:
        columns = PROFILES[group.profile].deflection(x[..., None], y[..., None], **group.params)
        total += np.sum(columns, axis=-1)
    for field in scene.fields:
        total += fields.deflection(field, x, y)
    return total


def _class_columns(config):
    own = {n for b in config.classes.values() for n in SUBSTRUCTURE.load(b.substructure.kind).TRUTH}
    return own | set(CLASS_TRUTH)


def test_nuisances_are_bit_identical_whatever_the_class(config):
    for index in range(20):
        scenes = [draw_scene(config, 11, index, name) for name in config.class_names]
        first = scenes[0]
        for scene in scenes[1:]:
            assert scene.host == first.host
            assert scene.macro[1] == first.macro[1]
            for a, b in zip(scene.source, first.source, strict=True):
                assert a.params == b.params
                np.testing.assert_array_equal(a.magnitude, b.magnitude)
            for name in set(truth_columns(config)) - _class_columns(config):
                assert scene.truth[name] == first.truth[name], name


def test_options_of_a_class_shift_no_nuisance(config):
    other = scene_config(signal_scale=3.0, classes={"only": {"substructure": "smooth"}})
    mine, theirs = draw_scene(config, 11, 4, "cdm"), draw_scene(other, 11, 4)
    assert mine.host == theirs.host
    assert mine.truth["source_x"] == theirs.truth["source_x"]


def test_class_of_an_image_is_its_index_modulo_the_classes(config):
    n = len(config.class_names)
    names = [draw_scene(config, 0, index).class_name for index in range(2 * n)]
    assert names == list(config.class_names) * 2


def test_scene_depends_on_seed_and_index_alone(config):
    first, again = draw_scene(config, 2, 9), draw_scene(config, 2, 9)
    assert pickle.dumps(first) == pickle.dumps(again)
    assert draw_scene(config, 3, 9).truth != first.truth
    assert draw_scene(config, 2, 9 + len(config.class_names)).truth != first.truth


@pytest.mark.parametrize("name", KINDS)
def test_total_einstein_radius_is_blind_to_the_class(config, name):
    angle = 2 * math.pi * np.arange(256) / 256
    c, s = np.cos(angle), np.sin(angle)
    for index in range(5):
        scene = draw_scene(config, 5, index, name)
        host = scene.host
        # Of the ellipsoid, the part of the deflection that is a monopole is known in closed form.
        radius = host.theta_E
        macro = scene.macro[0].params["theta_E"]
        monopole = macro ** (host.slope - 1) * radius ** (2 - host.slope)
        total = monopole + mean_deflection(scene.perturbers, host, radius)
        total += mean_field_deflection(scene.fields, host, radius)
        assert total == pytest.approx(radius, rel=1e-12)
        # The same from the deflection itself, for a round lens (points are no fair sample).
        if name != "point_masses":
            params = {**scene.macro[0].params, "q": 1.0}
            lens = dataclasses.replace(
                scene, macro=(dataclasses.replace(scene.macro[0], params=params), scene.macro[1])
            )
            alpha = _deflection(lens, host.center_x + radius * c, host.center_y + radius * s)
            assert np.mean(alpha[0] * c + alpha[1] * s) == pytest.approx(radius, rel=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_mass_labels_follow_from_the_stored_components(config, name):
    for index in range(5):
        scene = draw_scene(config, 6, index, name)
        masses = [p for p in scene.perturbers if p.profile != "uniform_disc"]
        inside = mean_deflection(masses, scene.host, scene.host.theta_E)
        m_2d = math.pi * scene.host.sigma_crit * scene.host.theta_E * inside
        assert scene.truth["m_tot_2d"] == pytest.approx(m_2d, rel=1e-5)
        assert scene.truth["n_sub"] == sum(len(p) for p in masses)
        total = sum(p.mass.sum() for p in masses)
        assert scene.truth["m_sub"] == pytest.approx(total, rel=1e-12)
        assert scene.truth["theta_E_macro"] == scene.macro[0].params["theta_E"]


def test_signal_scale_multiplies_every_mass(config):
    heavy, light = scene_config(signal_scale=2.0), config
    for name in KINDS:
        a, b = draw_scene(heavy, 1, 3, name), draw_scene(light, 1, 3, name)
        assert a.truth["m_sub"] == pytest.approx(2 * b.truth["m_sub"], rel=1e-12)
        assert a.truth["m_tot_2d"] == pytest.approx(2 * b.truth["m_tot_2d"], rel=1e-9)


def test_sham_data_of_no_signal_are_the_smooth_lens(config):
    sham = scene_config(signal_scale=0.0)
    x, y = np.meshgrid(np.linspace(-1.5, 1.5, 7), np.linspace(-1.5, 1.5, 7))
    for name in KINDS:
        scene = draw_scene(sham, 1, 3, name)
        np.testing.assert_array_equal(
            _deflection(scene, x, y), _deflection(smooth_twin(scene), x, y)
        )


def test_smooth_twin_is_the_scene_of_the_smooth_class(config):
    smooth = draw_scene(config, 1, 4, "smooth")
    twin = smooth_twin(draw_scene(config, 1, 4, "vortex"))
    assert (twin.macro, twin.perturbers) == (smooth.macro, ())


def test_smooth_lens_is_its_own_twin_to_the_last_bit(config):
    for index in range(50):
        smooth = draw_scene(config, 1, index, "smooth")
        assert smooth_twin(smooth).macro == smooth.macro


def test_truth_has_every_column_and_no_other(config):
    for name in KINDS:
        assert list(draw_scene(config, 0, 1, name).truth) == list(truth_columns(config))
    for column in truth_columns(config).values():
        assert column.description


def test_truth_is_finite_where_the_class_has_the_value(config):
    vortex = draw_scene(config, 0, 1, "vortex").truth
    assert vortex["axion_mass"] == pytest.approx(10 ** vortex["log10_axion_mass"])
    smooth = draw_scene(config, 0, 1, "smooth").truth
    assert math.isnan(smooth["axion_mass"])
    assert smooth["n_sub"] == smooth["m_tot_2d"] == 0.0


def test_population_heavier_than_half_the_lens_is_drawn_again_and_counted():
    config = scene_config(
        signal_scale=1.0,
        classes={
            "a": {
                "substructure": {
                    "kind": "vortex",
                    "mass": {"kind": "log_uniform", "low": 1e10, "high": 1e12},
                }
            }
        },
    )
    truth = [draw_scene(config, 1, i).truth for i in range(30)]
    redrawn = [t["n_redrawn"] for t in truth]
    assert 0 < np.mean(redrawn) < 3
    assert all(t["theta_E_macro"] > 0.3 * t["theta_E"] for t in truth)


def test_lens_made_of_substructure_alone_is_an_error():
    block = {"substructure": {"kind": "vortex", "mass": 1e13}}
    config = scene_config(classes={"a": block})
    with pytest.raises(PhysicsError, match="signal_scale"):
        draw_scene(config, 1, 0)


def test_configuration_survives_a_round_trip_with_the_order_of_its_classes():
    block = {"substructure": "smooth"}
    config = scene_config(classes={"zeta": block, "alpha": block})
    again = validate(dump(config), SceneConfig)
    assert again == config
    assert again.class_names == ("zeta", "alpha")
    swapped = scene_config(classes={"alpha": block, "zeta": block})
    assert config_sha256(swapped) != config_sha256(config)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("z_source", 0.4, "not behind a lens"),
        ("z_lens", {"kind": "uniform", "low": 0.2, "high": 1.1}, "not behind a lens"),
        ("host_mass", {"kind": "normal", "mean": 1e13, "sigma": 1e12}, "truncated_normal"),
        ("macro.theta_E", -1.0, "range"),
        ("macro.theta_E", {"kind": "normal", "mean": 1.0, "sigma": 0.1}, "truncated_normal"),
        ("macro.shape", {"q": 1.2, "phi": 0.0}, "range"),
        ("macro.shape", {"e1": 0.1, "phi": 0.0}, "expected q and phi or e1 and e2"),
        ("macro.shape", {"e1": 0.8, "e2": 0.0}, "range"),
        ("macro.slope", 3.0, "range"),
        ("source.r_eff", 0.0, "range"),
        ("source.shape", {"e1": {"kind": "normal", "mean": 0.0, "sigma": 0.1}, "e2": 0.0}, "range"),
        ("classes", {}, "at least 1"),
        ("classes.a.substructure", {"kind": "cmd"}, "did you mean 'cdm'"),
        ("classes.a.substructure", {"kind": "cdm", "m_min": 1e11}, "below m_max"),
        ("classes.a.substructure", {"kind": "cdm", "m_min": -1.0}, "greater than 0"),
        ("classes.a.substructure", {"kind": "vortex", "mass": -1e9}, "range"),
        ("signal_scale", -1.0, "greater than or equal"),
        ("macro.einstein_mass", 1e12, "one of theta_E and einstein_mass"),
        ("macro.thetaE", 1.0, "unknown key"),
    ],
)
def test_priors_that_leave_the_physical_range_are_refused(path, value, message):
    data = scene_data(classes={"a": {"substructure": {"kind": "smooth"}}})
    block = data
    *parents, last = path.split(".")
    for key in parents:
        block[key] = dict(block[key])
        block = block[key]
    block[last] = value
    with pytest.raises(ConfigError, match=message) as caught:
        validate(data, SceneConfig)
    assert path.split(".")[0] in str(caught.value) or message == "not behind a lens"


def test_legacy_model_ii_has_the_ring_and_masses_of_the_published_code():
    config = preset_scenes("legacy_model_ii")
    smooth, cdm, vortex = (draw_scene(config, 1, i) for i in range(3))
    assert smooth.host.theta_E == pytest.approx(1.281490567617296 * 0.6337383137658485, rel=1e-8)
    assert smooth.macro[1].params["gamma1"] == pytest.approx(0.05 * 0.6337383137658485, rel=1e-8)
    assert cdm.truth["n_sub"] == 25
    # Masses deflect by the wrong formula, and times 0.634: theta_E^2 scales with the mass.
    whole = sum(p.params["theta_E"] ** 2 @ np.ones(len(p)) for p in vortex.perturbers)
    assert whole == pytest.approx(0.22196067725334362**2 * 0.6337383137658485, rel=1e-8)
    # The mass is added on top of the lens.
    assert {s.truth["theta_E_macro"] for s in (smooth, cdm, vortex)} == {smooth.host.theta_E}


def test_legacy_vortex_keeps_its_points_where_they_are_resolved():
    config = preset_scenes("legacy_model_ii")
    seen = set()
    for index in range(2, 90, 3):
        scene = draw_scene(config, 1, index)
        log10_mass = scene.truth["log10_axion_mass"]
        points = scene.perturbers[0].profile == "point_mass"
        assert points == (log10_mass < -23.1)
        seen.add(points)
        length = 0.03 * 10 ** (-22 - log10_mass)
        if points:
            assert len(scene.perturbers[0]) == 100
            x = scene.perturbers[0].params["center_x"]
            y = scene.perturbers[0].params["center_y"]
            assert np.hypot(x, y).max() == pytest.approx(length)
        else:
            half = scene.perturbers[0].params["half_length"][0]
            assert half == pytest.approx(length * 100 / 99)
    assert seen == {True, False}


def test_demo_says_that_it_is_easy():
    from pipeline.core.config import resolve
    from pipeline.core.resources import sim_params

    tree, _ = resolve("demo", sim_params())
    assert "narrow priors" in tree["description"]
    config = preset_scenes("demo")
    assert config.class_names == ("no", "subhalo", "vortex")
    assert config.signal_scale == 10.0
