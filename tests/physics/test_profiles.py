"""What must hold for any deflection: no curl, divergence of twice the convergence, symmetry."""

import math

import numpy as np
import pytest

from pipeline.physics.geometry import axis_ratio_angle, ellipticity
from pipeline.physics.light import sersic_brightness, sersic_flux
from pipeline.physics.profiles.array_api import atanh_over
from pipeline.physics.profiles.halos import nfw_mass, tnfw_mass, tnfw_total_mass
from pipeline.physics.profiles.table import PROFILES

PARAMETERS = {
    "sie": {"theta_E": 1.3, "q": 0.6, "phi": 0.5},
    "epl": {"theta_E": 1.3, "slope": 2.2, "q": 0.6, "phi": 0.5},
    "shear": {"gamma1": 0.05, "gamma2": -0.03},
    "mass_sheet": {"kappa": 0.1},
    "uniform_disc": {"kappa": -0.1, "radius": 0.9},
    "point_mass": {"theta_E": 0.3},
    "plummer": {"theta_E": 0.3, "core": 0.2},
    "tnfw": {"theta_E": 0.2, "scale_radius": 0.4, "tau": 1.7},
    "nfw": {"theta_E": 0.2, "scale_radius": 0.4},
    "dual_isothermal": {"theta_E": 0.3, "core": 0.05, "truncation": 0.6},
    "rod": {"theta_E": 0.3, "half_length": 0.7, "phi": 0.4, "core": 0.1},
    "multipole": {"m": 4, "a_m": 0.02, "phi_m": 0.3},
    "elliptical_multipole": {
        "m": 3,
        "a_m": 0.02,
        "phi_m": 0.3,
        "q": 0.6,
        "phi": 0.5,
        "theta_E": 1.3,
    },
}
CENTER = {"center_x": 0.11, "center_y": -0.07}
STEP = 1e-4


@pytest.fixture(params=sorted(PROFILES))
def case(request):
    return PROFILES[request.param], {**PARAMETERS[request.param], **CENTER}


@pytest.fixture
def places():
    rng = np.random.default_rng(3)
    radius, angle = rng.uniform(0.25, 2.0, 200), rng.uniform(0, 2 * math.pi, 200)
    radius = np.where(np.abs(radius - 0.9) < 0.01, 1.1, radius)  # off the edge of the disc
    return 0.11 + radius * np.cos(angle), -0.07 + radius * np.sin(angle)


def _jacobian(profile, params, x, y):
    """Derivatives d alpha_x/dx, d alpha_x/dy, d alpha_y/dx, d alpha_y/dy, fourth order."""

    def along(dx, dy):
        def at(k):
            return np.array(profile.deflection(x + k * dx, y + k * dy, **params))

        return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * STEP)

    (xx, yx), (xy, yy) = along(STEP, 0.0), along(0.0, STEP)
    return xx, xy, yx, yy


def test_deflection_has_no_curl(case, places):
    profile, params = case
    _, xy, yx, _ = _jacobian(profile, params, *places)
    np.testing.assert_allclose(xy, yx, rtol=1e-7, atol=1e-9)


def test_divergence_is_twice_the_convergence(case, places):
    profile, params = case
    xx, _, _, yy = _jacobian(profile, params, *places)
    constant = {"mass_sheet": 0.1, "shear": 0.0, "point_mass": 0.0}
    if profile.convergence is None:
        kappa = np.full(places[0].shape, constant[profile.name])
    else:
        kappa = profile.convergence(*places, **params)
    np.testing.assert_allclose(0.5 * (xx + yy), kappa, rtol=1e-6, atol=1e-9)


def test_deflection_follows_a_shift_of_the_centre(case, places):
    profile, params = case
    x, y = places
    moved = {**params, "center_x": params["center_x"] + 0.4, "center_y": params["center_y"] - 0.2}
    np.testing.assert_allclose(
        profile.deflection(x + 0.4, y - 0.2, **moved),
        profile.deflection(x, y, **params),
        rtol=1e-10,
        atol=1e-13,
    )


@pytest.mark.parametrize("name", ["sie", "epl", "rod", "elliptical_multipole"])
def test_deflection_turns_with_the_position_angle(name, places):
    profile, params = PROFILES[name], PARAMETERS[name]
    x, y = places
    c, s = math.cos(0.8), math.sin(0.8)
    turned = {**params, "phi": params["phi"] + 0.8}
    alpha_x, alpha_y = profile.deflection(x, y, **params)
    np.testing.assert_allclose(
        profile.deflection(c * x - s * y, s * x + c * y, **turned),
        (c * alpha_x - s * alpha_y, s * alpha_x + c * alpha_y),
        rtol=1e-9,
        atol=1e-13,
    )


def test_formula_gives_the_same_numbers_under_jax(case, places):
    import jax
    import jax.numpy as jnp

    profile, params = case
    static = ("m",) if "m" in params else ()
    with jax.enable_x64():
        found = jax.jit(profile.deflection, static_argnames=static)(
            *map(jnp.asarray, places), **params
        )
    np.testing.assert_allclose(
        np.asarray(found), profile.deflection(*places, **params), rtol=1e-10, atol=1e-13
    )


def test_columns_of_perturbers_broadcast(case, places):
    profile, params = case
    if profile.name == "elliptical_multipole":
        pytest.skip("its angular density is expanded once per lens, so it takes no columns")
    x, y = places
    columns = {name: np.array([value, value]) for name, value in params.items()}
    alpha = np.array(profile.deflection(x[:, None], y[:, None], **columns))
    np.testing.assert_allclose(alpha[..., 1], profile.deflection(x, y, **params), rtol=1e-9)


