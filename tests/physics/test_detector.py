"""Noise: right moments, drawn once, and the legacy routines as they are."""

import math

import numpy as np
import pytest
from scipy import stats

from pipeline.core.config import dump, validate
from pipeline.core.errors import ConfigError
from pipeline.core.resources import sim_params
from pipeline.core.seeding import Stream, image_rng
from pipeline.physics.detector import background_rms, expose, legacy_count_moments, variance
from pipeline.physics.instrument import Instrument, instrument_names, load_instrument

#: Levels in e-/s, from the Poisson regime of empty sky to a bright arc.
LEVELS = (0.0, 0.02, 0.5, 3.0)
N = 20_000


def _draw(instrument, level, seed=5):
    image = np.full((1, 100, N // 100), level)
    return expose(image, (instrument,), np.random.default_rng(seed)).astype(float).ravel()


@pytest.fixture(scope="module")
def hst():
    return load_instrument("hst_acs_f814w")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("poisson", [True, False])
def test_mean_and_variance_of_the_noise(hst, level, poisson):
    instrument = hst.with_changes(poisson=poisson)
    sigma2 = variance(np.full((1, 1, 1), level), (instrument,)).item()
    draws = _draw(instrument, level)
    assert abs(draws.mean() - level) / math.sqrt(sigma2 / N) < 5
    assert abs(draws.var() / sigma2 - 1) < 5 * math.sqrt(2 / N) + 1e-3


def test_third_moment_in_the_poisson_regime(hst):
    # Few sky electrons, almost no read noise: the skewness is that of counts.
    instrument = hst.with_changes(read_noise=0.1, n_exposures=1)
    time, level = instrument.total_time, 0.002
    counts = time * (level + instrument.sky_rate)
    draws = _draw(instrument, level) * time
    third = np.mean((draws - draws.mean()) ** 3)
    # Variance of a third central moment of Poisson counts: 15 var^3 to leading order, plus.
    error = math.sqrt((15 * counts**3 + 25 * counts**2 + counts) / N)
    assert abs(third - counts) < 5 * error


def test_background_variance_is_read_noise_plus_sky(hst):
    time = 525.0 * 4
    sky = 10 ** (-0.4 * (22.0 - 25.94)) * 0.05**2
    expected = math.sqrt(4 * 4.2**2 + sky * time) / time
    assert background_rms(hst, time) == pytest.approx(expected, rel=1e-12)


def test_noise_is_the_same_for_the_same_image_and_new_for_the_next(hst):
    image = np.full((1, 8, 8), 0.1)
    first, again, other = (
        expose(image, (hst,), image_rng(3, index, Stream.NOISE)) for index in (7, 7, 8)
    )
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    assert not np.any(first == other)


def test_noise_free_legacy_image_is_twice_the_model():
    instrument = load_instrument("legacy_model_ii")
    image = np.linspace(0, 1, 12).reshape(1, 3, 4)
    found = expose(image, (instrument,), np.random.default_rng(0))
    np.testing.assert_allclose(found, 2 * image, rtol=1e-6)
    assert not variance(image, (instrument,)).any()


def test_empty_sky_of_legacy_model_i():
    instrument = load_instrument("legacy_model_i").with_changes(exposure_time=2000.0)
    draws = _draw(instrument, 0.0)
    mean, spread = legacy_count_moments(np.zeros(1), 2000.0, 0.01)
    assert mean[0] == pytest.approx(7.98, abs=0.01)
    assert spread[0] == pytest.approx(144.3, abs=0.1)
    assert abs(draws.mean() - mean[0]) < 5 * math.sqrt(spread[0] / N)
    fourth = np.mean((draws - draws.mean()) ** 4)
    assert abs(draws.var() - spread[0]) < 5 * math.sqrt((fourth - spread[0] ** 2) / N)
    # Half of the background is clipped; of the rest, some Poisson draws give 0 too.
    s = 20.0
    grid = np.linspace(0, 8 * s, 20001)
    weight = stats.norm.pdf(grid, scale=s)
    zero = 0.5 + np.trapezoid(weight * np.exp(-grid), grid)
    assert abs(np.mean(draws == 0) - zero) < 5 * math.sqrt(zero * (1 - zero) / N)


@pytest.mark.parametrize("level", [0.001, 0.01, 0.1, 3.0])
def test_moments_of_legacy_model_i_under_light(level):
    instrument = load_instrument("legacy_model_i").with_changes(exposure_time=2000.0)
    draws = _draw(instrument, level)
    mean, spread = (m[0] for m in legacy_count_moments(np.full(1, level), 2000.0, 0.01))
    assert abs(draws.mean() - mean) < 5 * math.sqrt(spread / N)
    fourth = np.mean((draws - draws.mean()) ** 4)
    assert abs(draws.var() - spread) < 5 * math.sqrt((fourth - spread**2) / N)
    if level == 3.0:  # Poisson noise twice, and the background
        counts = 2000.0 * level
        assert spread == pytest.approx(2 * counts + 20.0**2, rel=1e-3)


def test_exposure_time_of_legacy_model_i_differs_between_images():
    instrument = load_instrument("legacy_model_i")
    image = np.full((1, 40, 40), 1.0)
    levels = [expose(image, (instrument,), np.random.default_rng(k)).mean() for k in range(40)]
    assert 900 < min(levels) < 1300 < 2400 < max(levels) < 3300


@pytest.mark.parametrize("name", instrument_names())
def test_shipped_instrument_carries_its_name_and_survives_a_round_trip(name):
    instrument = load_instrument(name)
    assert instrument.name == name
    assert validate(dump(instrument), Instrument) == instrument


def test_instrument_without_zero_point_is_refused():
    data = dump(load_instrument("euclid_vis"))
    del data["zero_point"]
    with pytest.raises(ConfigError, match="zero_point"):
        validate(data, Instrument)


def test_instrument_with_a_number_of_unknown_origin_is_refused():
    data = dump(load_instrument("euclid_vis"))
    del data["references"]["read_noise"]
    with pytest.raises(ConfigError, match="no reference is given for read_noise"):
        validate(data, Instrument)


def test_instrument_needs_exactly_one_background():
    data = dump(load_instrument("euclid_vis"))
    data["background_rms"] = 0.01
    with pytest.raises(ConfigError, match="one of sky_brightness and background_rms"):
        validate(data, Instrument)


def test_unknown_instrument_names_the_nearest():
    with pytest.raises(ConfigError, match="euclid_vis"):
        load_instrument("euclid_vsi")


def test_every_instrument_of_the_table_is_shipped():
    table = "legacy_model_i euclid_vis_legacy euclid_vis hst_acs_f814w hst_acs_f814w_deep "
    table += "hst_wfc3_f160w jwst_f115w jwst_f200w lsst_i roman_f106 roman_f129 roman_f146"
    assert set(table.split()) <= {p.stem for p in (sim_params() / "instruments").glob("*.yaml")}
