"""The chapter about a training run: its curves, its recipe and what was kept."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.checkpoint.spec import CheckpointSpec
from pipeline.models.base import kind_of
from pipeline.report.figures import curves
from pipeline.report.page import Chart, Charts, Section
from pipeline.training.journal import Row, read_rows


def training_section(run: Path, spec: CheckpointSpec) -> Section:
    """Show how a network was trained.

    Parameters
    ----------
    run : Path
        Run folder.
    spec : CheckpointSpec
        Of the checkpoint in it.

    Returns
    -------
    Section
    """
    rows = read_rows(run)
    seconds = float(rows[-1].get("seconds") or 0.0) if rows else 0.0
    lead = (
        f"A {kind_of(spec.model)} network with {spec.n_parameters:,} weights saw "
        f"{spec.n_train:,} training images over {len(rows)} "
        f"epoch{'s' if len(rows) != 1 else ''} ({seconds / 60:.1f} minutes). After each epoch it "
        f"was judged on {spec.n_val:,} validation images; the weights of epoch {spec.epoch}, the "
        "best, were kept."
    )
    return Section("Training", lead, (Charts(_charts(rows, spec.epoch)),) if rows else ())


def _charts(rows: Sequence[Row], best: int) -> tuple[Chart, ...]:
    epoch = _column(rows, "epoch")
    losses = {
        label: (epoch, _column(rows, name))
        for name, label in (("train_loss", "training"), ("val_loss", "validation"))
        if name in rows[-1]
    }
    charts = [
        Chart(
            curves("Loss", "epoch", losses, best=best),
            "The loss that training lowers. Validation images are never trained on: where their "
            "curve turns up while the other falls, the network learns its images by heart.",
        )
    ]
    for name, (title, caption) in _METRICS.items():
        if name in rows[-1]:
            lines = {title: (epoch, _column(rows, name))}
            charts.append(Chart(curves(title, "epoch", lines, best=best), caption))
    return tuple(charts)


#: Column of the journal -> title and caption of its chart.
_METRICS = {
    "val_macro_auc": (
        "Validation macro AUC",
        "How well each class is ranked above the others, averaged over classes: 0.5 is guessing, "
        "1 is perfect.",
    ),
    "val_accuracy": (
        "Validation accuracy",
        "Share of validation images whose most probable class is the true one.",
    ),
    "val_mae_dex": (
        "Validation error (dex)",
        "Mean absolute difference between estimate and truth, in powers of ten.",
    ),
    "val_coverage_90": (
        "Validation coverage of the 90 % interval",
        "Share of truths inside the interval that should hold 90 % of them.",
    ),
}


def _column(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    values = [row.get(name) for row in rows]
    return np.array([np.nan if value is None else float(value) for value in values])
