"""Mahalanobis distances and their quantiles."""

import numpy as np
from numpy.testing import assert_allclose

from pipeline.statistics.distance import fit_reference, quantile_in


def correlated(n: int, seed: int):
    rng = np.random.default_rng(seed)
    mix = np.array([[1.0, 0.0, 0.0], [0.8, 0.3, 0.0], [0.0, 0.0, 1e3]])
    return rng.normal(size=(n, 3)) @ mix.T + np.array([5.0, 0.0, -1e4])


def test_distances_of_the_same_population_have_the_chi_mean_square():
    reference = fit_reference(correlated(20_000, 0))
    squared = reference.distance(correlated(20_000, 1)) ** 2
    assert_allclose(squared.mean(), 3.0, rtol=0.05)


def test_point_off_the_correlation_is_farther_than_one_along_it():
    reference = fit_reference(correlated(5000, 0))
    along = reference.mean + np.array([1.0, 0.8, 0.0])
    across = reference.mean + np.array([1.0, -0.8, 0.0])
    near, far = reference.distance(np.stack([along, across]))
    assert far > 2 * near


def test_constant_and_non_finite_features_do_no_harm():
    features = correlated(200, 0)
    features[:, 1] = 7.0
    reference = fit_reference(features)
    assert np.isfinite(reference.distance(features)).all()
    assert reference.distance(np.full((1, 3), np.nan))[0] == np.inf


def test_quantile_is_zero_below_one_above_and_uniform_inside():
    reference = np.arange(100.0)
    assert_allclose(quantile_in(np.array([-1.0, 50.0, 1e9, np.inf]), reference), [0, 0.5, 1, 1])
