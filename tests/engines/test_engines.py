"""Engines: one contract for all kinds, and the lenstronomy engine against the reference images."""

import dataclasses
import math

import numpy as np
import pytest

from pipeline.core.errors import EngineError
from pipeline.engines.base import ENGINES
from pipeline.physics.components import LightComponent, MassComponent
from pipeline.physics.geometry import Grid, axis_ratio_angle
from pipeline.physics.instrument import load_instrument
from pipeline.physics.light import sersic_flux
from pipeline.physics.profiles.table import PROFILES
from pipeline.physics.psf import GaussianPsf, KernelPsf, NoPsf, encode_kernel
from pipeline.physics.scene import draw_scene, smooth_twin

from ..physics.scenes import scene_config, scene_data, source_block
from ..physics.test_profiles import PARAMETERS
from ..physics.vectors import entries

GRID = Grid(24, 0.101, 2)
#: Of the peak: engines may compute in float32.
FLOAT32 = 2e-6


@pytest.fixture(scope="module", params=ENGINES.kinds())
def engine(request):
    module = ENGINES.load(request.param)
    return module.build(module.Config())


@pytest.fixture(scope="module")
def lenstronomy():
    module = ENGINES.load("lenstronomy")
    return module.build(module.Config())


@pytest.fixture(scope="module")
def config():
    return scene_config()


@pytest.fixture(scope="module")
def euclid():
    return load_instrument("euclid_vis")


def test_engine_renders_every_class_finite_and_positive(engine, config, euclid):
    scenes = [draw_scene(config, 1, i) for i in range(2 * len(config.class_names))]
    images = engine.render(scenes, GRID, (euclid,))
    assert images.shape == (len(scenes), 1, 24, 24)
    assert images.dtype == np.float64
    assert np.all(np.isfinite(images)) and images.min() >= 0 and images.max() > 0


def test_image_does_not_depend_on_its_neighbours(engine, config, euclid):
    scenes = [draw_scene(config, 1, i) for i in range(5)]
    together = engine.render(scenes, GRID, (euclid,))
    for scene, image in zip(scenes, together, strict=True):
        np.testing.assert_array_equal(engine.render([scene], GRID, (euclid,))[0], image)


def test_bands_differ_by_zero_point_and_colour(engine, config, euclid):
    other = euclid.with_changes(zero_point=euclid.zero_point + 1.0)
    scene = draw_scene(config, 1, 0)
    first, second = engine.render([scene], GRID, (euclid, other))[0]
    np.testing.assert_allclose(second, first * 10**0.4, atol=FLOAT32 * second.max())


def test_unlensed_flux_is_that_of_the_magnitude(engine, config, euclid):
    scene = dataclasses.replace(draw_scene(config, 1, 0), macro=(), perturbers=())
    image = engine.render([scene], Grid(80, 0.101, 4), (euclid,))
    magnitude = scene.source[0].magnitude[0]
    expected = 10 ** (-0.4 * (magnitude - euclid.zero_point))
    assert image.sum() == pytest.approx(expected, rel=2e-3)


def test_lensing_keeps_surface_brightness(engine, config, euclid):
    sharp = euclid.with_changes(psf=NoPsf())
    for index in range(4):
        scene = draw_scene(config, 1, index)
        p = scene.source[0].params
        flux = 10 ** (-0.4 * (scene.source[0].magnitude[0] - sharp.zero_point))
        peak = flux / sersic_flux(p["r_eff"], p["n"]) * math.exp(1.9992 * p["n"] - 0.3271)
        image = engine.render([scene], GRID, (sharp,))
        assert image.max() <= peak * GRID.pixel_scale**2 * (1 + 1e-6)


def test_lens_light_is_not_lensed(engine, config, euclid):
    scene = draw_scene(config, 1, 0)
    galaxy = LightComponent(
        "sersic",
        {"r_eff": 0.3, "n": 1.0, "e1": 0.0, "e2": 0.0, "center_x": 0.0, "center_y": 0.0},
        np.array([20.0]),
    )
    lit = dataclasses.replace(scene, lens_light=(galaxy,))
    alone = dataclasses.replace(scene, macro=(), perturbers=(), source=(galaxy,))
    images = engine.render([scene, lit, alone], GRID, (euclid,))
    np.testing.assert_allclose(images[1] - images[0], images[2], atol=FLOAT32 * images.max())


