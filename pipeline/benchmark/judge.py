"""Judge runs on the same images: answers of each, then one row per model over its seeds."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.checkpoint.load import Run
from pipeline.core.seeding import RunStream, image_rng
from pipeline.dataset.store import Dataset
from pipeline.statistics import metrics as measure
from pipeline.statistics.intervals import N_RESAMPLES, bootstrap_counts, percentile_interval
from pipeline.statistics.metrics import Floats, weighted_auc
from pipeline.statistics.paired import (
    holm,
    macro_auc_influence,
    mcnemar,
    stratified_variance,
    z_test,
)
from pipeline.statistics.regression import MEDIAN, constant_mae, covered
from pipeline.training.evaluate import require_fitting, run_outputs
from pipeline.training.journal import read_rows

Pair = tuple[float, float]
Status = Literal["ok", "chance", "failed"]

#: Images a forward pass takes when its speed is measured, and how often it is measured.
SPEED_BATCH, SPEED_TURNS = 64, 3


@dataclass(frozen=True)
class Row:
    """One model in the table; what was not measured, or does not apply, is None.

    Attributes
    ----------
    status : str
        ``ok``; ``chance`` if its 95 % interval holds guessing; ``failed``. ``reason`` says more.
    seeds : int
        Trainings behind the row; figures are their means.
    *_interval : (low, high)
        95 %, images and seeds resampled.
    *_seed_std : float
        Standard deviation between seeds.
    p_mcnemar, p_delong, p_mae : float
        Of equal accuracy, macro AUC and absolute error with the best model of the table, two-sided,
        corrected for the number of models (Holm); None for the best itself.
    flops : int
        Of one image, forward, a multiply-add counted as two.
    train_seconds : float
        Mean over seeds. ``memory_mb`` is the largest resident memory of the training process.
    """

    model: str
    status: Status
    reason: str = ""
    seeds: int = 0
    macro_auc: float | None = None
    macro_auc_interval: Pair | None = None
    macro_auc_seed_std: float | None = None
    accuracy: float | None = None
    accuracy_interval: Pair | None = None
    ece: float | None = None
    mae_dex: float | None = None
    mae_dex_interval: Pair | None = None
    mae_dex_seed_std: float | None = None
    coverage_68: float | None = None
    coverage_95: float | None = None
    p_mcnemar: float | None = None
    p_delong: float | None = None
    p_mae: float | None = None
    parameters: int | None = None
    flops: int | None = None
    train_seconds: float | None = None
    images_per_second: float | None = None
    memory_mb: float | None = None


@dataclass(frozen=True)
class Answers:
    """What one run says about the split: probabilities (N, K), absolute errors (M,) if any."""

    labels: NDArray[np.int64]
    probability: Floats | None
    error: Floats | None
    inside: tuple[Floats, Floats] | None
    constant: float | None
    seconds: float | None
    images_per_second: float
    parameters: int
    flops: int | None


def answers_of(run: Run, dataset: Dataset, split: str) -> Answers:
    """Ask a run about every image of a split, and measure what it costs.

    Raises
    ------
    DatasetMismatchError
        If the dataset does not fit the run.
    """
    require_fitting(run, dataset)
    outputs = run_outputs(run, dataset, split).outputs
    answer = run.task.answer(outputs.values, run.spec.calibration)
    error = inside = constant = None
    if answer.target_quantile is not None:
        truth = np.stack(
            [t.inverse(t.forward(outputs.targets[:, i])) for i, t in enumerate(run.spec.targets)],
            axis=1,
        )
        known = np.isfinite(truth)
        quantile = answer.target_quantile[known]
        error = np.abs(quantile[:, MEDIAN] - truth[known])
        true = truth[known]
        inside = (
            covered(true, quantile, 68).astype(np.float64),
            covered(true, quantile, 95).astype(np.float64),
        )
        constant = constant_mae(truth[known], run.spec.targets[0].prior)
    rows = read_rows(run.path)
    return Answers(
        labels=outputs.labels,
        probability=answer.class_probability,
        error=error,
        inside=inside,
        constant=constant,
        seconds=float(rows[-1]["seconds"] or 0.0) if rows else None,
        images_per_second=_speed(run),
        parameters=run.spec.n_parameters,
        flops=_flops(run),
    )


def row_of(model: str, answers: Sequence[Answers], memory_mb: Sequence[float | None]) -> Row:
    """One row from the answers of the seeds of a model."""
    first = answers[0]
    seconds = [a.seconds for a in answers if a.seconds is not None]
    memories = [m for m in memory_mb if m is not None]
    row = Row(
        model=model,
        status="ok",
        seeds=len(answers),
        parameters=first.parameters,
        flops=first.flops,
        train_seconds=float(np.mean(seconds)) if seconds else None,
        images_per_second=float(np.median([a.images_per_second for a in answers])),
        memory_mb=max(memories) if memories else None,
    )
    if first.probability is not None:
        row = _with_classes(row, answers)
    if first.error is not None:
        row = _with_errors(row, answers)
    return row


def with_tests(rows: Sequence[Row], answers: dict[str, Sequence[Answers]]) -> list[Row]:
    """Compare every model with the best of its kind of figure, on the same images."""
    judged = list(rows)
    judged = _with_class_tests(judged, answers)
    return _with_error_tests(judged, answers)


def _with_classes(row: Row, answers: Sequence[Answers]) -> Row:
    labels = answers[0].labels
    counts = bootstrap_counts(labels, N_RESAMPLES, image_rng(0, 3, RunStream.BOOTSTRAP))
    auc, right, ece = [], [], []
    for each in answers:
        p = each.probability
        assert p is not None
        auc.append([weighted_auc(labels == k, p[:, k], counts) for k in range(p.shape[1])])
        right.append((p.argmax(axis=1) == labels).astype(float))
        ece.append(measure.reliability(labels, p).ece)
    means = [measure.macro_auc(labels, a.probability) for a in answers if a.probability is not None]
    interval = _over_seeds(np.mean(auc, axis=1))
    accuracy = np.array(right)  # (S, N)
    row = replace(
        row,
        macro_auc=float(np.mean(means)),
        macro_auc_interval=interval,
        macro_auc_seed_std=_seed_std(means),
        accuracy=float(accuracy.mean()),
        accuracy_interval=_over_seeds(accuracy @ counts.T / len(labels)),
        ece=float(np.mean(ece)),
    )
    if interval[0] <= 0.5:
        return replace(row, status="chance", reason="macro AUC not distinguishable from guessing")
    return row


def _with_errors(row: Row, answers: Sequence[Answers]) -> Row:
    errors = np.array([a.error for a in answers])  # (S, M)
    n = errors.shape[1]
    if not n:
        return replace(row, status="failed", reason="no image of the split has the target")
    rng = image_rng(0, 4, RunStream.BOOTSTRAP)
    counts = bootstrap_counts(np.zeros(n, np.int64), N_RESAMPLES, rng)
    interval = _over_seeds(errors @ counts.T / n)
    inside = np.array([a.inside for a in answers])  # (S, 2, M)
    row = replace(
        row,
        mae_dex=float(errors.mean()),
        mae_dex_interval=interval,
        mae_dex_seed_std=_seed_std(errors.mean(axis=1).tolist()),
        coverage_68=float(inside[:, 0].mean()),
        coverage_95=float(inside[:, 1].mean()),
    )
    constant = answers[0].constant
    if row.status == "ok" and constant is not None and interval[1] >= constant:
        reason = f"no better than always saying the median ({constant:.3f})"
        return replace(row, status="chance", reason=reason)
    return row


def _with_class_tests(rows: list[Row], answers: dict[str, Sequence[Answers]]) -> list[Row]:
    judged = [i for i, row in enumerate(rows) if row.macro_auc is not None]
    if len(judged) < 2:
        return rows
    best = max(judged, key=lambda i: rows[i].macro_auc or 0.0)
    others = [i for i in judged if i != best]
    labels = answers[rows[best].model][0].labels
    decisions, influence, spread = {}, {}, {}
    for i in judged:
        of_seeds = [a.probability for a in answers[rows[i].model] if a.probability is not None]
        found = [macro_auc_influence(labels, p) for p in of_seeds]
        values = [auc for auc, _ in found]
        influence[i] = np.mean([psi for _, psi in found], axis=0)
        spread[i] = (_seed_std(values) or 0.0) ** 2 / len(values)
        middle = int(np.argsort(values)[len(values) // 2])
        decisions[i] = of_seeds[middle].argmax(axis=1) == labels
    p_mcnemar = holm([mcnemar(decisions[best], decisions[i]) for i in others])
    p_delong = holm(
        [
            z_test(
                (rows[best].macro_auc or 0.0) - (rows[i].macro_auc or 0.0),
                stratified_variance(labels, influence[best] - influence[i])
                + spread[best]
                + spread[i],
            )
            for i in others
        ]
    )
    for i, first, second in zip(others, p_mcnemar, p_delong, strict=True):
        rows[i] = replace(rows[i], p_mcnemar=first, p_delong=second)
    return rows


def _with_error_tests(rows: list[Row], answers: dict[str, Sequence[Answers]]) -> list[Row]:
    judged = [i for i, row in enumerate(rows) if row.mae_dex is not None]
    if len(judged) < 2:
        return rows
    best = min(judged, key=lambda i: rows[i].mae_dex or math.inf)
    others = [i for i in judged if i != best]
    error, spread = {}, {}
    for i in judged:
        of_seeds = np.array([a.error for a in answers[rows[i].model]])
        error[i] = of_seeds.mean(axis=0)
        spread[i] = (_seed_std(of_seeds.mean(axis=1).tolist()) or 0.0) ** 2 / len(of_seeds)
    p_values = []
    for i in others:
        gap = error[i] - error[best]
        variance = gap.var(ddof=1) / len(gap) if len(gap) > 1 else math.nan
        p_values.append(z_test(float(gap.mean()), float(variance) + spread[best] + spread[i]))
    for i, p in zip(others, holm(p_values), strict=True):
        rows[i] = replace(rows[i], p_mae=p)
    return rows


def _over_seeds(samples: Floats) -> Pair:
    """Interval of the mean over seeds of samples (S, R): each resampling draws seeds too."""
    n_seeds, n = samples.shape
    drawn = image_rng(0, 5, RunStream.BOOTSTRAP).integers(0, n_seeds, (n_seeds, n))
    interval = percentile_interval(np.take_along_axis(samples, drawn, axis=0).mean(axis=0))
    return interval.low, interval.high


def _seed_std(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _speed(run: Run) -> float:
    """Images per second of a forward pass, the fastest of a few."""
    size, channels = run.spec.image_size, run.spec.in_channels
    image = torch.zeros((SPEED_BATCH, channels, size, size))
    run.outputs(image)
    spent = []
    for _ in range(SPEED_TURNS):
        start = time.perf_counter()
        run.outputs(image)  # its result is on the CPU: the device has finished
        spent.append(time.perf_counter() - start)
    return SPEED_BATCH / min(spent)


def _flops(run: Run) -> int | None:
    """Floating-point operations of one image, as torch counts them; None where it sees none."""
    from torch.utils.flop_counter import FlopCounterMode

    size, channels = run.spec.image_size, run.spec.in_channels
    image = torch.zeros((1, channels, size, size), device=run.device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        run.network(image)
    return int(counter.get_total_flops()) or None
