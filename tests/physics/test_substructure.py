"""Substructure and source kinds: one contract for all, and the statistics of each."""

import math

import numpy as np
import pytest
from scipy import stats

from pipeline.core.config import dump, validate
from pipeline.core.errors import ConfigError, PhysicsError
from pipeline.core.priors import Constant
from pipeline.core.seeding import Stream, image_rng
from pipeline.physics import subhalos
from pipeline.physics.components import TruthColumn
from pipeline.physics.cosmology import FlatLCDM, critical_surface_density
from pipeline.physics.geometry import axis_ratio_angle, rotate_in
from pipeline.physics.host import Host
from pipeline.physics.profiles.table import PROFILES
from pipeline.physics.sources import clumpy
from pipeline.physics.sources.base import SOURCES
from pipeline.physics.substructure import cdm, point_masses, sidm, vortex, wdm
from pipeline.physics.substructure.base import SUBSTRUCTURE, power_law

from .scenes import source_block, substructure_block


@pytest.fixture(scope="module")
def host():
    model = FlatLCDM()
    return Host(
        z_lens=0.5,
        z_source=1.0,
        theta_E=1.2,
        m200=1e13,
        sigma_v=300.0,
        cosmology=model,
        sigma_crit=critical_surface_density(model, 0.5, 1.0),
        kpc_per_arcsec=model.kpc_per_arcsec(0.5),
        center_x=0.05,
        center_y=-0.02,
        slope=2.0,
    )


def _rng(index=0):
    return image_rng(3, index, Stream.SUBSTRUCTURE)


# ------------------------------------------------------------------ contract of every kind


@pytest.fixture(params=SUBSTRUCTURE.kinds())
def kind(request):
    return request.param


def test_kind_draws_valid_columns(kind, host):
    module, config = SUBSTRUCTURE.load(kind), SUBSTRUCTURE.config(substructure_block(kind))
    for index in range(5):
        population = module.draw(config, host, _rng(index))
        assert set(population.truth) == set(module.TRUTH)
        assert all(math.isfinite(v) for v in population.truth.values())
        assert population.disc_radius >= 0
        for group in population.perturbers:
            profile = PROFILES[group.profile]
            assert set(group.params) == set(profile.parameter_names)
            for parameter in profile.parameters:
                column = group.params[parameter.name]
                assert column.shape == group.z.shape == group.mass.shape == (len(group),)
                assert column.dtype == np.float64
                assert np.all(column >= parameter.low), parameter.name
                assert np.all(column <= parameter.high), parameter.name
            assert np.all(group.mass > 0)
            assert np.all(group.z < host.z_source)


def test_kind_draws_the_same_from_the_same_stream(kind, host):
    module, config = SUBSTRUCTURE.load(kind), SUBSTRUCTURE.config(substructure_block(kind))
    first, again = (module.draw(config, host, _rng(4)) for _ in range(2))
    assert first.truth == again.truth
    for a, b in zip(first.perturbers, again.perturbers, strict=True):
        np.testing.assert_array_equal(a.mass, b.mass)
        for name in a.params:
            np.testing.assert_array_equal(a.params[name], b.params[name])


def test_kind_survives_a_round_trip_and_describes_itself(kind):
    config = SUBSTRUCTURE.config(substructure_block(kind))
    assert validate(dump(config), type(config)) == config
    assert SUBSTRUCTURE.summary(kind)
    for column in SUBSTRUCTURE.load(kind).TRUTH.values():
        assert isinstance(column, TruthColumn)


@pytest.mark.parametrize("name", SOURCES.kinds())
def test_source_kind_draws_light_around_the_origin(name):
    module, config = SOURCES.load(name), SOURCES.config(source_block(name))
    first, again = (module.draw(config, image_rng(3, 1, Stream.SCENE)) for _ in range(2))
    assert first.truth == again.truth
    assert set(first.truth) == set(module.TRUTH)
    assert first.components
    for component in first.components:
        assert component.magnitude.shape == (1,)
        assert all(math.isfinite(v) for v in component.params.values())
    assert validate(dump(config), type(config)) == config


def test_source_with_colours_has_a_magnitude_per_band():
    config = SOURCES.config({**source_block("sersic"), "colours": (0.5, -0.2)})
    drawn = SOURCES.load("sersic").draw(config, image_rng(3, 1, Stream.SCENE))
    magnitude = drawn.components[0].magnitude
    np.testing.assert_allclose(magnitude - magnitude[0], [0.0, 0.5, -0.2])


