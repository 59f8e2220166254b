"""Fractions of classes are recovered within their intervals, whatever the classifier confuses."""

import numpy as np
import pytest

from pipeline.statistics.population import class_fractions

#: A good classifier, and one that can hardly tell two of the classes apart.
WEAK = np.array([[0.71, 0.26, 0.03], [0.49, 0.44, 0.07], [0.12, 0.13, 0.75]])
MATRIX = np.array([[0.80, 0.15, 0.05], [0.30, 0.60, 0.10], [0.05, 0.10, 0.85]])
N_TEST, N_SAMPLE = 300, 400


def _experiment(rng: np.random.Generator, fractions: np.ndarray, seed: int, matrix: np.ndarray):
    confusion = np.stack([rng.multinomial(N_TEST, row) for row in matrix])
    truth = rng.multinomial(N_SAMPLE, fractions)
    named = sum(rng.multinomial(n, row) for n, row in zip(truth, matrix, strict=True))
    return class_fractions(named, confusion, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize(("share", "matrix"), [(0.1, WEAK), (0.5, MATRIX), (0.9, WEAK)])
def test_intervals_cover_the_truth_as_often_as_they_say(share, matrix):
    rng = np.random.default_rng(7)
    fractions = np.array([(1 - share) / 2, share, (1 - share) / 2])
    results = [_experiment(rng, fractions, seed, matrix) for seed in range(60)]
    covered = np.mean([r.low[1] <= share <= r.high[1] for r in results])
    # 90 % of 60: one standard error is 4 %; a wide prior may cover more than it says
    assert covered >= 0.9 - 3 * 0.04


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_large_sample_gives_the_fraction_and_the_raw_count_does_not(share):
    fractions = np.array([1 - share, share, 0.0])
    confusion = np.round(10_000 * MATRIX).astype(int)
    named = np.round(20_000 * fractions @ MATRIX).astype(int)
    found = class_fractions(named, confusion)
    assert found.low[1] < share < found.high[1]
    assert found.mean[1] == pytest.approx(share, abs=0.02)
    assert abs(named[1] / named.sum() - share) > 0.04


def test_the_same_counts_give_the_same_answer():
    one, two = (class_fractions([30, 40, 50], np.eye(3, dtype=int) * 100) for _ in range(2))
    np.testing.assert_array_equal(one.mean, two.mean)
    assert one.mean.sum() == pytest.approx(1.0)
