"""What to hold a network against: ceiling, plain statistics, information floor of a mass."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import DatasetError
from pipeline.dataset.audit_leaks import is_smooth
from pipeline.dataset.detectability import dataset_ceilings
from pipeline.dataset.store import Dataset
from pipeline.statistics.ceilings import ceiling, one_vs_rest_ceiling
from pipeline.statistics.intervals import Interval, auc_interval
from pipeline.statistics.leaks import MIN_SIZE, leak_features
from pipeline.statistics.metrics import Floats, auc_per_class

#: Training images that the plain statistics are fitted on, and images that they are judged on.
FLOOR_TRAIN, FLOOR_TEST = 3000, 2000
#: Borders of the detectability bins, in standard deviations.
D_EDGES = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0, np.inf)


@dataclass(frozen=True)
class DetectabilityBin:
    """Images of one class whose d' against the smooth twin lies in [low, high).

    ``auc`` is against the smooth class, by the ratio of the two probabilities; ``ceiling`` is the
    bound (8.2) for these d'; ``recall`` is the fraction called by its class.
    """

    class_name: str
    low: float
    high: float
    n: int
    auc: float
    auc_interval: Interval
    ceiling: float
    recall: float


@dataclass(frozen=True)
class MassFloor:
    """Least mean absolute error, dex, with which any method can measure the axion mass.

    ``error`` is its standard error; from ``n`` vortices, their masses evenly over the prior.
    """

    class_name: str
    n: int
    mae: float
    error: float


def mass_floor(dataset: Dataset, n: int) -> MassFloor:
    """Measure the information floor of a dataset's own lenses and telescope.

    Raises
    ------
    DatasetError
        If the dataset was not simulated, or has no vortices.
    PhysicsError
        If the axion mass is fixed, or the telescope has no noise.
    """
    from pipeline.detectability.floor import information_floor
    from pipeline.detectability.measure import Survey
    from pipeline.physics.substructure import vortex

    config = dataset.require_simulation("an information floor")
    classes = config.scenes.classes
    names = [k for k, v in classes.items() if isinstance(v.substructure, vortex.Config)]
    if not names:
        raise DatasetError(f"{dataset.path}: no class of vortices, whose axion mass has a floor")
    survey = Survey(config.scenes, config.seed, config.grid, config.instruments)
    found = information_floor(survey, names[0], n)
    return MassFloor(names[0], n, found.mae, found.error)


def class_ceilings(dataset: Dataset, split: str) -> dict[str, float]:
    """Bound on the AUC of each class against the rest, and ``macro_auc``; empty if unknown."""
    if dataset.simulation is None or len(dataset.class_names) < 2:
        return {}
    pairs = dataset_ceilings(dataset, "prior", split)
    if not pairs or not all(np.isfinite(pair.auc) for pair in pairs):
        return {}
    labels = dataset.labels[dataset.indices(split)]
    count = {name: int(np.sum(labels == k)) for k, name in enumerate(dataset.class_names)}
    found = {name: one_vs_rest_ceiling(pairs, name, count) for name in dataset.class_names}
    return {**found, "macro_auc": float(np.mean(list(found.values())))}


def class_floors(dataset: Dataset, split: str) -> dict[str, float]:
    """AUC of boosted trees on plain statistics (PHYSICS 9), by class, and ``macro_auc``.

    Fitted on training images; what a network must beat to have learnt anything. Empty where the
    images are too small for the statistics, or the training images hold a single class.
    """
    if dataset.image_shape[1] < MIN_SIZE:
        return {}
    from sklearn.ensemble import HistGradientBoostingClassifier  # type: ignore[import-untyped]

    train, test = dataset.indices("train")[:FLOOR_TRAIN], dataset.indices(split)[:FLOOR_TEST]
    labels = dataset.labels[train]
    if len(np.unique(labels)) < 2:
        return {}
    trees = HistGradientBoostingClassifier(
        max_depth=3, max_iter=100, learning_rate=0.08, early_stopping=False, random_state=0
    )
    trees.fit(plain_statistics(dataset, train), labels)
    probability = np.zeros((len(test), len(dataset.class_names)))
    probability[:, trees.classes_] = trees.predict_proba(plain_statistics(dataset, test))
    auc = auc_per_class(dataset.labels[test], probability)
    found = {name: float(a) for name, a in zip(dataset.class_names, auc, strict=True)}
    return {**found, "macro_auc": float(np.mean(auc))}


def by_detectability(
    dataset: Dataset, index: NDArray[np.int64], probability: Floats
) -> tuple[DetectabilityBin, ...]:
    """How well substructure is found, by how much there is to find.

    Parameters
    ----------
    dataset : Dataset
    index : (N,) int
        Image numbers.
    probability : (N, K) float

    Returns
    -------
    tuple of DetectabilityBin
        Empty if the dataset has no d', or not exactly one smooth class.
    """
    try:
        d = dataset.truth("d_prior")[index]
    except DatasetError:
        return ()
    config = dataset.simulation
    smooth = [n for n in dataset.class_names if config is not None and is_smooth(config, n)]
    if len(smooth) != 1:
        return ()
    plain = dataset.class_names.index(smooth[0])
    labels = dataset.labels[index]
    log_p = np.log(np.maximum(probability, np.finfo(float).tiny))
    found = []
    for k, name in enumerate(dataset.class_names):
        if k == plain:
            continue
        score = log_p[:, k] - log_p[:, plain]
        for low, high in pairwise(D_EDGES):
            inside = (labels == k) & (d >= low) & (d < high)
            chosen = inside | (labels == plain)
            if not inside.any() or not (labels == plain).any():
                continue
            auc, interval = auc_interval(inside[chosen], score[chosen])
            found.append(
                DetectabilityBin(
                    class_name=name,
                    low=low,
                    high=high,
                    n=int(inside.sum()),
                    auc=auc,
                    auc_interval=interval,
                    ceiling=ceiling((name, smooth[0]), d[inside]).auc,
                    recall=float(np.mean(probability[inside].argmax(axis=1) == k)),
                )
            )
    return tuple(found)


def plain_statistics(dataset: Dataset, index: NDArray[np.int64]) -> Floats:
    """Plain statistics (N, 41 C) of images, read in order."""
    order = np.sort(index)
    images = dataset.read_images(order)
    parts = [leak_features(images[:, c]) for c in range(images.shape[1])]
    features = np.concatenate(parts, axis=1)
    return np.asarray(features[np.searchsorted(order, index)])
