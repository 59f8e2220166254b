"""Judge a run on a split it was not trained on: metrics with intervals, curves, calibration."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.checkpoint.card import model_card, read_dataset_description
from pipeline.checkpoint.load import Run, load_run
from pipeline.checkpoint.spec import CARD_FILE, EVALUATION_FILE
from pipeline.core.config import hint
from pipeline.core.errors import ConfigError, DatasetMismatchError
from pipeline.core.files import atomic_write
from pipeline.core.logs import get_logger
from pipeline.dataset.loader import BatchSource
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.inference.target import Target
from pipeline.statistics import metrics as measure
from pipeline.statistics.intervals import classification_intervals
from pipeline.tasks.base import Answer, Floats, Outputs, trained_classes
from pipeline.training.anomaly_report import anomaly_auc, anomaly_ceilings, anomaly_floors
from pipeline.training.bounds import (
    DetectabilityBin,
    MassFloor,
    by_detectability,
    class_ceilings,
    class_floors,
    mass_floor,
)
from pipeline.training.domain import dataset_domain
from pipeline.training.journal import Row, read_rows
from pipeline.training.outputs import SplitOutputs, split_outputs
from pipeline.training.target_report import TargetReport, target_report

logger = get_logger("evaluate")

FORMAT = "deeplense-evaluation"
FORMAT_VERSION = 1
BATCH_SIZE = 128

Pair = tuple[float, float]


@dataclass(frozen=True)
class RocCurve:
    """One class against the rest."""

    class_name: str
    auc: float
    false_positive_rate: Floats
    true_positive_rate: Floats


@dataclass(frozen=True)
class Evaluation:
    """Everything known about a run on one split.

    Attributes
    ----------
    metrics : dict
        Of calibrated answers. Classification: accuracy, macro_auc, auc_CLASS, cross_entropy (nat)
        and ece. Regression: mae, rmse, bias (``_dex`` for log10 targets), coverage_68, _90, _95;
        with ``_TARGET`` appended if there are several. Anomaly: auc_CLASS of the inliers against
        each other class, and auc_all. Any other task: its own.
    intervals : dict
        95 % bootstrap interval (low, high) of those that have one.
    confusion : (K, K) counts, rows are true classes; None without classes
    reliability : measure.Reliability, or None
    roc : one curve per class
    ceiling, floor : dict
        Bound on the AUC from detectability, and AUC of boosted trees on plain statistics, by class
        and for ``macro_auc``; empty where unknown.
    by_detectability : tuple of DetectabilityBin
    targets : one report per target of a regression
    mass_floor : MassFloor, or None where it was not asked for
    novelty_above_95 : float
        Fraction of the split that the run calls more novel than 95 % of the validation images;
        0.05 is expected of data like the training data.
    curves : rows of ``metrics.jsonl``
    """

    run: Path
    task: str
    checkpoint_sha256: str
    dataset_sha256: str
    same_dataset: bool
    split: str
    n: int
    class_names: tuple[str, ...]
    metrics: dict[str, float]
    intervals: dict[str, Pair]
    confusion: NDArray[np.int64] | None
    reliability: measure.Reliability | None
    roc: tuple[RocCurve, ...]
    ceiling: dict[str, float]
    floor: dict[str, float]
    by_detectability: tuple[DetectabilityBin, ...]
    targets: tuple[TargetReport, ...]
    mass_floor: MassFloor | None
    novelty_above_95: float
    curves: tuple[Row, ...]

    @property
    def accuracy(self) -> float:
        """Fraction of images whose most probable class is the true one."""
        return self.metrics["accuracy"]

    @property
    def macro_auc(self) -> float:
        """Mean over classes of the one-vs-rest AUC."""
        return self.metrics["macro_auc"]

    @property
    def macro_auc_interval(self) -> Pair:
        """95 % interval of :attr:`macro_auc`."""
        return self.intervals["macro_auc"]

    @property
    def auc(self) -> dict[str, float]:
        """One-vs-rest AUC by class name."""
        return {curve.class_name: curve.auc for curve in self.roc}

    @property
    def ece(self) -> float:
        """Expected calibration error."""
        return self.metrics["ece"]

    def summary(self) -> dict[str, Any]:  # Any: plain JSON data
        """Return the fields that ``deeplense evaluate --json`` promises, and the intervals."""
        found: dict[str, Any] = {"n": self.n, "task": self.task, "split": self.split}
        found |= {name: value for name, value in self.metrics.items() if name[:4] != "auc_"}
        names = {name: f"{name}_interval" for name in self.intervals if name[:4] != "auc_"}
        found |= {key: self.intervals[name] for name, key in names.items()}
        auc = {name[4:]: value for name, value in self.metrics.items() if name[:4] == "auc_"}
        if auc:
            found["auc"] = auc
            found["auc_interval"] = {name: self.intervals[f"auc_{name}"] for name in auc}
            found |= {"ceiling": self.ceiling, "floor": self.floor}
        if self.roc:
            found["confusion"] = self.confusion
        bins = [asdict(line) for line in self.by_detectability]
        found |= {"by_detectability": bins} if bins else {}
        if self.targets:
            found["targets"] = [_without_points(asdict(report)) for report in self.targets]
        found |= {"mass_floor": asdict(self.mass_floor)} if self.mass_floor else {}
        content: dict[str, Any] = _plain(found)
        return content

    def to_json(self) -> dict[str, Any]:  # Any: plain JSON data
        """Everything as plain JSON data; values that do not exist are null."""
        head = {"format": FORMAT, "format_version": FORMAT_VERSION}
        content: dict[str, Any] = _plain({**head, **asdict(self)})
        return content


def evaluate_run(
    run: Path | str,
    data: Path | str,
    split: str = "test",
    *,
    device: str = "auto",
    floor_lenses: int = 0,
) -> Evaluation:
    """Evaluate a run folder on a dataset; write ``evaluation.json`` and renew the model card.

    Parameters
    ----------
    run : Path
    data : Path
        A complete dataset with the classes, bands, pixel scale and size of the checkpoint; for one
        that was adapted only the classes matter, and images are prepared as for scoring.
    split : str
        ``test``, ``val`` or ``train``.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    floor_lenses : int
        Vortices from which the information floor of the axion mass is measured, about half a
        second each; none by default.

    Raises
    ------
    CheckpointError
        If the run cannot be loaded.
    ConfigError
        If a floor is asked for, but the run estimates no axion mass.
    DatasetMismatchError
        If the dataset does not fit the checkpoint, or lacks its target.
    """
    loaded = load_run(run, device=device)
    dataset = open_dataset(data)
    if floor_lenses and "axion_mass" not in {target.name for target in loaded.spec.targets}:
        raise ConfigError(f"{run}: --floor is that of axion_mass, which this run does not estimate")
    is_adapted = hasattr(loaded.spec.task, "domain")
    if is_adapted and loaded.class_names == dataset.class_names:
        found = domain_outputs(loaded, dataset, split)
    else:
        require_fitting(loaded, dataset)
        found = run_outputs(loaded, dataset, split)
    floor = mass_floor(dataset, floor_lenses) if floor_lenses else None
    evaluation = _evaluate(loaded, dataset, split, found, floor)
    content = evaluation.to_json()
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    atomic_write(loaded.path / EVALUATION_FILE, text + "\n")
    card = model_card(loaded.spec, read_dataset_description(loaded.path), content)
    atomic_write(loaded.path / CARD_FILE, card)
    return evaluation


def run_outputs(run: Run, dataset: Dataset, split: str) -> SplitOutputs:
    """Raw outputs of a run for every image of a split, with the truth."""
    source = BatchSource(
        dataset,
        split,
        run.preprocess,
        batch_size=BATCH_SIZE,
        seed=0,
        target_names=tuple(target.name for target in run.spec.targets),
    )
    return split_outputs(run.network, source, run.device)


def domain_outputs(run: Run, dataset: Dataset, split: str) -> SplitOutputs:
    """Raw outputs for a split of a dataset of other pixels, prepared as the second domain was."""
    index = dataset.indices(split)
    domain = dataset_domain(dataset, index, Target.of(run.preprocess))
    domain = domain.with_planes(run.preprocess.smooth_fit)
    parts = np.array_split(domain.images, max(1, len(domain.images) // BATCH_SIZE))
    found = [run.outputs(torch.from_numpy(run.preprocess.apply(part))) for part in parts]
    values, descriptions = zip(*found, strict=True)
    index = index[domain.taken]
    outputs = Outputs(
        values=np.concatenate(values),
        labels=dataset.labels[index].astype(np.int64),
        targets=np.empty((len(index), 0)),
        index=index,
    )
    return SplitOutputs(outputs, np.concatenate(descriptions))


def require_fitting(run: Run, dataset: Dataset) -> None:
    """Refuse a dataset that the checkpoint's network cannot judge.

    Raises
    ------
    DatasetMismatchError
        Naming what differs: classes, bands, pixel scale or size.
    """
    p = run.preprocess
    pairs = (
        ("classes", list(run.class_names), list(dataset.class_names)),
        ("bands", list(p.bands), list(dataset.bands)),
        ("pixel scale (arcsec)", p.pixel_scale, dataset.pixel_scale),
        ("image size (pixels)", p.size, dataset.image_shape[1]),
    )
    known = dataset.truth_info()
    lacking = [target.name for target in run.spec.targets if target.name not in known]
    if lacking:
        raise DatasetMismatchError(
            f"{dataset.path}: has no truth column {lacking[0]!r}, which {run.path} estimates"
            f"{hint(lacking[0], known)}"
        )
    wrong = [f"{what} {there} instead of {here}" for what, here, there in pairs if here != there]
    if wrong:
        raise DatasetMismatchError(
            f"{dataset.path}: does not fit the checkpoint {run.path}: it has {'; '.join(wrong)}"
        )


def _evaluate(
    run: Run, dataset: Dataset, split: str, found: SplitOutputs, floor: MassFloor | None
) -> Evaluation:
    outputs = found.outputs
    answer = run.task.answer(outputs.values, run.spec.calibration)
    metrics: dict[str, float] = {}
    intervals: dict[str, Pair] = {}
    if answer.class_probability is not None:
        _judge_classes(run, outputs.labels, answer.class_probability, metrics, intervals)
    targets = _judge_targets(run, outputs, answer, metrics, intervals)
    inliers = trained_classes(run.spec.task)
    if answer.anomaly is not None:
        auc, ends = anomaly_auc(outputs.labels, answer.anomaly, run.class_names, inliers)
        metrics |= {f"auc_{name}": value for name, value in auc.items()}
        intervals |= {f"auc_{name}": pair for name, pair in ends.items()}
    if not metrics:
        metrics = run.task.metrics(outputs, run.spec.calibration)
    probability, labels = answer.class_probability, outputs.labels
    ceilings, floors = _bounds(run, dataset, split, answer)
    rates = () if probability is None else measure.roc_curves(labels, probability)
    return Evaluation(
        run=run.path,
        task=run.spec.task.kind,
        checkpoint_sha256=run.sha256,
        dataset_sha256=dataset.sha256,
        same_dataset=dataset.sha256 == run.spec.dataset_sha256,
        split=split,
        n=len(labels),
        class_names=run.class_names,
        metrics=metrics,
        intervals=intervals,
        confusion=None if probability is None else measure.confusion(labels, probability),
        reliability=None if probability is None else measure.reliability(labels, probability),
        roc=tuple(
            RocCurve(name, metrics[f"auc_{name}"], *rate)
            for name, rate in zip(run.class_names if rates else (), rates, strict=True)
        ),
        ceiling=ceilings,
        floor=floors,
        by_detectability=()
        if probability is None
        else by_detectability(dataset, outputs.index, probability),
        targets=targets,
        mass_floor=floor,
        novelty_above_95=float(np.mean(run.novelty.quantile(found.description) >= 0.95)),
        curves=tuple(read_rows(run.path)),
    )


def _bounds(
    run: Run, dataset: Dataset, split: str, answer: Answer
) -> tuple[dict[str, float], dict[str, float]]:
    """Ceilings and floors of the AUC that are told."""
    if answer.class_probability is not None:
        return class_ceilings(dataset, split), class_floors(dataset, split)
    if answer.anomaly is not None:
        inliers = trained_classes(run.spec.task)
        return (
            anomaly_ceilings(dataset, split, inliers),
            anomaly_floors(dataset, split, inliers)[0],
        )
    return {}, {}


def _judge_classes(
    run: Run,
    labels: NDArray[np.int64],
    probability: Floats,
    metrics: dict[str, float],
    intervals: dict[str, Pair],
) -> None:
    """Add the figures of a classifier."""
    auc = measure.auc_per_class(labels, probability)
    metrics |= {
        "accuracy": measure.accuracy(labels, probability),
        "macro_auc": float(np.mean(auc)),
        **{f"auc_{name}": float(a) for name, a in zip(run.class_names, auc, strict=True)},
        "cross_entropy": measure.cross_entropy(labels, probability),
        "ece": measure.reliability(labels, probability).ece,
    }
    ends = classification_intervals(labels, probability)
    intervals["accuracy"] = (ends.accuracy.low, ends.accuracy.high)
    intervals["macro_auc"] = (ends.macro_auc.low, ends.macro_auc.high)
    for name, interval in zip(run.class_names, ends.auc, strict=True):
        intervals[f"auc_{name}"] = (interval.low, interval.high)


def _judge_targets(
    run: Run,
    outputs: Outputs,
    answer: Answer,
    metrics: dict[str, float],
    intervals: dict[str, Pair],
) -> tuple[TargetReport, ...]:
    """Add the figures of a regression; of each target by its name if there are several."""
    if answer.target_quantile is None:
        return ()
    reports = tuple(
        target_report(target, outputs.targets[:, i], answer.target_quantile[:, i])
        for i, target in enumerate(run.spec.targets)
    )
    for report in reports:
        end = "" if len(reports) == 1 else f"_{report.name}"
        metrics |= {f"{name}{end}": value for name, value in report.metrics.items()}
        intervals |= {f"{name}{end}": ends for name, ends in report.intervals.items()}
        unit = "_dex" if report.function == "log10" else ""
        metrics[f"mae_constant{unit}{end}"] = report.mae_constant
    return reports


def _without_points(report: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON data
    return {k: v for k, v in report.items() if k not in ("truth", "median", "low", "high")}


def _plain(value: Any) -> Any:  # Any: JSON data out of arrays, paths and numbers
    """JSON data: arrays become lists, paths text, what is not finite null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return value.name
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
