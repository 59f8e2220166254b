"""Bootstrap intervals: deterministic, of the right width, with the right coverage."""

import numpy as np
from numpy.testing import assert_allclose

from pipeline.core.seeding import RunStream, image_rng
from pipeline.statistics.intervals import (
    bootstrap_counts,
    classification_intervals,
    mean_interval,
)
from pipeline.statistics.metrics import accuracy, macro_auc


def split(n: int, seed: int):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    logits = rng.normal(size=(n, 3)) + 0.8 * np.eye(3)[labels]
    probability = np.exp(logits)
    return labels, probability / probability.sum(axis=1, keepdims=True)


def test_counts_keep_the_size_of_each_group():
    groups = np.array([0, 0, 0, 1, 1])
    counts = bootstrap_counts(groups, 50, image_rng(0, 0, RunStream.BOOTSTRAP))
    assert (counts[:, :3].sum(axis=1) == 3).all()
    assert (counts[:, 3:].sum(axis=1) == 2).all()


def test_equal_input_gives_equal_intervals_and_another_seed_does_not():
    labels, probability = split(120, 0)
    one = classification_intervals(labels, probability, n_resamples=100)
    assert one == classification_intervals(labels, probability, n_resamples=100)
    assert one != classification_intervals(labels, probability, n_resamples=100, seed=1)


def test_interval_contains_the_estimate():
    labels, probability = split(300, 0)
    found = classification_intervals(labels, probability)
    assert found.macro_auc.low < macro_auc(labels, probability) < found.macro_auc.high
    assert found.accuracy.low < accuracy(labels, probability) < found.accuracy.high


def test_accuracy_interval_has_the_width_of_a_binomial():
    labels, probability = split(900, 3)
    found = classification_intervals(labels, probability).accuracy
    p = accuracy(labels, probability)
    expected = 2 * 1.96 * np.sqrt(p * (1 - p) / len(labels))
    assert_allclose(found.high - found.low, expected, rtol=0.15)


def test_interval_of_a_mean_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(300):
        interval = mean_interval(rng.normal(size=80), n_resamples=300)
        hits += interval.low <= 0.0 <= interval.high
    # 95 % nominal; 4 standard errors of 300 trials are 5 points
    assert abs(hits / 300 - 0.95) < 0.05
