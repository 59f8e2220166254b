"""The mean field mass function against closed forms, simple truths and a published table."""

import math

import numpy as np
import pytest

from pipeline.physics.cosmology import FlatLCDM
from pipeline.physics.massfunction import (
    Spectrum,
    growth,
    halo_number,
    matter_density,
    sigma,
    transfer,
)

MODEL, SPECTRUM = FlatLCDM(), Spectrum()


def test_variance_in_eight_megaparsec_is_sigma_8():
    mass = 4 * math.pi / 3 * (8 / MODEL.h) ** 3 * matter_density(MODEL)
    assert sigma(np.array([mass]), MODEL, SPECTRUM)[0] == pytest.approx(0.81, rel=1e-3)


def test_transfer_is_one_on_large_scales_and_falls_as_log_k_over_k_squared():
    assert transfer(np.array([1e-5]), MODEL, SPECTRUM)[0] == pytest.approx(1.0, abs=1e-3)
    k = np.array([1e3, 1e4])
    found = transfer(k, MODEL, SPECTRUM) * k**2
    # ln(1.8 q) up to a constant, with q = k theta^2 / Gamma_eff.
    assert found[1] / found[0] == pytest.approx(math.log(1e4) / math.log(1e3), rel=0.1)


def test_growth_is_that_of_matter_alone_and_is_suppressed_as_known():
    flat = FlatLCDM(Om0=1.0 - 1e-12)
    z = np.array([0.0, 1.0, 3.0])
    np.testing.assert_allclose(growth(z, flat), 1 / (1 + z), rtol=1e-9)
    # Carroll, Press & Turner (1992): g(0) = 0.779 for Omega_m = 0.3.
    early = 1e4
    assert 1 / (growth(np.array([early]), MODEL)[0] * (1 + early)) == pytest.approx(0.779, abs=1e-3)


def test_all_halos_together_hold_most_of_the_matter_and_never_more():
    mass = np.logspace(4, 16, 400)
    held = np.trapezoid(halo_number(mass, 0.0, MODEL, SPECTRUM) * mass**2, np.log(mass))
    # The multiplicity integrates to one over all peaks; halos below 1e4 M_sun hold the rest.
    assert 0.6 < held / matter_density(MODEL) < 1.0


def test_slope_of_light_halos_is_that_of_the_specification():
    mass = np.logspace(7, 10, 20)
    for z in (0.0, 0.5, 1.0):
        number = halo_number(mass, z, MODEL, SPECTRUM)
        assert np.polyfit(np.log(mass), np.log(number), 1)[0] == pytest.approx(-1.9, abs=0.02)


@pytest.mark.parametrize(
    ("z", "norm", "slope"),
    [
        (0.01, 129643413.36498614, -1.8965917541262278),
        (0.49, 156753622.4740931, -1.9001525671778252),
    ],
)
def test_number_agrees_with_the_table_of_pyhalo(z, norm, slope):
    # pyHalo, lookup_sheth99_simple: power laws fitted to Colossus' sheth99 in its cosmology. The
    # table was made while pyHalo divided by one h too few (h^3 became h^4 later): times h here.
    model = FlatLCDM(H0=69.7, Om0=0.2814)
    spectrum = Spectrum(baryons=0.0464, sigma_8=0.82, tilt=0.9608)
    mass = np.array([1e8, 1e9])
    expected = norm * mass**slope * model.h
    np.testing.assert_allclose(halo_number(mass, z, model, spectrum), expected, rtol=0.02)
