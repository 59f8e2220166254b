"""Errors, coverage and readings of posteriors whose truth is known."""

import numpy as np
from numpy.testing import assert_allclose
from scipy.special import ndtri

from pipeline.statistics.regression import (
    PROBABILITIES,
    constant_mae,
    errors_by_bin,
    readings,
    regression_errors,
)

PRIOR = np.linspace(-24.0, -22.0, 65)


def gaussian(mean, std):
    return np.asarray(mean)[:, None] + np.asarray(std)[:, None] * ndtri(np.array(PROBABILITIES))


def test_errors_and_coverage_of_gaussian_posteriors():
    rng = np.random.default_rng(0)
    truth = rng.uniform(-24, -22, 20_000)
    seen = truth + rng.normal(0.0, 0.2, 20_000)
    found = regression_errors(truth, gaussian(seen, np.full(20_000, 0.2)), "_dex")
    assert_allclose(found["mae_dex"], 0.2 * np.sqrt(2 / np.pi), rtol=0.02)
    assert_allclose(found["rmse_dex"], 0.2, rtol=0.02)
    assert abs(found["bias_dex"]) < 4 * 0.2 / np.sqrt(20_000)
    assert_allclose([found[f"coverage_{c}"] for c in (68, 90, 95)], [0.68, 0.9, 0.95], atol=0.014)


def test_images_without_a_truth_do_not_count():
    truth = np.array([-23.0, np.nan, -22.5])
    quantile = gaussian([-23.1, 0.0, -22.5], [0.2, 0.2, 0.2])
    assert_allclose(regression_errors(truth, quantile)["mae"], 0.05)
    assert all(np.isnan(v) for v in regression_errors(truth[1:2], quantile[1:2]).values())


def test_bins_divide_the_images_and_their_errors():
    rng = np.random.default_rng(1)
    truth = rng.uniform(-24, -22, 4000)
    spread = np.where(truth < -23, 0.05, 0.4)
    quantile = gaussian(truth + spread * rng.normal(size=4000), spread)
    low, high = errors_by_bin(truth, quantile, (-24.0, -23.0, -22.0, -21.0))
    assert low.n + high.n == 4000
    assert_allclose([low.mae, high.mae], np.array([0.05, 0.4]) * np.sqrt(2 / np.pi), rtol=0.05)
    assert low.mae_interval.low < low.mae < low.mae_interval.high
    assert_allclose((low.n * low.mae + high.n * high.mae) / 4000,
                    regression_errors(truth, quantile)["mae"])  # fmt: skip


def test_constant_predictor_of_a_flat_prior_is_off_by_a_quarter_of_its_width():
    assert_allclose(constant_mae(np.linspace(-24, -22, 2001), PRIOR), 0.5, rtol=1e-3)


def test_reading_is_a_measurement_a_limit_or_nothing():
    narrow = gaussian([-23.0], [0.1])[0]
    prior = np.interp(PROBABILITIES, np.linspace(0, 1, 65), PRIOR)
    # uniform over the upper 1.5 dex, and over the lower 1.5 dex: one end is excluded
    upper = -23.5 + 1.5 * np.array(PROBABILITIES)
    lower = -24.0 + 1.5 * np.array(PROBABILITIES)
    found = readings(np.stack([narrow, upper, lower, prior]), PRIOR.tolist())
    assert found == ["measured", "lower_limit", "upper_limit", "unconstrained"]
