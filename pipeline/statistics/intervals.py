"""Bootstrap intervals: resample the images of a split within each class, take percentiles.

Class sizes are a choice of whoever made the dataset, not a measurement, so each class is resampled
on its own (stratified percentile bootstrap, Efron & Tibshirani 1993, ch. 13).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.seeding import RunStream, image_rng
from pipeline.statistics.metrics import Floats, Labels, weighted_auc

#: Resamplings behind an interval: the 2.5 % tails then rest on 25 draws each.
N_RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """Lower and upper end of a central interval."""

    low: float
    high: float


@dataclass(frozen=True)
class ClassificationIntervals:
    """95 % intervals of the headline metrics; ``auc`` has one per class."""

    accuracy: Interval
    macro_auc: Interval
    auc: tuple[Interval, ...]


def bootstrap_counts(
    groups: Labels, n_resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """How often each image occurs in each resampling, drawn within its group.

    Returns
    -------
    Floats, shape (n_resamples, N)
        Each row sums, inside a group, to the size of that group.
    """
    groups = np.asarray(groups)
    counts = np.zeros((n_resamples, len(groups)))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        even = np.full(len(members), 1.0 / len(members))
        counts[:, members] = rng.multinomial(len(members), even, size=n_resamples)
    return counts


def percentile_interval(samples: Floats, level: float = LEVEL) -> Interval:
    """Central interval that holds ``level`` of the samples; NaN if any sample is NaN."""
    tail = 0.5 * (1.0 - level)
    low, high = np.quantile(samples, [tail, 1.0 - tail])
    return Interval(float(low), float(high))


def classification_intervals(
    labels: Labels,
    probability: Floats,
    *,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> ClassificationIntervals:
    """Bootstrap intervals of accuracy, macro AUC and each class's AUC, the same for equal input.

    Parameters
    ----------
    labels : (N,) int
    probability : (N, K) float
    seed : int
        Of the resampling, in ``RunStream.BOOTSTRAP``.
    n_resamples : int
    """
    rng = image_rng(seed, 0, RunStream.BOOTSTRAP)
    counts = bootstrap_counts(labels, n_resamples, rng)
    right = (np.argmax(probability, axis=1) == labels).astype(np.float64)
    accuracy = counts @ right / len(right)
    n_classes = probability.shape[1]
    auc = np.stack(
        [weighted_auc(np.asarray(labels) == k, probability[:, k], counts) for k in range(n_classes)]
    )
    return ClassificationIntervals(
        accuracy=percentile_interval(accuracy),
        macro_auc=percentile_interval(auc.mean(axis=0)),
        auc=tuple(percentile_interval(row) for row in auc),
    )


def auc_interval(
    is_class: NDArray[np.bool_],
    score: Floats,
    *,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> tuple[float, Interval]:
    """AUC of one class against the others, and its bootstrap interval.

    Parameters
    ----------
    is_class : (N,) bool
    score : (N,) float
    """
    rng = image_rng(seed, 2, RunStream.BOOTSTRAP)
    counts = bootstrap_counts(is_class.astype(np.int64), n_resamples, rng)
    auc = weighted_auc(is_class, score, np.ones((1, len(score))))
    return float(auc[0]), percentile_interval(weighted_auc(is_class, score, counts))


def mean_interval(
    values: Floats, *, seed: int = 0, n_resamples: int = N_RESAMPLES, level: float = LEVEL
) -> Interval:
    """Bootstrap interval of the mean of ``values`` (N,)."""
    rng = image_rng(seed, 1, RunStream.BOOTSTRAP)
    counts = bootstrap_counts(np.zeros(len(values), dtype=np.int64), n_resamples, rng)
    return percentile_interval(counts @ values / len(values), level)