def test_image_sources_are_the_same_light_in_every_engine(engine, euclid, lenstronomy):
    config = scene_config(source=source_block("image"))
    scenes = [draw_scene(config, 1, i, "smooth") for i in range(5)]
    found, expected = (e.render(scenes, GRID, (euclid,)) for e in (engine, lenstronomy))
    peak = expected.max(axis=(1, 2, 3), keepdims=True)
    assert np.abs((found - expected) / peak).max() < 1e-4
    assert peak.min() > 0


def test_multipoles_are_the_same_in_every_engine(engine, euclid, lenstronomy):
    data = scene_data()
    poles = [{"kind": "elliptical", "m": 3, "amplitude": 0.02, "angle": 0.4}]
    for kind in ("elliptical", "circular"):
        shaped = [*poles, {"kind": kind, "m": 4, "amplitude": 0.03, "angle": 0.2}]
        config = scene_config(macro={**data["macro"], "multipoles": shaped})
        scenes = [draw_scene(config, 1, i, "smooth") for i in range(3)]
        plain = [dataclasses.replace(s, macro=s.macro[:2]) for s in scenes]
        found, expected = (e.render(scenes, GRID, (euclid,)) for e in (engine, lenstronomy))
        peak = expected.max(axis=(1, 2, 3), keepdims=True)
        assert np.abs((found - expected) / peak).max() < 1e-4
        without = lenstronomy.render(plain, GRID, (euclid,))
        assert np.abs((found - without) / peak).max() > 1e-2


def test_kernel_psf_is_the_same_in_every_engine(engine, config, euclid, lenstronomy):
    kernel = np.random.default_rng(4).random((5, 5))
    psf = KernelPsf(**encode_kernel(kernel, "here"))
    instruments = (euclid.with_changes(psf=psf),)
    scenes = [draw_scene(config, 1, i) for i in range(2)]
    found, expected = (e.render(scenes, GRID, instruments) for e in (engine, lenstronomy))
    assert np.abs(found - expected).max() < 1e-4 * expected.max()


def test_scene_that_renders_non_finite_is_named(engine, config, euclid):
    scene = draw_scene(config, 1, 7)
    params = {**scene.macro[0].params, "theta_E": math.nan}
    broken = dataclasses.replace(
        scene, macro=(dataclasses.replace(scene.macro[0], params=params), *scene.macro[1:])
    )
    with pytest.raises(EngineError, match=r"scene 7 .*not finite"):
        engine.render([broken], GRID, (euclid,))


def test_image_larger_than_its_random_field_is_named(engine, config, euclid):
    scene = draw_scene(config, 1, 2, "fdm")
    with pytest.raises(EngineError, match=r"scene 2 .*raise its field_of_view"):
        engine.render([scene], Grid(60, 0.101, 1), (euclid,))


def test_random_field_is_seen_as_lenstronomy_sees_it(engine, config, euclid, lenstronomy):
    scenes = [draw_scene(config, 1, i, "fdm") for i in range(3)]
    bare = [dataclasses.replace(scene, fields=()) for scene in scenes]
    expected = lenstronomy.render(scenes, GRID, (euclid,))
    found = engine.render(scenes, GRID, (euclid,))
    peak = expected.max(axis=(1, 2, 3))
    assert np.all(np.abs(found - expected).max(axis=(1, 2, 3)) < 5e-6 * peak)
    changed = np.abs(found - engine.render(bare, GRID, (euclid,))).max(axis=(1, 2, 3))
    assert np.all(changed > 2e-3 * peak)


def test_instrument_of_other_pixels_is_refused(engine, config, euclid):
    with pytest.raises(EngineError, match=r"pixels of 0\.101"):
        engine.render([draw_scene(config, 1, 0)], Grid(24, 0.05, 2), (euclid,))


# ------------------------------------------------------------------ the lenstronomy engine


