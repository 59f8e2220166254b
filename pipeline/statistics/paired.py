"""Is one network better than another on the same images? Paired tests, corrected for many.

McNemar's exact test compares decisions; DeLong's variance compares areas under ROC curves, here of
the macro one-vs-rest AUC, with images drawn within their class; Holm's method corrects for asking
several questions.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.metrics import Floats, Labels


def mcnemar(first_right: NDArray[np.bool_], second_right: NDArray[np.bool_]) -> float:
    """Two-sided p of equal accuracy, exact (McNemar 1947; binomial on the discordant images).

    Parameters
    ----------
    first_right, second_right : (N,) bool
        Whether each network is right about each image.

    Returns
    -------
    float
        1 where they never differ.
    """
    from scipy.stats import binomtest  # type: ignore[import-untyped]  # heavy

    only_first = int(np.sum(first_right & ~second_right))
    only_second = int(np.sum(~first_right & second_right))
    n = only_first + only_second
    return float(binomtest(only_first, n, 0.5).pvalue) if n else 1.0


def macro_auc_influence(labels: Labels, score: Floats) -> tuple[float, Floats]:
    """Macro one-vs-rest AUC, and how much each image moves it (DeLong et al. 1988).

    The influence of image i on the AUC of class k is its structural component: the fraction of
    negatives it beats if it is positive, of positives that beat it if negative (ties half), minus
    the mean, over the number of such images.

    Parameters
    ----------
    labels : (N,) int
    score : (N, K) float

    Returns
    -------
    auc : float
        NaN if a class has no image or every image.
    influence : (N,) float
        Sums to zero within each class; see :func:`stratified_variance`.
    """
    labels = np.asarray(labels)
    n_classes = score.shape[1]
    total, influence = 0.0, np.zeros(len(labels))
    for k in range(n_classes):
        positive = labels == k
        m, n = int(positive.sum()), int((~positive).sum())
        if not m or not n:
            return float("nan"), np.full(len(labels), np.nan)
        ranks = _midrank(score[:, k])
        own = np.empty(len(labels))
        own[positive] = _midrank(score[positive, k])
        own[~positive] = _midrank(score[~positive, k])
        wins = ranks - own  # of the other kind, those below (ties half)
        share = np.where(positive, wins / n, 1.0 - wins / m)
        total += float(share[positive].mean())
        influence += np.where(positive, share / m, share / n)
    for k in range(n_classes):
        influence[labels == k] -= influence[labels == k].mean()
    return total / n_classes, influence / n_classes


def stratified_variance(labels: Labels, influence: Floats) -> float:
    """Variance of a statistic whose images are drawn within their classes.

    Sum of squared influences, each class with its factor n / (n - 1).
    """
    total = 0.0
    for k in np.unique(labels):
        inside = influence[np.asarray(labels) == k]
        n = len(inside)
        total += float(np.sum(inside**2)) * (n / (n - 1) if n > 1 else math.nan)
    return total


def delong(labels: Labels, first: Floats, second: Floats) -> float:
    """Two-sided p of equal macro AUC on the same images (DeLong et al. 1988).

    Parameters
    ----------
    labels : (N,) int
    first, second : (N, K) float
        Scores of the two networks.

    Returns
    -------
    float
        1 where the two rank alike; NaN where the AUC does not exist.
    """
    auc_1, influence_1 = macro_auc_influence(labels, first)
    auc_2, influence_2 = macro_auc_influence(labels, second)
    return z_test(auc_1 - auc_2, stratified_variance(labels, influence_1 - influence_2))


def z_test(difference: float, variance: float) -> float:
    """Two-sided p of a difference that is normal with this variance; 1 where both are zero."""
    if not (math.isfinite(difference) and math.isfinite(variance)):
        return math.nan
    if variance <= 0.0:
        return 1.0 if abs(difference) < 1e-12 else 0.0
    return math.erfc(abs(difference) / math.sqrt(2.0 * variance))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979); NaN stays NaN and does not count.

    Sorted ascending, the i-th of m is multiplied by m - i (from i = 0), never below the one before.
    """
    p = np.asarray(p_values, np.float64)
    order = [i for i in np.argsort(p, kind="stable") if math.isfinite(p[i])]
    corrected, largest = p.copy(), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, p[i] * (len(order) - rank)))
        corrected[i] = largest
    return [float(value) for value in corrected]


def _midrank(values: Floats) -> Floats:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values), np.float64)
