"""Fuzzy dark matter: thinned halos, granules of stated power, and their gridded deflection."""

import dataclasses
import math

import numpy as np
import pytest

from pipeline.core.errors import PhysicsError
from pipeline.core.priors import Constant
from pipeline.core.seeding import Stream, image_rng
from pipeline.physics import fields, subhalos
from pipeline.physics.compensation import mean_field_deflection
from pipeline.physics.components import FieldComponent
from pipeline.physics.geometry import Grid
from pipeline.physics.scene import draw_scene, smooth_twin
from pipeline.physics.substructure import cdm, fdm

from .scenes import scene_config, scene_data
from .test_substructure import _rng, host  # noqa: F401  # a fixture

LENGTH, CELL, N = 0.06, 0.02, 256


def _noise(index, length=LENGTH, cell=CELL, n=N):
    return fields.gaussian_noise(image_rng(5, index, Stream.FIELD), n, cell, length)


def _granules(**changes):
    values = {
        "length": 0.06,
        "sigma": 0.03,
        "theta_E": 1.0,
        "center_x": 0.04,
        "center_y": -0.03,
        "field_of_view": 2.6,
        "n_cells": 256,
    }
    return fdm.Granules(**{**values, **changes})


# ------------------------------------------------------------------ the noise, equation (4.10)


def test_noise_has_unit_variance():
    # Independent patches: the square over the integral of the squared correlation, pi length^2/2.
    patches = (N * CELL) ** 2 / (0.5 * math.pi * LENGTH**2)
    variance = np.mean([np.var(_noise(i)) for i in range(20)])
    assert abs(variance - 1) < 5 * math.sqrt(2 / (20 * patches))


def test_noise_has_the_stated_correlation():
    spectra = [np.abs(np.fft.fft2(_noise(i))) ** 2 for i in range(40)]
    found = np.fft.ifft2(np.mean(spectra, axis=0)).real / N**2
    lags = np.arange(8) * CELL
    expected = np.exp(-(lags**2) / LENGTH**2)
    patches = 40 * (N * CELL) ** 2 / (0.5 * math.pi * LENGTH**2)
    for row in (found[0, :8], found[:8, 0]):
        np.testing.assert_allclose(row, expected, atol=5 * math.sqrt(2 / patches))


def test_noise_has_the_stated_power_even_on_coarse_cells():
    for cell in (CELL, LENGTH):
        k = 2 * math.pi * np.hypot(*np.meshgrid(*2 * (np.fft.fftfreq(N, d=cell),)))
        power = np.mean([np.abs(np.fft.fft2(_noise(i, cell=cell))) ** 2 for i in range(10)], axis=0)
        power *= cell**2 / N**2
        for low in (2.0, 10.0, 20.0):
            ring = (k > low) & (k < low + 4.0)
            expected = np.mean(math.pi * LENGTH**2 * np.exp(-(k[ring] ** 2) * LENGTH**2 / 4))
            spread = 5 * math.sqrt(2 / (10 * np.count_nonzero(ring)))
            assert power[ring].mean() == pytest.approx(expected, rel=spread)


# ------------------------------------------------------------------ the deflection of a grid


def test_gridded_deflection_is_that_of_a_known_mass():
    n, cell, width = 256, 0.02, 0.2
    x, y = np.meshgrid(*2 * (fields.axis(n, cell),))
    r2 = (x - 0.1) ** 2 + y**2
    # A Gaussian and a wider one of the same mass: no mass in all, so no image of it is felt.
    kappa = np.exp(-r2 / width**2) - 0.25 * np.exp(-r2 / (2 * width) ** 2)
    alpha = fields.deflection_of(kappa, cell)
    ring = width**2 * (np.exp(-r2 / (2 * width) ** 2) - np.exp(-r2 / width**2))
    truth = np.array([(x - 0.1) * ring / r2, y * ring / r2])
    np.testing.assert_allclose(alpha, truth, atol=1e-9)