def test_clumps_take_their_share_of_the_flux_and_lie_in_the_light():
    block = {**source_block("clumpy"), "magnitude": 22.0, "r_eff": 0.2, "n": 1.0, "n_clumps": 20.0}
    config, module = SOURCES.config(block), SOURCES.load("clumpy")
    areas = []
    for index in range(200):
        drawn = module.draw(config, image_rng(3, index, Stream.SCENE))
        galaxy, *clumps = drawn.components
        flux = np.array([10 ** (-0.4 * (c.magnitude[0] - 22.0)) for c in (galaxy, *clumps)])
        assert flux.sum() == pytest.approx(1.0)
        assert flux[1:].sum() == pytest.approx(drawn.truth["source_clump_fraction"])
        assert flux[1:].max() <= 10 * flux[1:].min() * (1 + 1e-12)
        assert drawn.truth["source_n_clumps"] == len(clumps) >= 3
        p = galaxy.params
        q, phi = axis_ratio_angle(p["e1"], p["e2"])
        for clump in clumps:
            u, v = rotate_in(clump.params["center_x"], clump.params["center_y"], phi, 0.0, 0.0)
            areas.append(q * u**2 + v**2 / q)
    # Half of the places lie inside the half-light ellipse.
    inside = np.mean(np.array(areas) < 0.2**2)
    assert abs(inside - 0.5) < 5 * math.sqrt(0.25 / len(areas)) + 1e-3


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_clumps_of_no_light_or_all_of_it_are_refused(fraction):
    with pytest.raises(ConfigError, match="clump_fraction"):
        validate({**source_block("clumpy"), "clump_fraction": fraction}, clumpy.Config)


# ------------------------------------------------------------------ mass functions and places


def _cdf(slope, low, high):
    b = slope + 1
    return lambda m: (m**b - low**b) / (high**b - low**b)


@pytest.mark.parametrize("slope", [-1.9, -0.9])
def test_power_law_follows_its_distribution(slope):
    masses = power_law(np.random.default_rng(8).random(20_000), 1e6, 1e10, slope)
    assert stats.kstest(masses, _cdf(slope, 1e6, 1e10)).pvalue > 1e-3


def test_cdm_counts_masses_and_places_follow_the_mass_function(host):
    config = cdm.Config(sigma_sub=Constant(value=0.05))
    draws = [subhalos.draw_halos(config, host, _rng(i))[1] for i in range(200)]
    counts = np.array([len(d.mass) for d in draws])
    area = math.pi * (2.5 * host.theta_E * host.kpc_per_arcsec) ** 2
    mean = area * subhalos.number_density(1e7, 1e10, 0.05, -1.9, 1e13, 0.5)
    assert abs(counts.mean() - mean) / math.sqrt(mean / 200) < 5
    assert abs(counts.var() / mean - 1) < 5 * math.sqrt(2 / 200)
    mass, radius, angle, c = (
        np.concatenate([getattr(d, name) for d in draws[:60]])
        for name in ("mass", "radius", "angle", "concentration")
    )
    assert stats.kstest(mass, _cdf(-1.9, 1e7, 1e10)).pvalue > 1e-3
    assert stats.kstest((radius / (2.5 * host.theta_E)) ** 2, "uniform").pvalue > 1e-3
    assert stats.kstest(angle / (2 * math.pi), "uniform").pvalue > 1e-3
    scatter = np.log10(c / subhalos.concentration(mass, 0.5, host.cosmology)) / 0.11
    assert stats.kstest(scatter, "norm").pvalue > 1e-3


def test_cdm_has_the_number_and_mass_of_the_specification(host):
    # PHYSICS 4.3: 0.440 halos/kpc^2, kappa_sub 0.0128 and f_sub 2.6 % in infall masses.
    number = subhalos.number_density(1e7, 1e10, 0.05, -1.9, 1e13, 0.5)
    assert number == pytest.approx(0.440, abs=5e-4)
    kappa = number * 8.975e7 / (host.sigma_crit / host.kpc_per_arcsec**2)
    assert kappa == pytest.approx(0.0128, abs=1e-4)


