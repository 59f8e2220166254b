"""Judge a run on a split it was not trained on: metrics with intervals, curves, calibration."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.checkpoint.card import model_card, read_dataset_description
from pipeline.checkpoint.load import Run, load_run
from pipeline.checkpoint.spec import CARD_FILE, EVALUATION_FILE
from pipeline.core.errors import DatasetMismatchError
from pipeline.core.files import atomic_write
from pipeline.core.logs import get_logger
from pipeline.dataset.loader import BatchSource
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.statistics import metrics as measure
from pipeline.statistics.intervals import classification_intervals
from pipeline.tasks.base import Floats
from pipeline.training.journal import Row, read_rows
from pipeline.training.outputs import SplitOutputs, split_outputs

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
    """Everything known about a classification run on one split.

    Attributes
    ----------
    metrics : dict
        accuracy, macro_auc, auc_CLASS, cross_entropy (nat) and ece, of calibrated probabilities.
    intervals : dict
        95 % bootstrap interval (low, high) of those that have one.
    confusion : (K, K) counts, rows are true classes
    reliability : measure.Reliability
    roc : one curve per class
    novelty_above_95 : float
        Fraction of the split that the run calls more novel than 95 % of the validation images;
        0.05 is expected of data like the training data.
    curves : rows of ``metrics.jsonl``
    """

    run: Path
    checkpoint_sha256: str
    dataset_sha256: str
    same_dataset: bool
    split: str
    n: int
    class_names: tuple[str, ...]
    metrics: dict[str, float]
    intervals: dict[str, Pair]
    confusion: NDArray[np.int64]
    reliability: measure.Reliability
    roc: tuple[RocCurve, ...]
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
        content: dict[str, Any] = _plain(
            {
                "n": self.n,
                "accuracy": self.accuracy,
                "macro_auc": self.macro_auc,
                "auc": self.auc,
                "macro_auc_interval": self.macro_auc_interval,
                "ece": self.ece,
                "accuracy_interval": self.intervals["accuracy"],
                "auc_interval": {name: self.intervals[f"auc_{name}"] for name in self.class_names},
                "confusion": self.confusion,
                "split": self.split,
            }
        )
        return content

    def to_json(self) -> dict[str, Any]:  # Any: plain JSON data
        """Everything as plain JSON data; values that do not exist are null."""
        head = {"format": FORMAT, "format_version": FORMAT_VERSION}
        content: dict[str, Any] = _plain({**head, **asdict(self)})
        return content


def evaluate_run(
    run: Path | str, data: Path | str, split: str = "test", *, device: str = "auto"
) -> Evaluation:
    """Evaluate a run folder on a dataset; write ``evaluation.json`` and renew the model card.

    Parameters
    ----------
    run : Path
    data : Path
        A complete dataset with the classes, bands, pixel scale and size of the checkpoint.
    split : str
        ``test``, ``val`` or ``train``.
    device : str
        ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    CheckpointError
        If the run cannot be loaded or is no classifier.
    DatasetMismatchError
        If the dataset does not fit the checkpoint.
    """
    loaded = load_run(run, device=device, task="classification")
    dataset = open_dataset(data)
    require_fitting(loaded, dataset)
    source = BatchSource(dataset, split, loaded.preprocess, batch_size=BATCH_SIZE, seed=0)
    found = split_outputs(loaded.network, source, loaded.device)
    evaluation = _evaluate(loaded, dataset, split, found)
    content = evaluation.to_json()
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    atomic_write(loaded.path / EVALUATION_FILE, text + "\n")
    card = model_card(loaded.spec, read_dataset_description(loaded.path), content)
    atomic_write(loaded.path / CARD_FILE, card)
    return evaluation


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
    wrong = [f"{what} {there} instead of {here}" for what, here, there in pairs if here != there]
    if wrong:
        raise DatasetMismatchError(
            f"{dataset.path}: does not fit the checkpoint {run.path}: it has {'; '.join(wrong)}"
        )


def _evaluate(run: Run, dataset: Dataset, split: str, found: SplitOutputs) -> Evaluation:
    labels = found.outputs.labels
    probability = run.task.answer(found.outputs.values, run.spec.calibration).class_probability
    assert probability is not None  # the run is a classifier: load_run checked
    auc = measure.auc_per_class(labels, probability)
    curve = measure.reliability(labels, probability)
    metrics = {
        "accuracy": measure.accuracy(labels, probability),
        "macro_auc": float(np.mean(auc)),
        **{f"auc_{name}": float(a) for name, a in zip(run.class_names, auc, strict=True)},
        "cross_entropy": measure.cross_entropy(labels, probability),
        "ece": curve.ece,
    }
    ends = classification_intervals(labels, probability)
    intervals = {
        "accuracy": (ends.accuracy.low, ends.accuracy.high),
        "macro_auc": (ends.macro_auc.low, ends.macro_auc.high),
    }
    for name, interval in zip(run.class_names, ends.auc, strict=True):
        intervals[f"auc_{name}"] = (interval.low, interval.high)
    rates = measure.roc_curves(labels, probability)
    return Evaluation(
        run=run.path,
        checkpoint_sha256=run.sha256,
        dataset_sha256=dataset.sha256,
        same_dataset=dataset.sha256 == run.spec.dataset_sha256,
        split=split,
        n=len(labels),
        class_names=run.class_names,
        metrics=metrics,
        intervals=intervals,
        confusion=measure.confusion(labels, probability),
        reliability=curve,
        roc=tuple(
            RocCurve(name, float(auc[k]), *rates[k]) for k, name in enumerate(run.class_names)
        ),
        novelty_above_95=float(np.mean(run.novelty.quantile(found.description) >= 0.95)),
        curves=tuple(read_rows(run.path)),
    )


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
