"""Halos summed as Gaussians: as good as one halo after another wherever they lie."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engines import _jax_setup
from pipeline.engines._jax import JaxEngine
from pipeline.engines._jax_halos import CHUNK, HaloField
from pipeline.engines._jax_pack import bucket, signature
from pipeline.physics.geometry import Grid
from pipeline.physics.profiles.table import PROFILES

from .populations import with_halos

GRID = Grid(64, 0.05, 1)
REACH = 2.0 * GRID.half_width


@pytest.fixture(scope="module", autouse=True)
def jax_is_set_up():
    _jax_setup.configure()


def summed(profile: str, halos: dict[str, np.ndarray], grid: Grid, dtype: str) -> np.ndarray:
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(dtype == "float64"):
        field = HaloField(PROFILES[profile].deflection, grid.axis(), 2.0 * grid.half_width)
        return np.array(field({k: jnp.asarray(v.astype(dtype)) for k, v in halos.items()}))


def exactly(profile: str, halos: dict[str, np.ndarray], grid: Grid) -> np.ndarray:
    x, y = grid.rays()
    columns = zip(*halos.values(), strict=True)
    each = [dict(zip(halos, values, strict=True)) for values in columns]
    return np.sum([PROFILES[profile].deflection(x, y, **halo) for halo in each], axis=0)


def one(**params: float) -> dict[str, np.ndarray]:
    return {name: np.array([value]) for name, value in params.items()}


@settings(max_examples=60, deadline=None)
@given(
    scale=st.floats(0.002, 2.0),
    tau=st.floats(0.2, 60.0),
    x=st.floats(-REACH, REACH),
    y=st.floats(-REACH, REACH),
)
def test_a_halo_of_any_size_at_any_place_is_right_to_5e_4_of_its_largest_deflection(
    scale, tau, x, y
):
    halo = one(theta_E=0.1, scale_radius=scale, tau=tau, center_x=x, center_y=y)
    radii = np.geomspace(1e-4, 3 * REACH, 400)
    centred = {**halo, "center_x": 0.0, "center_y": 0.0}
    largest = np.max(PROFILES["tnfw"].deflection(radii, 0.0 * radii, **centred)[0])
    error = summed("tnfw", halo, GRID, "float64") - exactly("tnfw", halo, GRID)
    assert np.abs(error).max() < 5e-4 * largest


def test_rays_around_a_centre_have_the_formula_itself():
    halo = one(theta_E=0.1, scale_radius=0.01, tau=8.0, center_x=0.326, center_y=-0.511)
    error = summed("tnfw", halo, GRID, "float64") - exactly("tnfw", halo, GRID)
    x, y = GRID.rays()
    is_near = np.maximum(np.abs(x - 0.326), np.abs(y + 0.511)) < 0.05
    assert is_near.sum() == 4
    assert np.abs(error[:, is_near]).max() < 1e-13
    assert np.abs(error).max() > 1e-9  # beyond, Gaussians


def test_a_ray_at_the_very_centre_is_not_deflected():
    centre = GRID.axis()[20]
    halo = one(theta_E=0.1, scale_radius=0.05, tau=5.0, center_x=centre, center_y=centre)
    for dtype in ("float32", "float64"):
        alpha = summed("tnfw", halo, GRID, dtype)
        assert np.all(np.isfinite(alpha))
        assert np.abs(alpha[:, 20, 20]).max() < 5e-6


@pytest.mark.parametrize("profile", ["tnfw", "nfw"])
@pytest.mark.parametrize("grid", [GRID, Grid(50, 0.11, 2), Grid(33, 0.03, 4)])
def test_a_field_is_the_sum_of_its_halos(profile, grid):
    rng = np.random.default_rng(3)
    halos = {
        "theta_E": rng.uniform(0.02, 0.1, 9),
        "scale_radius": rng.uniform(0.02, 0.3, 9),
        "tau": rng.uniform(0.5, 20.0, 9),
        "center_x": rng.uniform(-1.5, 1.5, 9) * grid.half_width,
        "center_y": rng.uniform(-1.5, 1.5, 9) * grid.half_width,
    }
    if profile == "nfw":
        del halos["tau"]
    expected = exactly(profile, halos, grid)
    narrow = summed(profile, halos, grid, "float32")
    wide = summed(profile, halos, grid, "float64")
    assert np.abs(wide - expected).max() < 1e-4
    np.testing.assert_allclose(narrow, wide, atol=2e-6)


def test_halos_of_no_mass_add_nothing():
    halos = {
        "theta_E": np.array([0.1, 0.0, 0.0]),
        "scale_radius": np.array([0.1, 1.0, 1.0]),
        "tau": np.array([3.0, 1.0, 1.0]),
        "center_x": np.array([0.2, 0.0, 0.0]),
        "center_y": np.zeros(3),
    }
    alone = {name: values[:1] for name, values in halos.items()}
    padded = summed("tnfw", halos, GRID, "float32")
    np.testing.assert_allclose(padded, summed("tnfw", alone, GRID, "float32"), atol=1e-8)


@pytest.mark.parametrize("n", [3, CHUNK, CHUNK + 1, 90])
def test_images_are_those_of_exact_sums(n, smooth, acs):
    scenes = [with_halos(smooth, n, seed) for seed in range(2)]
    heavy = [
        dataclasses.replace(
            scene,
            perturbers=tuple(
                dataclasses.replace(p, params={**p.params, "theta_E": 4.0 * p.params["theta_E"]})
                for p in scene.perturbers
            ),
        )
        for scene in scenes
    ]
    grid = Grid(40, 0.05, 1)
    fast = JaxEngine("float32").render(heavy, grid, (acs,))
    exact = JaxEngine("float32", approximate=False).render(heavy, grid, (acs,))
    difference = (fast - exact) / exact.max()
    assert 1e-7 < np.abs(difference).max() <= 2e-4
    assert np.sqrt(np.mean(difference**2)) <= 2e-5


def test_far_halos_get_gaussians_that_reach_them(smooth, acs):
    grid = Grid(16, 0.05, 1)
    near = with_halos(smooth, 8)
    moved = tuple(
        dataclasses.replace(p, params={**p.params, "center_x": p.params["center_x"] + 6.0})
        for p in near.perturbers
    )
    far = dataclasses.replace(near, perturbers=moved)
    reach = {name: signature(scene, grid).reach for name, scene in (("near", near), ("far", far))}
    assert (reach["near"], reach["far"]) == (1, 4)  # 0.8 arcsec doubled to 1.6 and to 12.8
    assert signature(far).reach is None
    fast = JaxEngine("float32").render([far], grid, (acs,))
    exact = JaxEngine("float64").render([far], grid, (acs,))
    assert np.abs(fast - exact).max() < 1e-4 * exact.max()


def test_few_halos_are_padded_little():
    assert [bucket("tnfw", n, gaussians=True) for n in (1, 4, 5, 25, 32, 33, 200)] == [
        4, 4, 8, 28, 32, 128, 512,
    ]  # fmt: skip