def _vector_scene(params, template):
    """Scene of an image vector: SIE, shear, point mass and one Sersic source."""
    ellipsoid, shear, point = params["lens"]
    q, phi = axis_ratio_angle(ellipsoid["e1"], ellipsoid["e2"])
    source = params["source"][0]
    magnitude = -2.5 * math.log10(
        source["amp"] * sersic_flux(source["R_sersic"], source["n_sersic"])
    )
    light = {
        "r_eff": source["R_sersic"],
        "n": source["n_sersic"],
        **{k: source[k] for k in ("e1", "e2", "center_x", "center_y")},
    }
    center = {"center_x": 0.0, "center_y": 0.0}
    return dataclasses.replace(
        template,
        macro=(
            MassComponent(
                "sie", 0.5, {"theta_E": ellipsoid["theta_E"], "q": q, "phi": phi, **center}
            ),
            MassComponent("shear", 0.5, {**shear, **center}),
            MassComponent("point_mass", 0.5, point),
        ),
        perturbers=(),
        source=(LightComponent("sersic", light, np.array([magnitude])),),
    )


@pytest.mark.parametrize("entry", entries("image"))
def test_image_meets_the_reference(entry, lenstronomy, config, euclid):
    p = entry["params"]
    instrument = euclid.with_changes(
        pixel_scale=p["scale"],
        psf=GaussianPsf(fwhm=p["fwhm"], truncation=p["truncate"]),
        zero_point=0.0,
    )
    scene = _vector_scene(p, draw_scene(config, 1, 0))
    image = lenstronomy.render([scene], Grid(p["n"], p["scale"], p["ss"]), (instrument,))[0, 0]
    np.testing.assert_allclose(
        image, np.array(entry["out"]["image"]), rtol=entry["rtol"], atol=entry["atol"]
    )


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_lenstronomy_profile_agrees_with_our_formula(name, lenstronomy, config):
    params = {**PARAMETERS[name], "center_x": 0.11, "center_y": -0.07}
    scene = dataclasses.replace(
        draw_scene(config, 1, 0), macro=(MassComponent(name, 0.5, params),), perturbers=()
    )
    rng = np.random.default_rng(2)
    radius, angle = rng.uniform(0.05, 2, 300), rng.uniform(0, 2 * math.pi, 300)
    x, y = 0.11 + radius * np.cos(angle), -0.07 + radius * np.sin(angle)
    found = np.array(lenstronomy.deflection(scene, x, y))
    truth = np.array(PROFILES[name].deflection(x, y, **params))
    if name == "elliptical_multipole":  # up to a constant deflection, which shifts the source
        found -= found.mean(axis=1, keepdims=True)
        truth -= truth.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found, truth, rtol=1e-7, atol=1e-8)


def test_rod_is_the_limit_of_lenstronomy_point_masses(lenstronomy, config):
    from lenstronomy.LensModel.Profiles.point_mass import PointMass

    params = {"theta_E": 0.22, "half_length": 0.7, "phi": 0.6, "core": 0.0}
    center = {"center_x": 0.1, "center_y": 0.05}
    scene = dataclasses.replace(
        draw_scene(config, 1, 0),
        macro=(MassComponent("rod", 0.5, {**params, **center}),),
        perturbers=(),
    )
    x, y = (g.ravel() for g in Grid(12, 0.25).rays())
    found = np.array(lenstronomy.deflection(scene, x, y))
    errors = []
    for n in (100, 1000):
        along = ((np.arange(n) + 0.5) / n * 2 - 1) * 0.7
        points = np.zeros((2, x.size))
        for t in along:
            points += PointMass().derivatives(
                x, y, 0.22 / math.sqrt(n), 0.1 + t * math.cos(0.6), 0.05 + t * math.sin(0.6)
            )
        errors.append(np.max(np.abs(points - found)))
    assert errors[1] < 5e-5
    assert errors[1] < 0.02 * errors[0]  # falls as the square of the number of points


def test_smooth_twin_renders_as_the_smooth_class(lenstronomy, config, euclid):
    twin = smooth_twin(draw_scene(config, 1, 3, "cdm"))
    smooth = draw_scene(config, 1, 3, "smooth")
    first, second = lenstronomy.render([twin, smooth], GRID, (euclid,))
    np.testing.assert_array_equal(first, second)


def test_unknown_profile_is_named(lenstronomy, config, euclid):
    scene = draw_scene(config, 1, 0)
    odd = dataclasses.replace(scene, macro=(MassComponent("cheese", 0.5, {}),))
    with pytest.raises(EngineError, match="cheese"):
        lenstronomy.render([odd], GRID, (euclid,))
