"""Field halos along the line of sight: their cone, their number and what each does."""

import math

import numpy as np
import pytest
from scipy import stats

from pipeline.core.priors import Constant
from pipeline.physics import cosmology, subhalos
from pipeline.physics.cosmology import FlatLCDM
from pipeline.physics.massfunction import Spectrum, halo_number
from pipeline.physics.profiles.halos import tnfw_total_mass
from pipeline.physics.substructure import cdm, los

from .test_substructure import _rng, host  # noqa: F401  # a fixture

MODEL = FlatLCDM()
LIMITS = (1e7, 1e10, -1.9)


@pytest.fixture(scope="module")
def cone():
    return los.double_cone(MODEL, Spectrum(), 0.5, 1.0, LIMITS)


def _field(host, index, **changes):  # noqa: F811
    config = los.Config(sigma_sub=Constant(value=0.05), **changes)
    population = los.draw(config, host, _rng(index))
    return population.truth, population.perturbers[1]


def test_cone_holds_the_mean_number_of_its_volume(cone):
    # Two cones on one base hold a third of base times height, whatever their shape.
    base = math.pi * (MODEL.distance(0.5) * 1.5 * cosmology.ARCSEC) ** 2
    volume = base * MODEL.distance(1.0) * 2.0 / 3.0
    mass = np.geomspace(*LIMITS[:2], 200)
    at_lens = np.trapezoid(halo_number(mass, 0.5, MODEL, Spectrum()) * mass, np.log(mass))
    # The number density changes by a few per cent between z = 0 and 1.
    assert cone.number[-1] == pytest.approx(volume * at_lens, rel=0.03)


def test_coupling_is_that_of_the_distances():
    lens, source = (MODEL.distance(z) * (1 + z) for z in (0.5, 1.0))
    for z in (0.2, 0.8):
        near, far = min(z, 0.5), max(z, 0.5)
        expected = (
            MODEL.distance_between(near, far)
            * MODEL.distance(1.0)
            / (MODEL.distance(far) * MODEL.distance_between(near, 1.0))
        )
        found = los.coupling(np.array([MODEL.distance(z) * (1 + z)]), lens, source)
        assert found[0] == pytest.approx(expected, rel=1e-10)
    ends = los.coupling(np.array([1e-9, lens, source]), lens, source)
    np.testing.assert_allclose(ends, [1.0, 0.0, 1.0], atol=1e-9)


def test_halo_at_the_lens_acts_as_a_subhalo_and_one_at_the_source_not_at_all(cone):
    whole = 1 / (math.pi * cosmology.critical_surface_density(MODEL, 0.5, 1.0))
    assert np.interp(0.5, cone.z, cone.efficiency) == pytest.approx(whole, rel=1e-9)
    assert cone.efficiency.max() <= whole * (1 + 1e-9)
    assert cone.efficiency[-1] < 1e-4 * whole


def test_effective_single_plane_is_the_two_plane_deflection_averaged_over_the_ring():
    # A point mass behind a singular isothermal lens, both on the axis of a ring: two planes give
    # beta = theta - alpha - alpha_h(theta - b alpha), whose halo term has the mean convergence
    # (1 - b) theta_h^2/theta'^2 with theta' = (1 - b) theta. The spec keeps the factor 1 - b and
    # drops the change of scale; both agree to first order in b.
    lens, source = (MODEL.distance(z) * (1 + z) for z in (0.5, 1.0))
    b = float(los.coupling(np.array([MODEL.distance(0.52) * 1.52]), lens, source)[0])
    assert 0 < b < 0.1
    theta, halo = 1.0, 1e-3
    exact = halo**2 / ((1 - b) * theta)
    effective = (1 - b) * halo**2 / theta
    assert effective == pytest.approx(exact, rel=2.5 * b)


def test_numbers_follow_the_amplitude(host):  # noqa: F811
    mean = los.double_cone(MODEL, Spectrum(), 0.5, 1.0, LIMITS).number[-1] * (2.5 * 1.2) ** 2
    for delta in (0.8, 1.2):
        counts = [_field(host, i, delta_los=Constant(value=delta))[0]["n_los"] for i in range(200)]
        assert abs(np.mean(counts) - delta * mean) < 5 * math.sqrt(delta * mean / 200)
        assert abs(np.var(counts) / (delta * mean) - 1) < 5 * math.sqrt(2 / 200)
    drawn = [_field(host, i)[0]["delta_los"] for i in range(50)]
    assert 0.8 <= min(drawn) < 0.9 and 1.1 < max(drawn) <= 1.2


def test_redshifts_and_places_follow_the_cone(host, cone):  # noqa: F811
    groups = [_field(host, i)[1] for i in range(40)]
    z = np.concatenate([g.z for g in groups])
    depth = np.interp(z, cone.z, cone.number) / cone.number[-1]
    assert stats.kstest(depth, "uniform").pvalue > 1e-3
    x, y = (
        np.concatenate([g.params[name] for g in groups]) - c
        for name, c in (("center_x", host.center_x), ("center_y", host.center_y))
    )
    assert stats.kstest(np.hypot(x, y) ** 2 / (2.5 * 1.2) ** 2, "uniform").pvalue > 1e-3


def test_mass_of_a_field_halo_is_the_one_that_acts_in_the_lens_plane(host):  # noqa: F811
    _, halos = _field(host, 1)
    p = halos.params
    point = math.pi * host.sigma_crit * p["theta_E"] ** 2
    np.testing.assert_allclose(halos.mass, point * tnfw_total_mass(p["tau"]), rtol=1e-12)


def test_field_halos_end_where_their_mean_density_is_fifty():
    c = np.array([4.0, 10.0, 30.0])
    tau = los.truncation(c)

    def mean_density(x):
        return (np.log1p(x) - x / (1 + x)) / x**3

    np.testing.assert_allclose(mean_density(tau) / mean_density(c), 50 / 200, rtol=2e-3)


def test_subhalos_are_those_of_the_cold_twin(host):  # noqa: F811
    for index in range(3):
        config = los.Config(sigma_sub=Constant(value=0.05))
        mine = los.draw(config, host, _rng(index)).perturbers[0]
        cold = cdm.draw(cdm.Config(sigma_sub=Constant(value=0.05)), host, _rng(index)).perturbers[0]
        np.testing.assert_array_equal(mine.mass, cold.mass)
        np.testing.assert_array_equal(mine.params["center_x"], cold.params["center_x"])


def test_warm_dark_matter_thins_the_field_halos_as_stated(host):  # noqa: F811
    m_hm = 10**8.5
    limits = np.geomspace(*LIMITS[:2], 4000)
    weight = limits**-0.9
    kept = np.sum(weight / (1 + (2.3 * m_hm / limits) ** 0.8)) / np.sum(weight)
    cold = sum(_field(host, i)[0]["n_los"] for i in range(80))
    warm = sum(
        _field(host, i, log10_half_mode_mass=Constant(value=8.5))[0]["n_los"] for i in range(80)
    )
    assert abs(warm - kept * cold) < 5 * math.sqrt(kept * (1 - kept) * cold)


def test_sizes_are_those_of_the_halos_own_redshift():
    mass, c = np.array([1e8, 1e8]), np.array([15.0, 15.0])
    z = np.array([0.2, 0.8])
    together = subhalos.nfw_scale_radius(mass, c, z, MODEL)
    for k in range(2):
        alone = subhalos.nfw_scale_radius(mass[k : k + 1], c[k : k + 1], float(z[k]), MODEL)
        assert together[k] == pytest.approx(alone[0], rel=1e-12)
    assert together[0] > together[1]  # the Universe was denser