def test_spline_passes_through_the_grid_and_is_exact_for_cubics():
    n, cell = 40, 0.1
    x, y = np.meshgrid(*2 * (fields.axis(n, cell),))
    values = np.stack([x**3 - x * y**2 + 1, y**3 + 0.5 * x**2 * y])
    field = FieldComponent(cell, values)
    px, py = np.random.default_rng(1).uniform(-0.6, 0.6, (2, 300))
    found = fields.deflection(field, px, py)
    np.testing.assert_allclose(found[0], px**3 - px * py**2 + 1, atol=1e-7)
    np.testing.assert_allclose(found[1], py**3 + 0.5 * px**2 * py, atol=1e-7)
    on_grid = fields.deflection(field, x[5:-5, 5:-5], y[5:-5, 5:-5])
    np.testing.assert_allclose(on_grid, values[:, 5:-5, 5:-5], atol=1e-12)


def test_places_outside_the_grid_are_refused():
    field = _granules().realise(image_rng(1, 0, Stream.FIELD))
    with pytest.raises(PhysicsError, match="raise its field_of_view"):
        fields.deflection(field, np.array([2.0]), np.array([0.0]))


def test_realised_field_has_the_divergence_and_no_curl_of_its_convergence():
    granules = _granules()
    field = granules.realise(image_rng(1, 0, Stream.FIELD))
    kappa = granules.convergence(image_rng(1, 0, Stream.FIELD))
    step, places = 1e-4, fields.axis(256, granules.cell)[80:-80:3]
    x, y = np.meshgrid(places, places)

    def along(dx, dy):
        ahead, behind = (
            np.array(fields.deflection(field, x + s * dx, y + s * dy)) for s in (1, -1)
        )
        return (ahead - behind) / (2 * step)

    (xx, yx), (xy, yy) = along(step, 0.0), along(0.0, step)
    picked = kappa[80:-80:3, 80:-80:3]
    assert np.std(0.5 * (xx + yy) - picked) < 0.02 * np.std(picked)
    assert np.std(xy - yx) < 0.02 * np.std(picked)


# ------------------------------------------------------------------ granules, equation (4.9)


def test_granules_scatter_by_the_stated_convergence_at_the_ring():
    granules = _granules()
    points = fields.axis(granules.n_cells, granules.cell)
    radius = np.hypot(points[None, :] - 0.04, points[:, None] + 0.03)
    ring = np.abs(radius - 1.0) < 0.02
    values = [granules.convergence(image_rng(2, i, Stream.FIELD))[ring] for i in range(60)]
    # Granules along the ring: two thirds of its length over the correlation length.
    independent = 60 * 2 * math.pi / (math.sqrt(math.pi / 2) * granules.length)
    assert np.mean(values) == pytest.approx(0.0, abs=5 * 0.03 / math.sqrt(independent))
    assert np.std(values) == pytest.approx(0.03, rel=5 / math.sqrt(2 * independent) + 1e-3)


def test_granules_weaken_outwards_as_an_isothermal_lens_and_stay_finite_inside():
    granules = _granules()
    outside = granules.sigma_kappa(np.array([1.0, 2.0]))
    expected = [
        fdm.granule_sigma_kappa(0.5 / r, 0.5, granules.length, r) / outside[0] for r in (1.0, 2.0)
    ]
    np.testing.assert_allclose(outside / outside[0], np.array(expected) / expected[0])
    assert granules.sigma_kappa(np.array([0.0])) == granules.sigma_kappa(np.array([0.06]))


def test_granule_length_is_the_reduced_de_broglie_length_of_the_lens(host):  # noqa: F811
    config = fdm.Config(log10_axion_mass=Constant(value=-22.5), field_of_view=4.0, pixel_scale=0.05)
    truth = fdm.draw(config, host, _rng()).truth
    # PHYSICS 4.5: 0.1917 kpc (1e-22 eV/m)(100 km/s / sigma).
    kpc = 0.1917 * 10**0.5 * 100 / host.sigma_v
    assert truth["granule_length"] == pytest.approx(kpc / host.kpc_per_arcsec, rel=1e-3)
    assert truth["log10_suppression_mass"] == pytest.approx(
        math.log10(1.6e10) + 4 / 3 * 0.5, rel=1e-12
    )
    sigma = 0.25 * math.sqrt(truth["granule_length"] / (2 * math.sqrt(math.pi) * host.theta_E))
    assert truth["granule_sigma_kappa"] == pytest.approx(sigma, rel=1e-12)


