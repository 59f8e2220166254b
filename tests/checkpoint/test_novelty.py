"""Novelty: strange in the features or strange in the statistics, either is enough."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.checkpoint.novelty import fit_novelty, read_reference, reference_arrays

N_FEATURES, N_STATISTICS = 192, 8


@pytest.fixture(scope="module")
def novelty():
    rng = np.random.default_rng(0)
    train, val = (rng.normal(size=(n, N_FEATURES + N_STATISTICS)) for n in (2000, 3000))
    return fit_novelty(train, val, N_FEATURES)


def test_few_strange_statistics_count_beside_hundreds_of_ordinary_features(novelty):
    rng = np.random.default_rng(1)
    strange = rng.normal(size=(200, N_FEATURES + N_STATISTICS))
    strange[:, N_FEATURES : N_FEATURES + 2] += 5.0
    assert (novelty.quantile(strange) > 0.99).mean() > 0.95


def test_strange_features_count_beside_ordinary_statistics(novelty):
    rng = np.random.default_rng(2)
    strange = rng.normal(size=(200, N_FEATURES + N_STATISTICS))
    strange[:, :N_FEATURES] *= 1.5
    assert (novelty.quantile(strange) > 0.99).mean() > 0.95


def test_more_images_of_the_same_kind_are_spread_evenly(novelty):
    rng = np.random.default_rng(3)
    ranks = novelty.quantile(rng.normal(size=(4000, N_FEATURES + N_STATISTICS)))
    assert_allclose(np.quantile(ranks, [0.1, 0.5, 0.9, 0.99]), [0.1, 0.5, 0.9, 0.99], atol=0.03)


def test_a_distance_of_one_is_what_about_one_validation_image_in_fifty_exceeds(novelty):
    beyond = float((novelty.val_distances > 1.0).mean())
    assert 0.01 <= beyond <= 0.02  # one in a hundred in each of both


def test_a_description_that_is_not_finite_is_infinitely_far(novelty):
    broken = np.zeros((2, N_FEATURES + N_STATISTICS))
    broken[0, 0] = broken[1, -1] = np.nan
    assert_array_equal(novelty.distance(broken), np.inf)
    assert_array_equal(novelty.quantile(broken), 1.0)


def test_a_checkpoint_keeps_all_of_it(novelty):
    again = read_reference(reference_arrays(novelty))
    some = np.random.default_rng(4).normal(size=(50, N_FEATURES + N_STATISTICS))
    assert_array_equal(again.distance(some), novelty.distance(some))
    assert_array_equal(again.val_distances, novelty.val_distances)
    with pytest.raises(KeyError, match="statistics_factor"):
        read_reference({k: v for k, v in reference_arrays(novelty).items() if "stics_f" not in k})


def test_training_images_that_are_all_alike_do_no_harm():
    alike = np.ones((50, 6))
    found = fit_novelty(alike, alike, 4)
    assert np.isfinite(found.val_distances).all()
    assert found.quantile(alike + 1e-3)[0] == 1.0
