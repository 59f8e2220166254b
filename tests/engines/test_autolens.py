"""The autolens engine: its conversions, profile by profile, and what it refuses."""

import dataclasses
import math

import numpy as np
import pytest

from pipeline.core.errors import EngineError
from pipeline.engines.base import ENGINES
from pipeline.physics.components import LightComponent, MassComponent
from pipeline.physics.geometry import Grid
from pipeline.physics.instrument import load_instrument
from pipeline.physics.light import sersic_brightness
from pipeline.physics.profiles.table import PROFILES
from pipeline.physics.scene import draw_scene

from ..physics.scenes import scene_config
from ..physics.test_profiles import PARAMETERS

GRID = Grid(16, 0.101, 2)
#: Mass profiles that PyAutoLens has itself; the others are ours in its interface.
ITS_OWN = {
    "sie": "Isothermal",
    "epl": "PowerLaw",
    "shear": "CentredShear",
    "mass_sheet": "MassSheet",
    "point_mass": "PointMass",
    "nfw": "NFWSph",
    "tnfw": "NFWTruncatedSph",
    "dual_isothermal": "dPIEMassB0Sph",
}


@pytest.fixture(scope="module")
def heavy():
    from pipeline.engines import _autolens

    return _autolens


@pytest.fixture(scope="module")
def scene():
    return draw_scene(scene_config(), 1, 0)


@pytest.fixture(scope="module")
def euclid():
    return load_instrument("euclid_vis")


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_traced_rays_agree_with_our_formula(name, heavy, scene):
    params = {**PARAMETERS[name], "center_x": 0.11, "center_y": -0.07}
    component = MassComponent(name, 0.5, params)
    lone = dataclasses.replace(scene, macro=(component,), perturbers=())
    x, y = np.random.default_rng(2).uniform(-2, 2, (2, 300))
    behind = heavy.trace(lone, heavy.aa.Grid2DIrregular(np.stack([y, x], axis=-1))).array
    alpha_x, alpha_y = PROFILES[name].deflection(x, y, **params)
    np.testing.assert_allclose(behind, np.stack([y - alpha_y, x - alpha_x], axis=-1), atol=1e-10)


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_its_own_profiles_are_used_where_it_has_them(name, heavy):
    mass = heavy._TABLE[name]({**PARAMETERS[name], "center_x": 0.1, "center_y": 0.2})
    assert type(mass).__name__ == ITS_OWN.get(name, "WrappedProfile")


@pytest.mark.parametrize("n", [0.6, 1.0, 2.5, 4.0])
def test_sersic_is_ours_although_its_b_n_differs(n, heavy):
    params = {"r_eff": 0.3, "n": n, "e1": 0.15, "e2": -0.2, "center_x": 0.1, "center_y": -0.05}
    x, y = np.random.default_rng(3).uniform(-1, 1, (2, 200))
    profile = heavy._sersic(params)
    assert profile.sersic_constant != pytest.approx(1.9992 * n - 0.3271, rel=1e-6)
    found = profile.image_2d_from(grid=heavy.aa.Grid2DIrregular(np.stack([y, x], axis=-1)))
    np.testing.assert_allclose(found.array, sersic_brightness(x, y, **params), rtol=1e-9)


def test_images_of_every_class_agree_with_lenstronomy(euclid):
    config = scene_config()
    scenes = [draw_scene(config, 4, i) for i in range(len(config.class_names))]
    images = {}
    for kind in ("autolens", "lenstronomy"):
        module = ENGINES.load(kind)
        images[kind] = module.build(module.Config()).render(scenes, GRID, (euclid,))
    peak = images["lenstronomy"].max()
    assert np.abs(images["autolens"] - images["lenstronomy"]).max() < 1e-9 * peak


def test_numpy_warnings_are_left_as_they_were(heavy, scene, euclid):
    before = np.geterr()
    heavy.AutolensEngine().render([scene], GRID, (euclid,))
    assert np.geterr() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"macro": (MassComponent("cheese", 0.5, {}),)}, "scene 0: no profile 'cheese'"),
        (
            {"source": (LightComponent("candle", {}, np.array([20.0])),)},
            "no light profile 'candle'",
        ),
        (
            {
                "macro": (
                    MassComponent(
                        "point_mass", 0.5, {"theta_E": math.nan, "center_x": 0.0, "center_y": 0.0}
                    ),
                )
            },
            "a parameter of point_mass is not finite",
        ),
    ],
)
def test_what_cannot_be_rendered_is_named(change, message, heavy, scene, euclid):
    with pytest.raises(EngineError, match=message):
        heavy.AutolensEngine().render([dataclasses.replace(scene, **change)], GRID, (euclid,))