def test_cells_follow_the_granules_up_to_the_cap(host):  # noqa: F811
    def cells(log10_mass):
        config = fdm.Config(
            log10_axion_mass=Constant(value=log10_mass), field_of_view=4.0, pixel_scale=0.05
        )
        population = fdm.draw(config, host, _rng())
        return population.truth["granule_length"], population.fields

    for log10_mass in (-23.5, -22.8):
        length, (granules,) = cells(log10_mass)
        assert granules.cell <= length / 3
        assert 2 * granules.cell > length / 3
    length, (granules,) = cells(-22.0)
    assert granules.n_cells == 1024 and granules.cell > length / 3


def test_unresolved_granules_are_a_label_only(host):  # noqa: F811
    config = fdm.Config(log10_axion_mass=Constant(value=-21.0), field_of_view=4.0, pixel_scale=0.05)
    population = fdm.draw(config, host, _rng())
    assert population.fields == ()
    assert population.truth["granules_resolved"] == 0.0
    assert 0 < population.truth["granule_length"] < 0.01


# ------------------------------------------------------------------ halos


def test_fuzzy_halos_are_a_subset_of_their_cold_twin_as_stated(host):  # noqa: F811
    m_0 = fdm.suppression_mass(10**-21.0)
    expected, kept = 0.0, 0
    for index in range(60):
        cold_config = cdm.Config(sigma_sub=Constant(value=0.1))
        _, halos = subhalos.draw_halos(cold_config, host, _rng(index))
        config = fdm.Config(
            sigma_sub=Constant(value=0.1),
            log10_axion_mass=Constant(value=-21.0),
            field_of_view=4.0,
            pixel_scale=0.05,
        )
        fuzzy = fdm.draw(config, host, _rng(index)).perturbers[0]
        cold = cdm.draw(cold_config, host, _rng(index)).perturbers[0]
        assert set(fuzzy.params["center_x"]) < set(cold.params["center_x"])
        expected += np.sum(fdm.subhalo_suppression(halos.mass, m_0))
        kept += len(fuzzy)
    assert abs(kept - expected) < 5 * math.sqrt(expected)


# ------------------------------------------------------------------ scenes with a field


@pytest.fixture(scope="module")
def config():
    return scene_config()


def test_field_comes_from_its_own_stream(config):
    block = scene_data()["classes"]["fdm"]["substructure"]
    scenes = [
        draw_scene(
            scene_config(
                classes={"a": {"substructure": {**block, **change, "log10_axion_mass": -22.6}}}
            ),
            1,
            3,
        )
        for change in ({"sigma_sub": 0.05}, {"sigma_sub": 0.1, "m_min": 1e8, "m_max": 1e11})
    ]
    first, other = scenes
    assert first.truth["sigma_sub"] != other.truth["sigma_sub"]
    np.testing.assert_array_equal(first.fields[0].deflection, other.fields[0].deflection)
    next_image = draw_scene(config, 1, 4, "fdm").fields[0].deflection
    assert not np.array_equal(next_image, first.fields[0].deflection)


def test_field_scales_with_the_signal_and_is_gone_from_the_twin(config):
    scene = draw_scene(config, 1, 3, "fdm")
    heavy = draw_scene(scene_config(signal_scale=2.0), 1, 3, "fdm")
    np.testing.assert_allclose(heavy.fields[0].deflection, 2 * scene.fields[0].deflection)
    assert smooth_twin(scene).fields == ()


def test_field_is_part_of_the_mass_that_the_macro_lens_gives_up(config):
    scene = draw_scene(config, 1, 3, "fdm")
    mean = mean_field_deflection(scene.fields, scene.host, scene.host.theta_E)
    assert abs(mean) > 1e-6
    bare = dataclasses.replace(scene, fields=())
    assert mean_field_deflection(bare.fields, scene.host, 1.0) == 0.0


@pytest.mark.parametrize(
    ("grid", "message"),
    [(Grid(31, 0.101), "smaller than the image"), (Grid(20, 0.05), "not that of the image")],
)
def test_field_that_does_not_suit_the_image_is_refused(grid, message, config):
    config.check_grid(Grid(24, 0.101))
    with pytest.raises(ValueError, match=f"classes.fdm.substructure.*{message}"):
        config.check_grid(grid)
