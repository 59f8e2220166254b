"""How well an anomaly score ranks each class it never saw above those it was trained on."""

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.detectability import dataset_ceilings
from pipeline.dataset.store import Dataset
from pipeline.statistics.distance import fit_reference
from pipeline.statistics.intervals import auc_interval
from pipeline.statistics.leaks import MIN_SIZE
from pipeline.statistics.metrics import Floats
from pipeline.training.bounds import FLOOR_TEST, FLOOR_TRAIN, plain_statistics

Pair = tuple[float, float]
#: Name of all classes together that were not trained on.
ALL = "all"


def anomaly_auc(
    labels: NDArray[np.int64], score: Floats, class_names: tuple[str, ...], inliers: tuple[str, ...]
) -> tuple[dict[str, float], dict[str, Pair]]:
    """AUC of inliers against each other class and against all of them, and 95 % intervals.

    Parameters
    ----------
    labels : (N,) int
    score : (N,) float
        Grows with strangeness.
    class_names, inliers : tuple of str

    Returns
    -------
    dict, dict
        By class name, and by :data:`ALL`; classes without images are left out.
    """
    values, intervals = {}, {}
    is_inlier = np.isin(labels, [class_names.index(name) for name in inliers])
    for name, is_other in _others(labels, is_inlier, class_names, inliers).items():
        chosen = is_inlier | is_other
        if is_inlier.any() and is_other.any():
            auc, ends = auc_interval(is_other[chosen], score[chosen])
            values[name], intervals[name] = auc, (ends.low, ends.high)
    return values, intervals


def anomaly_ceilings(dataset: Dataset, split: str, inliers: tuple[str, ...]) -> dict[str, float]:
    """Bound on those AUC for any classifier that knows all classes; empty if unknown.

    The bound of each pair of classes, weighted by how many images they have.
    """
    if dataset.simulation is None:
        return {}
    labels = dataset.labels[dataset.indices(split)]
    count = {name: int(np.sum(labels == k)) for k, name in enumerate(dataset.class_names)}
    pairs = {p.classes: p.auc for p in dataset_ceilings(dataset, "prior", split)}
    names = [name for name in dataset.class_names if name not in inliers]
    found = {}
    for title, others in ({name: [name] for name in names} | {ALL: names}).items():
        weights = [count[a] * count[b] for a in inliers for b in others]
        bounds = [pairs.get((a, b), pairs.get((b, a), np.nan)) for a in inliers for b in others]
        if sum(weights) and np.isfinite(bounds).all():
            found[title] = float(np.average(bounds, weights=weights))
    return found


def anomaly_floors(
    dataset: Dataset, split: str, inliers: tuple[str, ...]
) -> tuple[dict[str, float], dict[str, Pair]]:
    """Those AUC and intervals for a score that needs no network: distance in 41 plain statistics.

    Mahalanobis' to the training images of the inliers; empty where images are too small.
    """
    if dataset.image_shape[1] < MIN_SIZE:
        return {}, {}
    wanted = [dataset.class_names.index(name) for name in inliers]
    train = dataset.indices("train")
    train = train[np.isin(dataset.labels[train], wanted)][:FLOOR_TRAIN]
    test = dataset.indices(split)[:FLOOR_TEST]
    if len(train) < 2:
        return {}, {}
    reference = fit_reference(plain_statistics(dataset, train))
    score = reference.distance(plain_statistics(dataset, test))
    labels = dataset.labels[test].astype(np.int64)
    return anomaly_auc(labels, score, dataset.class_names, inliers)


def _others(
    labels: NDArray[np.int64],
    is_inlier: NDArray[np.bool_],
    class_names: tuple[str, ...],
    inliers: tuple[str, ...],
) -> dict[str, NDArray[np.bool_]]:
    """Which images belong to each other class, and to any."""
    found = {name: labels == k for k, name in enumerate(class_names) if name not in inliers}
    return {ALL: ~is_inlier, **found}