def test_cdm_depth_follows_the_host_profile(host):
    config = cdm.Config(sigma_sub=Constant(value=0.1))
    halos = [subhalos.draw_halos(config, host, _rng(i))[1] for i in range(30)]
    radius = np.concatenate([h.radius for h in halos]) * host.kpc_per_arcsec
    r3d = np.concatenate([h.radius_3d for h in halos])
    along = np.sqrt(np.maximum(r3d**2 - radius**2, 0.0))
    a = np.hypot(60.0, radius)
    quantile = np.arctan(along / a) / np.arctan(500.0 / a)
    assert stats.kstest(quantile, "uniform").pvalue > 1e-3


def test_cdm_bound_mass_is_below_the_infall_mass_by_the_truncation(host):
    config = cdm.Config(sigma_sub=Constant(value=0.1))
    _, halos = subhalos.draw_halos(config, host, _rng())
    perturbers = subhalos.truncated_halos(halos, host)
    assert perturbers.params["theta_E"] == pytest.approx(
        np.sqrt(
            subhalos.nfw_scale_mass(halos.mass, halos.concentration) / (math.pi * host.sigma_crit)
        )
    )
    ratio = perturbers.mass / halos.mass
    assert 0.01 < ratio.min() < np.median(ratio) < 1.0


def test_at_least_so_many_halos_lie_inside_the_given_radius(host):
    config = cdm.Config(sigma_sub=Constant(value=0.05), m_min=1e9, m_max=3e10, n_min=2)
    for index in range(30):
        population = cdm.draw(config, host, _rng(index))
        p = population.perturbers[0].params
        distance = np.hypot(p["center_x"] - host.center_x, p["center_y"] - host.center_y)
        assert np.count_nonzero(distance < 1.5 * host.theta_E) >= 2


def test_demand_for_halos_that_never_come_is_an_error(host):
    config = cdm.Config(sigma_sub=Constant(value=1e-6), m_min=1e9, n_min=3)
    with pytest.raises(PhysicsError, match="raise sigma_sub"):
        cdm.draw(config, host, _rng())


def test_point_masses_follow_the_legacy_population(host):
    config = point_masses.Config()
    counts = [len(point_masses.draw(config, host, _rng(i)).perturbers[0]) for i in range(400)]
    assert abs(np.mean(counts) - 25) / math.sqrt(25 / 400) < 5
    # Variance of the variance of a Poisson number: (2 mean^2 + mean)/n to leading order.
    assert abs(np.var(counts) - 25) / math.sqrt((2 * 25**2 + 25) / 400) < 5
    bugged = point_masses.Config(slope_bug=True, count_bug=True)
    groups = [point_masses.draw(bugged, host, _rng(i)).perturbers[0] for i in range(400)]
    assert {len(g) for g in groups} == {25}
    mass = np.concatenate([g.mass for g in groups])
    assert stats.kstest(mass, _cdf(-0.9, 1e6, 1e10)).pvalue > 1e-3
    p = groups[0].params
    radius = np.hypot(p["center_x"] - host.center_x, p["center_y"] - host.center_y)
    assert radius.min() >= 0.25 and radius.max() <= 2.0


def test_vortex_length_is_physical_at_other_redshifts(host):
    config = vortex.Config(mass=Constant(value=3e9), log10_axion_mass=Constant(value=-22.5))
    near = vortex.draw(config, host, _rng()).truth["vortex_half_length"]
    assert near == pytest.approx(0.03 * 10**0.5, rel=1e-5)
    z = 0.8
    far_host = Host(
        **{**host.__dict__, "z_lens": z, "kpc_per_arcsec": FlatLCDM().kpc_per_arcsec(z)}
    )
    far = vortex.draw(config, far_host, _rng()).truth["vortex_half_length"]
    assert far * far_host.kpc_per_arcsec == pytest.approx(near * host.kpc_per_arcsec)


def test_vortex_lies_in_its_disc_with_a_core(host):
    config = vortex.Config(mass=Constant(value=3e9))
    truth = [vortex.draw(config, host, _rng(i)).truth for i in range(400)]
    offset = np.array(
        [math.hypot(t["vortex_x"] - host.center_x, t["vortex_y"] - host.center_y) for t in truth]
    )
    assert stats.kstest((offset / (0.3 * host.theta_E)) ** 2, "uniform").pvalue > 1e-3
    angles = np.array([t["vortex_angle"] for t in truth]) / math.pi
    assert stats.kstest(angles, "uniform").pvalue > 1e-3
    for t in truth:
        assert t["vortex_core"] == max(0.03, 0.1 * t["vortex_half_length"])


