"""Paired tests against closed forms, the bootstrap, and their own level under the null."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from pipeline.statistics.intervals import bootstrap_counts
from pipeline.statistics.metrics import weighted_auc
from pipeline.statistics.paired import (
    delong,
    holm,
    macro_auc_influence,
    mcnemar,
    stratified_variance,
    z_test,
)


def scores(rng, labels, strength, n_classes=3):
    return rng.normal(size=(len(labels), n_classes)) + strength * np.eye(n_classes)[labels]


@given(only_first=st.integers(0, 30), only_second=st.integers(0, 30))
def test_mcnemar_is_the_binomial_tail_of_the_images_they_disagree_on(only_first, only_second):
    first = np.r_[np.ones(only_first), np.zeros(only_second), np.ones(50), np.zeros(9)].astype(bool)
    second = np.r_[np.zeros(only_first), np.ones(only_second), np.ones(50), np.zeros(9)].astype(
        bool
    )
    n, k = only_first + only_second, min(only_first, only_second)
    expected = min(1.0, 2.0 * binom.cdf(k, n, 0.5)) if n else 1.0
    assert_allclose(mcnemar(first, second), expected, rtol=1e-9)
    assert mcnemar(first, second) == pytest.approx(mcnemar(second, first))


def test_influence_has_the_auc_of_sklearn_and_sums_to_zero_within_classes():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    score = scores(rng, labels, 1.0).round(1)  # with ties
    auc, influence = macro_auc_influence(labels, score)
    each = [roc_auc_score(labels == k, score[:, k]) for k in range(3)]
    assert_allclose(auc, np.mean(each), rtol=1e-12)
    assert_allclose([influence[labels == k].sum() for k in range(3)], 0.0, atol=1e-12)


def test_variance_is_delongs_for_two_classes():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [70, 40])
    s = rng.normal(size=110) + labels
    positive, negative = s[labels == 1], s[labels == 0]
    wins = (positive[:, None] > negative[None, :]).astype(float)
    expected = wins.mean(axis=1).var(ddof=1) / 40 + wins.mean(axis=0).var(ddof=1) / 70
    _, influence = macro_auc_influence(labels, np.column_stack((-s, s)))
    assert_allclose(stratified_variance(labels, influence), expected, rtol=1e-10)


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_variance_of_a_difference_is_that_of_the_bootstrap(n_classes):
    rng = np.random.default_rng(2)
    labels = np.arange(900) % n_classes
    first = scores(rng, labels, 1.0, n_classes)
    second = first + 0.8 * rng.normal(size=first.shape)
    counts = bootstrap_counts(labels, 3000, rng)
    drawn = [
        np.mean([weighted_auc(labels == k, s[:, k], counts) for k in range(n_classes)], axis=0)
        for s in (first, second)
    ]
    influence = [macro_auc_influence(labels, s)[1] for s in (first, second)]
    found = stratified_variance(labels, influence[0] - influence[1])
    # the bootstrap's own error: sqrt(2 / 3000) = 2.6 % of a variance, four of them
    assert_allclose(found, np.var(drawn[0] - drawn[1]), rtol=0.11)


def test_p_is_uniform_where_two_networks_are_equally_good():
    rng = np.random.default_rng(3)
    labels = np.arange(150) % 3
    p = []
    for _ in range(400):
        seen = scores(rng, labels, 1.0)
        p.append(delong(labels, *(seen + 0.7 * rng.normal(size=seen.shape) for _ in range(2))))
    below = np.mean(np.array(p) < 0.05)
    assert abs(below - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 400)
    assert 0.4 < np.mean(p) < 0.6


def test_a_better_network_is_found_and_an_equal_one_is_not():
    rng = np.random.default_rng(4)
    labels = np.arange(600) % 3
    good, poor = scores(rng, labels, 2.0), scores(rng, labels, 0.7)
    assert delong(labels, good, poor) < 1e-6
    assert delong(labels, good, np.exp(good)) == 1.0  # same ranking
    assert np.isnan(delong(np.zeros(5, int), good[:5], poor[:5]))
    assert z_test(1.0, 1.0) == pytest.approx(0.3173, abs=1e-4)


def test_holm_multiplies_step_by_step_and_keeps_the_order():
    # worked by hand: 0.01 * 4, 0.02 * 3, 0.02 * 2 (not below 0.06), 0.5 * 1
    assert_allclose(holm([0.02, 0.5, 0.01, 0.02]), [0.06, 0.5, 0.04, 0.06])
    assert_allclose(holm([0.9, 0.8]), [1.0, 1.0])
    found = holm([0.01, float("nan"), 0.04])
    assert_allclose([found[0], found[2]], [0.02, 0.04])
    assert np.isnan(found[1]) and holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_and_preserves_order(p):
    found = holm(p)
    assert all(b >= a for a, b in zip(p, found, strict=True)) and max(found) <= 1.0
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(found)[order]) >= 0).all()
