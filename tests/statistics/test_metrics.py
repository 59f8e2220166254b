"""Metrics against closed forms, and against scikit-learn where the formula is our own."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score

from pipeline.statistics import metrics


def scores(n: int = 400, n_classes: int = 3, separation: float = 1.0):
    rng = np.random.default_rng(5)
    labels = np.arange(n) % n_classes
    logits = rng.normal(size=(n, n_classes))
    logits[np.arange(n), labels] += separation
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, probability


def test_perfect_scores_give_perfect_metrics():
    labels = np.arange(30) % 3
    probability = np.eye(3)[labels]
    assert metrics.accuracy(labels, probability) == 1.0
    assert metrics.macro_auc(labels, probability) == 1.0
    assert metrics.reliability(labels, probability).ece == 0.0
    assert_allclose(metrics.confusion(labels, probability), 10 * np.eye(3))


def test_constant_scores_are_at_chance():
    labels = np.arange(30) % 3
    probability = np.full((30, 3), 1 / 3)
    assert metrics.macro_auc(labels, probability) == 0.5
    assert_allclose(metrics.cross_entropy(labels, probability), np.log(3))


def test_class_without_images_has_no_auc():
    labels = np.zeros(10, dtype=np.int64)
    auc = metrics.auc_per_class(labels, np.full((10, 3), 1 / 3))
    assert np.isnan(auc).all()
    assert np.isnan(metrics.macro_auc(labels, np.full((10, 3), 1 / 3)))


def test_weighted_auc_with_counts_equals_auc_of_repeated_images():
    labels, probability = scores(60)
    score = probability[:, 0].round(1)  # many ties
    counts = np.random.default_rng(1).integers(0, 4, size=(5, 60))
    expected = [roc_auc_score(np.repeat(labels == 0, row), np.repeat(score, row)) for row in counts]
    assert_allclose(metrics.weighted_auc(labels == 0, score, counts), expected, rtol=1e-12)


def test_area_under_thinned_roc_curve_is_the_auc():
    labels, probability = scores(5000)
    fpr, tpr = metrics.roc_curves(labels, probability)[1]
    assert len(fpr) <= metrics.MAX_ROC_POINTS
    assert (fpr[0], fpr[-1], tpr[-1]) == (0.0, 1.0, 1.0)
    assert_allclose(
        np.trapezoid(tpr, fpr), metrics.auc_per_class(labels, probability)[1], atol=2e-3
    )


def test_confusion_rows_are_true_classes():
    labels = np.array([0, 0, 1])
    probability = np.array([[0.2, 0.8], [0.9, 0.1], [0.3, 0.7]])
    assert metrics.confusion(labels, probability).tolist() == [[1, 1], [0, 1]]


def test_overconfident_scores_have_the_calibration_error_of_their_excess():
    n = 1000
    labels = (np.arange(n) % 10 < 6).astype(int)  # class 1 is right in 60 % of cases
    probability = np.tile([0.1, 0.9], (n, 1))
    curve = metrics.reliability(labels, probability)
    assert curve.count.sum() == n
    assert curve.ece == pytest.approx(0.3)