def test_points_with_a_core_are_refused():
    with pytest.raises(ConfigError, match="no core"):
        validate({"kind": "vortex", "mass": 1e9, "n_points": 100}, vortex.Config)


# ------------------------------------------------------------------ families built on cdm


def _cold_and(module, host, index, **changes):
    cold = cdm.draw(cdm.Config(sigma_sub=Constant(value=0.05)), host, _rng(index))
    config = module.Config(sigma_sub=Constant(value=0.05), **changes)
    return cold.perturbers[0], module.draw(config, host, _rng(index))


def test_warm_halos_are_a_subset_of_their_cold_twin(host):
    for index in range(5):
        cold, warm = _cold_and(wdm, host, index)
        places = set(cold.params["center_x"])
        assert set(warm.perturbers[0].params["center_x"]) < places


def test_warm_dark_matter_removes_light_halos_as_stated(host):
    m_hm = 10**8.5
    cold_mass, warm_mass = [], []
    for index in range(60):
        config = cdm.Config(sigma_sub=Constant(value=0.1))
        _, halos = subhalos.draw_halos(config, host, _rng(index))
        _, warm = _cold_and(wdm, host, index, log10_half_mode_mass=Constant(value=8.5))
        cold_mass.append(halos.mass[: len(halos.mass)])
        warm_mass.append(len(warm.perturbers[0]))
    # Expected number: the mean suppression over the cold mass function, half the normalisation.
    expected = 0.5 * np.sum(wdm.subhalo_suppression(np.concatenate(cold_mass), m_hm))
    assert abs(np.sum(warm_mass) - expected) / math.sqrt(expected) < 5


def test_warm_masses_follow_the_suppressed_mass_function(host):
    masses = np.concatenate([_warm_infall_masses(host, index, m_hm=1e8) for index in range(60)])
    grid = np.geomspace(1e7, 1e10, 4001)
    density = grid**-1.9 * wdm.subhalo_suppression(grid, 1e8)
    steps = 0.5 * (density[1:] + density[:-1]) * np.diff(grid)
    below = np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()
    assert stats.kstest(masses, lambda m: np.interp(m, grid, below)).pvalue > 1e-3
    # The test has power: the cold mass function is refused.
    assert stats.kstest(masses, _cdf(-1.9, 1e7, 1e10)).pvalue < 1e-3


def _warm_infall_masses(host, index, m_hm):
    """Infall masses of the cold twin's halos that are kept, found again by their places."""
    config = cdm.Config(sigma_sub=Constant(value=0.05))
    _, halos = subhalos.draw_halos(config, host, _rng(index))
    x = host.center_x + halos.radius * np.cos(halos.angle)
    _, warm = _cold_and(wdm, host, index, log10_half_mode_mass=Constant(value=math.log10(m_hm)))
    return halos.mass[np.isin(x, warm.perturbers[0].params["center_x"])]


def test_warm_halos_are_less_concentrated(host):
    cold, warm = _cold_and(wdm, host, 2, log10_half_mode_mass=Constant(value=9.0))
    columns = warm.perturbers[0].params
    for x, scale in zip(columns["center_x"], columns["scale_radius"], strict=True):
        assert scale > cold.params["scale_radius"][cold.params["center_x"] == x][0]


def test_self_interacting_halos_keep_the_bound_mass_and_place_of_their_twin(host):
    cold, drawn = _cold_and(sidm, host, 3, collapsed_fraction=Constant(value=0.4))
    halos = drawn.perturbers[0]
    np.testing.assert_array_equal(halos.mass, cold.mass)
    np.testing.assert_array_equal(halos.params["center_y"], cold.params["center_y"])
    core = halos.params["core"] / cold.params["scale_radius"]
    collapsed = np.isclose(core, 0.02)
    assert drawn.truth["n_collapsed"] == np.count_nonzero(collapsed)
    assert abs(collapsed.mean() - 0.4) < 5 * math.sqrt(0.24 / len(core))
    assert core[~collapsed].min() >= 0.3 and core[~collapsed].max() <= 0.8
    assert np.all(halos.params["truncation"] > halos.params["core"])


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 0), (1.0, None)])
def test_every_or_no_halo_collapses_at_the_ends_of_the_prior(host, fraction, expected):
    _, drawn = _cold_and(sidm, host, 3, collapsed_fraction=Constant(value=fraction))
    n = len(drawn.perturbers[0])
    assert drawn.truth["n_collapsed"] == (n if expected is None else expected)
