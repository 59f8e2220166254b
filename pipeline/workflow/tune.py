"""Search a space of training configurations, or go on with a search, and write what was found."""

import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.cores import wait_without_spinning
from pipeline.core.errors import ConfigError, MissingExtraError, TuningError
from pipeline.workflow.steps import settings

if TYPE_CHECKING:
    from pipeline.tuning.result import StudyResult
    from pipeline.tuning.space import Chosen, Recipe
    from pipeline.tuning.study import Study

PAGE_FILE = "study.html"


@dataclass(frozen=True)
class TuneSummary:
    """What a study has come to.

    ``trials`` counts all, of which ``running`` are unfinished: other processes have them, or were
    killed; ``best_trial``, ``best_value``, ``best_parameters``, ``best_run`` and ``best_config``
    are None while no trial is complete.
    """

    out: Path
    metric: str
    trials: int
    complete: int
    pruned: int
    failed: int
    running: int
    wanted: int
    best_trial: int | None
    best_value: float | None
    best_parameters: "dict[str, Chosen] | None"
    best_run: Path | None
    best_config: Path | None
    page: Path
    seconds: float


@dataclass(frozen=True)
class Search:
    """What a study is made from, in words that travel between processes and machines.

    Parameters
    ----------
    config, space : str
        Training preset or YAML file that trials start from; preset of ``sim_params/tuning`` or YAML
        file.
    data : Path
        A complete dataset, or a preset to simulate meanwhile.
    out : Path
        Folder of the study.
    overrides, changes : tuple of str
        ``"key.key=value"`` of the training configuration, and of the space.
    device : str
    """

    config: str
    space: str
    data: Path
    out: Path
    overrides: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    device: str = "auto"

    @property
    def recipe(self) -> "Recipe":
        """The configuration and the space, read and checked."""
        from pipeline.tuning.space import load_recipe

        return load_recipe(self.config, self.space, self.overrides, self.changes)

    def open(self) -> "Study":
        """Open the study, or begin it."""
        wait_without_spinning()
        if find_spec("optuna") is None:
            raise MissingExtraError(
                "a search needs the package optuna: pip install 'deeplense-pipeline[tune]'"
            )
        from pipeline.tuning.worker import open_study

        return open_study(self.recipe, self.data, self.out)


def space_changes(
    trials: int | None, sampler: str | None, pruner: str | None, seed: int | None
) -> tuple[str, ...]:
    """Changes of a search space that flags and parameters ask for."""
    return tuple(settings(trials=trials, sampler=sampler, pruner=pruner, seed=seed))


def tune(search: Search, workers: int = 1) -> TuneSummary:
    """Run the trials of a study that are left, and write its table, best configuration and page.

    Parameters
    ----------
    search : Search
    workers : int
        Processes that run trials at once.

    Raises
    ------
    TuningError
        If workers died and left trials behind.
    """
    start = time.monotonic()
    if workers < 1:
        raise ConfigError(f"--workers must be at least 1, found {workers}")
    study, n_dead = search.open(), 0
    if workers == 1:
        from pipeline.tuning.worker import run_trials

        run_trials(study, search.data, search.device)
    else:
        from pipeline.tuning.workers import run_in_workers

        source = (search.config, search.space, search.overrides, search.changes)
        n_dead = run_in_workers(workers, source, search.data, search.out, search.device)
    found = _summarise(study, search.data, time.monotonic() - start)
    if n_dead and (found.running or found.trials < found.wanted):
        raise TuningError(
            f"{search.out}: {n_dead} of {workers} workers died and left trials behind; the same "
            "command goes on"
        )
    return found


def tune_one(search: Search) -> int:
    """Run the next trial of a study, one task of a cluster; how many there were: 1, or 0."""
    from pipeline.tuning.worker import run_trials

    return run_trials(search.open(), search.data, search.device, at_most=1)


def trials_left(search: Search) -> int:
    """Trials of a study that are not finished, those that have not begun included."""
    from pipeline.tuning.result import study_result

    found = study_result(search.open())
    return found.space.n_trials - len(found.trials) + found.count("running")


def summarise(search: Search) -> TuneSummary:
    """Write table, best configuration and page of a study as it stands."""
    return _summarise(search.open(), search.data, 0.0)


def export_sweep(search: Search, path: Path) -> Path:
    """Write the search as a Weights & Biases sweep file."""
    from pipeline.dataset.open import open_data
    from pipeline.training.targets import monitored_metric
    from pipeline.tuning.sweep import write_sweep

    recipe = search.recipe
    dataset = open_data(search.data, recipe.base.online)
    metric, higher = monitored_metric(recipe.base.task, dataset)
    return write_sweep(
        path, recipe.space, metric=metric, higher_is_better=higher, config=search.config,
        data=str(search.data), out=search.out, overrides=search.overrides, device=search.device,
    )  # fmt: skip


def _summarise(study: "Study", data: Path, seconds: float) -> TuneSummary:
    from pipeline.report.study_page import write_study_page
    from pipeline.tuning.result import study_result, write_best, write_table

    result = study_result(study)
    best_config = write_best(study, result)
    write_table(result)
    page = write_study_page(result, result.out / PAGE_FILE, data=data, best=best_config)
    return _summary(study, result, best_config, page, seconds)


def _summary(
    study: "Study", result: "StudyResult", best_config: Path | None, page: Path, seconds: float
) -> TuneSummary:
    best = result.best
    return TuneSummary(
        out=result.out,
        metric=result.metric,
        trials=len(result.trials),
        complete=result.count("complete"),
        pruned=result.count("pruned"),
        failed=result.count("failed"),
        running=result.count("running"),
        wanted=result.space.n_trials,
        best_trial=None if best is None else best.number,
        best_value=None if best is None else best.value,
        best_parameters=None if best is None else dict(best.chosen),
        best_run=None if best is None else study.run_folder(best.number),
        best_config=best_config,
        page=page,
        seconds=round(seconds, 1),
    )
