"""Classification metrics of whole splits: accuracy, one-vs-rest AUC, confusion, calibration error.

Arrays cover every image of a split once; nothing here is a mean of batch means. ``labels`` are
integers in ``[0, K)`` and ``probability`` is (N, K), rows summing to one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.integer]

#: Equal-width confidence bins of the reliability curve and the calibration error.
N_BINS = 15
#: A ROC curve is thinned to this many points; its area is computed from all of them.
MAX_ROC_POINTS = 201


@dataclass(frozen=True)
class Reliability:
    """How often the top class is right, by how sure the network was.

    ``confidence`` and ``accuracy`` (n_bins,) are means inside a bin, NaN where ``count`` is 0.
    """

    edges: Floats
    count: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats

    @property
    def ece(self) -> float:
        """Expected calibration error: mean |confidence - accuracy|, weighted by count."""
        filled = self.count > 0
        gap = np.abs(self.confidence[filled] - self.accuracy[filled])
        return float(np.sum(gap * self.count[filled]) / np.sum(self.count))


def accuracy(labels: Labels, probability: Floats) -> float:
    """Fraction of images whose most probable class is the true one."""
    return float(np.mean(np.argmax(probability, axis=1) == labels))


def auc_per_class(labels: Labels, probability: Floats) -> Floats:
    """Area under the ROC curve of each class against the rest.

    Returns
    -------
    Floats, shape (K,)
        NaN for a class that no image, or every image, belongs to.
    """
    from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

    n_classes = probability.shape[1]
    result = np.full(n_classes, np.nan)
    for k in range(n_classes):
        is_class = np.asarray(labels) == k
        if 0 < is_class.sum() < len(is_class):
            result[k] = roc_auc_score(is_class, probability[:, k])
    return result


def macro_auc(labels: Labels, probability: Floats) -> float:
    """Unweighted mean of :func:`auc_per_class`; NaN if any class has no AUC."""
    return float(np.mean(auc_per_class(labels, probability)))


def weighted_auc(is_class: NDArray[np.bool_], score: Floats, weights: Floats) -> Floats:
    """AUC under many integer or real weightings of the same images, ties counted half.

    AUC = sum over pairs (positive i, negative j) of w_i w_j ([s_i > s_j] + [s_i = s_j] / 2),
    divided by the sum of the weights of all pairs (Mann & Whitney 1947).

    Parameters
    ----------
    is_class : (N,) bool
    score : (N,) float
    weights : (R, N) float
        One weighting (e.g. bootstrap counts) per row.

    Returns
    -------
    Floats, shape (R,)
    """
    _, tie = np.unique(score, return_inverse=True)
    order = np.argsort(tie, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(tie[order]) > 0])
    positive = np.add.reduceat((weights * is_class)[:, order], first, axis=1)
    negative = np.add.reduceat((weights * ~is_class)[:, order], first, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    wins = np.sum(positive * (below + 0.5 * negative), axis=1)
    result: Floats = np.divide(wins, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)
    return result


def roc_curves(labels: Labels, probability: Floats) -> tuple[tuple[Floats, Floats], ...]:
    """(false-positive rate, true-positive rate) of each class against the rest.

    Each array starts at 0, ends at 1 and has at most ``MAX_ROC_POINTS`` entries; both are empty
    where the class has no AUC.
    """
    from sklearn.metrics import roc_curve

    curves = []
    for k in range(probability.shape[1]):
        is_class = np.asarray(labels) == k
        if not 0 < is_class.sum() < len(is_class):
            curves.append((np.empty(0), np.empty(0)))
            continue
        fpr, tpr, _ = roc_curve(is_class, probability[:, k])
        if len(fpr) > MAX_ROC_POINTS:
            keep = np.unique(np.linspace(0, len(fpr) - 1, MAX_ROC_POINTS).round().astype(int))
            fpr, tpr = fpr[keep], tpr[keep]
        curves.append((fpr, tpr))
    return tuple(curves)


def confusion(labels: Labels, probability: Floats) -> NDArray[np.int64]:
    """Counts (K, K): row is the true class, column the most probable one."""
    from sklearn.metrics import confusion_matrix

    classes = np.arange(probability.shape[1])
    counts = confusion_matrix(labels, np.argmax(probability, axis=1), labels=classes)
    return np.asarray(counts, dtype=np.int64)


def cross_entropy(labels: Labels, probability: Floats) -> float:
    """Mean -ln p(true class), in nat."""
    chosen = probability[np.arange(len(probability)), labels]
    return float(-np.mean(np.log(np.maximum(chosen, np.finfo(np.float64).tiny))))


def reliability(labels: Labels, probability: Floats, n_bins: int = N_BINS) -> Reliability:
    """Reliability curve of the top class in equal-width confidence bins (Guo et al. 2017)."""
    top = probability.max(axis=1)
    right = np.argmax(probability, axis=1) == labels
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    which = np.clip(np.searchsorted(edges, top, side="left") - 1, 0, n_bins - 1)
    count = np.bincount(which, minlength=n_bins)
    divisor = np.where(count > 0, count, np.nan)
    return Reliability(
        edges=edges,
        count=count.astype(np.int64),
        confidence=np.bincount(which, weights=top, minlength=n_bins) / divisor,
        accuracy=np.bincount(which, weights=right, minlength=n_bins) / divisor,
    )
