"""Run the trials of a study, one after another: each an ordinary training run."""

import gc
import math
import threading
from collections.abc import Callable
from pathlib import Path

from pipeline.core.config import config_sha256
from pipeline.core.errors import CheckpointError, ConfigError, TrainingError
from pipeline.core.logs import get_logger
from pipeline.dataset.online import OnlineData
from pipeline.dataset.open import open_data
from pipeline.training.journal import read_rows
from pipeline.training.run import run_training
from pipeline.training.targets import monitored_metric
from pipeline.tuning.space import Recipe
from pipeline.tuning.study import Claim, Study

logger = get_logger("tune")

#: torch's random numbers are the process's: its threads (those of a Dask worker) take turns.
_TURN = threading.Lock()


class _Pruned(Exception):  # noqa: N818 - no error: a decision
    """Ends a training whose state is saved."""


def open_study(recipe: Recipe, data: Path | str, out: Path) -> Study:
    """Open the study of a recipe and a dataset in a folder, or begin it.

    Raises
    ------
    ConfigError
        If trials would be judged by different metrics.
    TuningError
        If the folder holds a study of something else.
    DatasetError
        If there is no such dataset, or it is not complete.
    """
    dataset = open_data(data, recipe.base.online)
    try:
        metric, higher = monitored_metric(recipe.base.task, dataset)
        tasks = {config_sha256(c.task): c.task for c in recipe.variations()}
        for task in tasks.values():
            other, _ = monitored_metric(task, dataset)
            if other != metric:
                raise ConfigError(
                    f"task: trials would be judged by {metric!r} and by {other!r}, which cannot be "
                    "compared: search one task at a time"
                )
        return Study(out, recipe, dataset.sha256, metric, higher)
    finally:
        if isinstance(dataset, OnlineData):
            dataset.close()


def run_trials(
    study: Study, data: Path | str, device: str = "auto", *, at_most: int | None = None
) -> int:
    """Run trials until none is left to begin.

    Parameters
    ----------
    study : Study
    data : Path or str
        What the study is on.
    device : str
    at_most : int, optional
        Trials to run before returning.

    Returns
    -------
    int
        Trials that this call ran.
    """
    n_done = 0
    while at_most is None or n_done < at_most:
        with _TURN, study.claim() as claim:
            if claim is None:
                break
            try:
                _run_trial(study, claim, data, device)
            except KeyboardInterrupt:
                study.forgive(claim)
                raise
        n_done += 1
        gc.collect()  # networks hold cycles; the next one may need the memory
    return n_done


def _run_trial(study: Study, claim: Claim, data: Path | str, device: str) -> None:
    run = study.run_folder(claim.number)
    said = ", ".join(f"{key} {_short(value)}" for key, value in claim.chosen.items())
    logger.info("trial %d%s: %s", claim.number, " goes on" if claim.resumed else "", said)
    try:
        config = study.recipe.config(claim.chosen)
        watch = _watch(study, claim, config.epochs)
        for epoch, value in _known(run, study.metric):
            study.report(claim, epoch, value)
        for epoch, value in _known(run, study.metric)[-1:]:  # killed before it was decided?
            watch(epoch, value)
        summary = run_training(config, data, run, device, watch=watch)
    except _Pruned:
        study.prune(claim)
        logger.info("trial %d: ended early", claim.number)
    except (ConfigError, TrainingError, CheckpointError) as error:
        study.fail(claim, str(error))
        logger.warning("trial %d failed: %s", claim.number, error)
    else:
        study.finish(claim, summary.best_metric)
        logger.info(
            "trial %d: %s %.4f, %s", claim.number, study.metric, summary.best_metric,
            summary.stopped,
        )  # fmt: skip


def _watch(study: Study, claim: Claim, epochs: int) -> Callable[[int, float], None]:
    def watch(epoch: int, value: float) -> None:
        if not math.isfinite(value):
            return
        study.report(claim, epoch, value)
        if epoch < epochs and claim.trial.should_prune():
            raise _Pruned

    return watch


def _known(run: Path, metric: str) -> list[tuple[int, float]]:
    """Epochs that a killed session trained, and their metric where it is finite."""
    found = [(row["epoch"], row.get(f"val_{metric}")) for row in read_rows(run)]
    return [(int(e), float(value)) for e, value in found if e is not None and value is not None]


def _short(value: float | int | str) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
