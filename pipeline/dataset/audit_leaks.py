"""Audit of what plain statistics give away, on the images as the network sees them (PHYSICS 9)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pipeline.core.logs import progress
from pipeline.dataset.audit_pixels import BLOCK
from pipeline.dataset.audit_result import (
    FAILED,
    NOT_JUDGED,
    PASSED,
    Check,
    Evidence,
    Histogram,
    PairLeak,
)
from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.generate import make_shard
from pipeline.dataset.preprocess import Preprocess, PreprocessConfig, fit_preprocess
from pipeline.dataset.store import Dataset
from pipeline.engines.base import ENGINES
from pipeline.statistics import leaks as statistics
from pipeline.statistics.leaks import LEAK_FEATURES, MIN_SIZE, SET_A

type Floats = NDArray[np.float64]

#: Fewer images of a class than this are too few to say that nothing leaks ...
MIN_PER_CLASS = 1000
#: ... and this many are what the gate was made for.
FULL_PER_CLASS = 4000
#: Statistics shown as histograms, and their bins.
_N_HISTOGRAMS, _N_BINS = 6, 30
#: Statistics listed for each pair on the page.
_N_LISTED = 8
#: Kind of substructure whose class the others are compared with.
SMOOTH = "smooth"


@dataclass(frozen=True)
class Sample:
    """Statistics of a sample of images.

    Attributes
    ----------
    names : tuple of str
        Statistics, with the channel's name before them where there are several channels.
    features : Floats, shape (N, F)
    in_a : array of bool, shape (F,)
        Whether a statistic is of set A.
    labels : array of int, shape (N,)
    groups : array of int, shape (N,)
        Number of the image within its class: twins share it.
    sums, squares : Floats, shape (K, H, W)
        Sum of each class's images and of their squares, first channel.
    """

    names: tuple[str, ...]
    features: Floats
    in_a: NDArray[np.bool_]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    sums: Floats
    squares: Floats


@dataclass(frozen=True)
class LeakAudit:
    """Result of the leak audit."""

    check: Check
    pairs: tuple[PairLeak, ...]
    leaks: dict[str, float]
    auc_max: float | None
    evidence: Evidence | None


def audit_leaks(
    dataset: Dataset, blocks: Sequence[slice], per_class: int, advance: Callable[[int], None]
) -> LeakAudit:
    """Measure how well plain statistics tell the classes of a dataset apart.

    Parameters
    ----------
    dataset : Dataset
    blocks : sequence of slice
        Images that may be read; whole blocks are taken, evenly spaced.
    per_class : int
        Images of each class wanted.
    advance : callable
        Called with the number of steps done; there is one step for each pair of classes.
    """
    config = dataset.require_simulation("the leak audit")
    if len(config.class_names) < 2:
        return not_judged("there is only one class")
    if config.n_pix < MIN_SIZE:
        return not_judged(f"images of {config.n_pix} pixels are too small, {MIN_SIZE} are needed")
    smallest = dataset.n_images // len(config.class_names)
    if smallest < statistics.N_FOLDS * 10:
        return not_judged(
            f"{smallest} images a class are too few, at least {MIN_PER_CLASS} are needed"
        )
    preprocess = fit_preprocess(dataset, PreprocessConfig())
    chosen = _spaced(blocks, per_class * len(config.class_names))
    sample = _sample(dataset, preprocess, chosen)
    return judge_sample(sample, config, advance)


def judge_sample(
    sample: Sample, config: DatasetConfig, advance: Callable[[int], None]
) -> LeakAudit:
    """Classify every pair of classes, apply the gate and name the leaking statistics.

    Set A is gated for every pair; sets A and B together where one class is smooth and the
    configuration gives no exemption for the other.
    """
    pairs: list[PairLeak] = []
    leaks: dict[str, float] = {}
    listed: dict[str, tuple[tuple[str, float, bool], ...]] = {}
    strongest: dict[str, tuple[float, str]] = {}
    for a, b in combinations(range(len(config.class_names)), 2):
        here = (sample.labels == a) | (sample.labels == b)
        second = sample.labels[here] == b
        single = statistics.single_auc(sample.features[here], second)
        found = _pair(sample, here, second, config, (a, b))
        pairs += found
        gated = sample.in_a | found[1].gated
        named = _leaking(sample.names, single, gated, found)
        leaks |= {name: max(auc, leaks.get(name, 0.0)) for name, auc in named.items()}
        order = np.argsort(-single)
        listed[found[0].pair] = tuple(
            (sample.names[i], float(single[i]), sample.names[i] in named) for i in order[:_N_LISTED]
        )
        for i in order:
            best = strongest.get(sample.names[i], (0.0, ""))
            strongest[sample.names[i]] = max(best, (float(single[i]), found[0].pair))
        advance(1)
    leaks = dict(sorted(leaks.items(), key=lambda item: -item[1]))
    evidence = Evidence(*_means(sample), _histograms(sample, strongest, config), listed)
    auc_max = max((p.auc for p in pairs if p.gated), default=None)
    return LeakAudit(_verdict(pairs, leaks, config), tuple(pairs), leaks, auc_max, evidence)


def not_judged(why: str) -> LeakAudit:
    """Leak audit that was not made, and why."""
    return LeakAudit(Check("leaks", NOT_JUDGED, why), (), {}, None, None)


def audit_sham(config: DatasetConfig, per_class: int) -> Check:
    """Without substructure (``signal_scale: 0``) nothing may tell the classes apart.

    Parameters
    ----------
    config : DatasetConfig
    per_class : int
        Images of each class to simulate.

    Returns
    -------
    Check
        Failed if a classifier on sets A and B is further than three standard errors from 1/2.
    """
    sham = config.with_changes(scenes=config.scenes.with_changes(signal_scale=0.0))
    if len(config.class_names) < 2 or per_class < 10 * statistics.N_FOLDS:
        return Check("sham", NOT_JUDGED, f"{10 * statistics.N_FOLDS} images a class are needed")
    engine = ENGINES.load(sham.engine.kind).build(sham.engine)
    n_images = per_class * len(config.class_names)
    parts, labels = [], []
    with progress("simulating sham images", n_images) as advance:
        for first in range(0, n_images, BLOCK):
            values = make_shard(sham, engine, slice(first, min(first + BLOCK, n_images)), advance)
            parts.append(_features_of(values["images"]))
            labels.append(values["label"])
    features, label = np.concatenate(parts), np.concatenate(labels)
    groups, limit = np.arange(n_images) // len(config.class_names), 3.0
    worst, where = 0.0, ""
    for a, b in combinations(range(len(config.class_names)), 2):
        here = (label == a) | (label == b)
        aucs = statistics.classifier_auc(features[here], label[here] == b, groups[here])
        off = max(abs(auc - 0.5) for auc in aucs)
        if off >= worst:
            worst, where = off, f"{config.class_names[a]}–{config.class_names[b]}"
    error = statistics.standard_error(per_class)
    detail = (
        f"{per_class} images a class without substructure: AUC off 1/2 by {worst:.3f} on {where} "
        f"(allowed {limit * error:.3f})"
    )
    return Check("sham", PASSED if worst <= limit * error else FAILED, detail)


def _features_of(images: NDArray[np.float32]) -> Floats:
    """Statistics (B, 41 C) of images (B, C, H, W), channel after channel."""
    parts = [statistics.leak_features(images[:, c]) for c in range(images.shape[1])]
    return np.concatenate(parts, axis=1)


def _sample(dataset: Dataset, preprocess: Preprocess, blocks: Sequence[slice]) -> Sample:
    channels = dataset.bands
    n_classes = len(dataset.class_names)
    index = np.concatenate([np.arange(b.start, b.stop) for b in blocks])
    features = np.empty((len(index), len(channels) * len(LEAK_FEATURES)))
    sums = np.zeros((n_classes, *dataset.image_shape[1:]))
    squares = np.zeros_like(sums)
    row = 0
    for block in blocks:
        images = preprocess.apply(dataset.read_images(block))
        here, first = _features_of(images), images[:, 0].astype(np.float64)
        features[row : row + len(here)] = here
        labels = dataset.labels[block]
        for k in range(n_classes):
            sums[k] += first[labels == k].sum(axis=0)
            squares[k] += (first[labels == k] ** 2).sum(axis=0)
        row += len(here)
    prefix = [f"{c}:" if len(channels) > 1 else "" for c in channels]
    names = tuple(f"{p}{name}" for p in prefix for name in LEAK_FEATURES)
    in_a = np.array([name in SET_A for _ in channels for name in LEAK_FEATURES])
    labels = dataset.labels[index].astype(np.int64)
    return Sample(names, features, in_a, labels, index // n_classes, sums, squares)


def _spaced(blocks: Sequence[slice], wanted: int) -> tuple[slice, ...]:
    """Enough whole blocks for ``wanted`` images, spread over the dataset."""
    total = sum(b.stop - b.start for b in blocks)
    n_blocks = min(len(blocks), -(-wanted * len(blocks) // max(total, 1)))
    chosen = np.unique(np.linspace(0, len(blocks) - 1, n_blocks).round().astype(int))
    return tuple(blocks[i] for i in chosen)


def _pair(
    sample: Sample,
    here: NDArray[np.bool_],
    second: NDArray[np.bool_],
    config: DatasetConfig,
    classes: tuple[int, int],
) -> tuple[PairLeak, PairLeak]:
    """Sets A, and A and B together, for one pair."""
    first_name, second_name = (config.class_names[k] for k in classes)
    n = int(min(second.sum(), (~second).sum()))
    results = []
    for features, columns, gated in (
        ("A", sample.in_a, True),
        ("A+B", np.ones_like(sample.in_a), _is_b_gated(config, first_name, second_name)),
    ):
        data = sample.features[here][:, columns]
        logistic, boosting = statistics.classifier_auc(data, second, sample.groups[here])
        leaks = gated and statistics.exceeds_gate(max(logistic, boosting), n)
        error = statistics.standard_error(n)
        results.append(
            PairLeak(first_name, second_name, features, n, logistic, boosting, error, gated, leaks)
        )
    return results[0], results[1]


def is_smooth(config: DatasetConfig, class_name: str) -> bool:
    """Whether a class has no substructure."""
    kind = getattr(config.scenes.classes[class_name].substructure, "kind", None)
    return bool(kind == SMOOTH)


def _is_b_gated(config: DatasetConfig, first: str, second: str) -> bool:
    smooth = [is_smooth(config, name) for name in (first, second)]
    other = second if smooth[0] else first
    return any(smooth) and other not in config.leak_exemptions


def _leaking(
    names: Sequence[str], single: Floats, gated: NDArray[np.bool_], pairs: Sequence[PairLeak]
) -> dict[str, float]:
    """Gated statistics above the gate; where only their combination is, that combination."""
    n = pairs[0].n_per_class
    found = {
        name: float(auc)
        for name, auc, is_gated in zip(names, single, gated, strict=True)
        if is_gated and statistics.exceeds_gate(float(auc), n)
    }
    if not found:
        found = {f"set {p.features} together ({p.pair})": p.auc for p in pairs if p.leaks}
    return found


def _verdict(pairs: Sequence[PairLeak], leaks: dict[str, float], config: DatasetConfig) -> Check:
    n = min(p.n_per_class for p in pairs)
    worst = max((p for p in pairs if p.gated), key=lambda p: p.auc)
    exempt = "".join(f"; {c} exempt in set B: {why}" for c, why in config.leak_exemptions.items())
    of = f"classifiers reach AUC {worst.auc:.3f} on {worst.pair} (set {worst.features})"
    if leaks:
        named = ", ".join(f"{name} {auc:.3f}" for name, auc in leaks.items())
        return Check("leaks", FAILED, f"{of}; statistics that tell: {named}{exempt}")
    gate = f"gate {statistics.GATE_AUC} + {statistics.GATE_SIGMA * worst.standard_error:.3f}"
    if n < MIN_PER_CLASS:
        detail = f"{of}, but {n} images a class cannot show that nothing leaks"
        return Check("leaks", NOT_JUDGED, f"{detail}: {MIN_PER_CLASS} are needed{exempt}")
    few = f"; {FULL_PER_CLASS} a class would say more" if n < FULL_PER_CLASS else ""
    return Check("leaks", PASSED, f"{of}, {gate}, {n} images a class{few}{exempt}")


def _means(sample: Sample) -> tuple[Floats, Floats]:
    n = np.bincount(sample.labels, minlength=len(sample.sums)).astype(float)[:, None, None]
    mean = sample.sums / n
    variance = np.maximum(sample.squares / n - mean**2, 0.0)
    return mean, np.sqrt(2.0 * variance.mean(axis=0) / n.min())


def _histograms(
    sample: Sample, strongest: dict[str, tuple[float, str]], config: DatasetConfig
) -> tuple[Histogram, ...]:
    worst = sorted(strongest, key=lambda name: -strongest[name][0])[:_N_HISTOGRAMS]
    found = []
    for name in worst:
        values = sample.features[:, sample.names.index(name)]
        low, high = np.quantile(values, [0.005, 0.995])
        edges = np.linspace(low, high if high > low else low + 1.0, _N_BINS + 1)
        counts = np.stack(
            [
                np.histogram(values[sample.labels == k], edges)[0]
                for k in range(len(config.class_names))
            ]
        )
        found.append(Histogram(name, *strongest[name], edges, counts))
    return tuple(found)