@pytest.mark.parametrize("name", ["sie", "epl"])
def test_mass_inside_the_ellipse_of_theta_E_is_that_of_a_point(name):
    p = {"theta_E": 1.3, "q": 0.6, "phi": 0.0} | ({"slope": 2.3} if name == "epl" else {})
    n = 400
    radius = (np.arange(n) + 0.5) / n
    angle = 2 * math.pi * (np.arange(n) + 0.5) / n
    # Ellipse q u^2 + v^2/q = theta_E^2, sampled in its own polar coordinates.
    rho, t = np.meshgrid(p["theta_E"] * radius**2, angle)  # squared: the centre is a cusp
    u, v = rho * np.cos(t) / math.sqrt(p["q"]), rho * np.sin(t) * math.sqrt(p["q"])
    area = 2 * radius * p["theta_E"] / n * rho * 2 * math.pi / n
    mass = np.sum(PROFILES[name].convergence(u, v, **p) * area)
    assert mass == pytest.approx(math.pi * p["theta_E"] ** 2, rel=1e-4)


def test_round_lens_is_the_isothermal_sphere(places):
    x, y = places
    r = np.hypot(x, y)
    for q in (1.0, 1.0 - 1e-9):
        alpha = PROFILES["sie"].deflection(x, y, 1.3, q, 0.3)
        np.testing.assert_allclose(alpha, (1.3 * x / r, 1.3 * y / r), atol=1.3e-9)


def test_isothermal_power_law_is_the_isothermal_ellipsoid(places):
    np.testing.assert_allclose(
        PROFILES["epl"].deflection(*places, 1.3, 2.0, 0.5, 0.3),
        PROFILES["sie"].deflection(*places, 1.3, 0.5, 0.3),
        rtol=1e-12,
    )


def test_short_rod_is_a_point_mass(places):
    np.testing.assert_allclose(
        PROFILES["rod"].deflection(*places, 0.3, 1e-5, 0.4, 0.0),
        PROFILES["point_mass"].deflection(*places, 0.3),
        rtol=1e-8,
    )


def test_thin_rod_is_the_limit_of_midpoint_masses():
    x, y = np.meshgrid(np.linspace(-1.5, 1.5, 12) + 0.017, np.linspace(-1.5, 1.5, 12) + 0.011)
    along = ((np.arange(4000) + 0.5) / 4000 * 2 - 1) * 0.7
    points = PROFILES["point_mass"].deflection(
        x[..., None],
        y[..., None],
        0.22 / math.sqrt(4000),
        along * math.cos(0.6),
        along * math.sin(0.6),
    )
    rod = PROFILES["rod"].deflection(x, y, 0.22, 0.7, 0.6, 0.0)
    np.testing.assert_allclose(np.sum(points, axis=-1), rod, atol=1e-6)


def test_rod_is_stable_in_float32_down_to_tiny_lengths(places):
    for length in (1e-4, 1e-2, 0.3, 3.0):
        exact = PROFILES["rod"].deflection(*places, 0.29, length, 0.4, 0.03)
        short = PROFILES["rod"].deflection(
            places[0].astype(np.float32), places[1].astype(np.float32), 0.29, length, 0.4, 0.03
        )
        assert np.max(np.abs(np.array(exact) - np.array(short))) < 1e-6


def test_rod_is_finite_on_its_own_points():
    x = np.array([0.0, 0.7, -0.7, 0.3])
    for core in (0.0, 0.05):
        alpha = PROFILES["rod"].deflection(x, np.zeros(4), 0.2, 0.7, 0.0, core)
        assert np.all(np.isfinite(alpha))


def test_truncated_halo_tends_to_its_limits():
    x = np.array([0.01, 0.3, 1.0, 3.0])
    np.testing.assert_allclose(tnfw_mass(x, 1e5), nfw_mass(x), rtol=1e-3)
    for tau in (0.3, 3.0, 20.0):
        assert tnfw_mass(np.array([1e5]), tau)[0] == pytest.approx(tnfw_total_mass(tau), rel=1e-3)


@pytest.mark.parametrize(("farthest", "rtol"), [(50.0, 1e-4), (1000.0, 3e-3)])
def test_truncated_halo_in_single_precision_far_beyond_its_truncation(farthest, rtol):
    x = np.geomspace(1e-4, farthest, 2000)
    for tau in (0.3, 1.0, 5.0, 30.0):
        found = tnfw_mass(x.astype(np.float32), tau)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, tnfw_mass(x, tau), rtol=rtol)


def test_halo_mass_is_smooth_through_the_scale_radius():
    x = np.linspace(0.4, 1.2, 4001)
    jumps = np.abs(np.diff(tnfw_mass(x, 2.0), n=3))
    assert jumps.max() < 2e-10


def test_series_and_closed_form_meet():
    for edge in (0.05, -0.05):
        d = np.array([edge * (1 - 1e-12), edge * (1 + 1e-12)])
        low, high = atanh_over(d)
        assert low == pytest.approx(high, rel=1e-12)


def test_ellipticity_and_axis_ratio_are_inverse():
    q, phi = np.array([0.2, 0.7, 0.99]), np.array([-1.5, 0.3, 1.5])
    found = axis_ratio_angle(*ellipticity(q, phi))
    np.testing.assert_allclose(found, (q, phi), rtol=1e-12)


def test_sersic_flux_is_the_integral_of_its_brightness():
    axis = (np.arange(1200) - 599.5) * 0.01
    x, y = np.meshgrid(axis, axis)
    total = sersic_brightness(x, y, 0.4, 1.2, 0.1, -0.2).sum() * 0.01**2
    assert total == pytest.approx(sersic_flux(0.4, 1.2), rel=2e-4)
