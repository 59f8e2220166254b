"""What a study has come to, as plain values, and the files that say so."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from pipeline.checkpoint.yaml_text import yaml_text
from pipeline.core.files import atomic_write
from pipeline.core.provenance import canonical_json
from pipeline.tuning.space import Choice, Chosen, Integer, LogUniform, SearchSpace
from pipeline.tuning.study import Study

BEST_FILE, TABLE_FILE = "best.yaml", "trials.csv"

type State = Literal["complete", "pruned", "failed", "running"]
_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
}


@dataclass(frozen=True)
class Trial:
    """One trial.

    Parameters
    ----------
    number : int
    state : str
        ``running`` is also what was interrupted.
    value : float or None
        Best value of the metric; of a pruned trial, its last one.
    chosen : mapping
        Values by key; of a choice, its label.
    by_epoch : mapping of int to float
        Metric after each finished epoch.
    seconds : float or None
        From its beginning to its end, interruptions included.
    reason : str
        Why it failed.
    """

    number: int
    state: State
    value: float | None
    chosen: Mapping[str, Chosen]
    by_epoch: Mapping[int, float]
    seconds: float | None
    reason: str = ""


@dataclass(frozen=True)
class Axis:
    """How a parameter is drawn: its labels if it is a choice, else the ends of its range."""

    key: str
    labels: tuple[str, ...]
    low: float = 0.0
    high: float = 0.0
    log: bool = False


@dataclass(frozen=True)
class StudyResult:
    """A study as it stands.

    Parameters
    ----------
    trials : tuple of Trial
        By number.
    axes : tuple of Axis
    importances : mapping of str to float
        Share of the metric's variance over the space that a parameter explains (functional
        analysis of variance, Hutter et al. 2014); empty where there are too few trials.
    best : Trial or None
        Of the complete ones.
    """

    out: Path
    space: SearchSpace
    metric: str
    higher_is_better: bool
    dataset_sha256: str
    config_sha256: str
    trials: tuple[Trial, ...]
    axes: tuple[Axis, ...]
    importances: Mapping[str, float]
    best: Trial | None

    def count(self, state: State) -> int:
        """Trials in a state."""
        return sum(trial.state == state for trial in self.trials)

    @property
    def done(self) -> tuple[Trial, ...]:
        """Complete trials, best first."""
        sign = -1.0 if self.higher_is_better else 1.0
        complete = [t for t in self.trials if t.state == "complete"]
        return tuple(sorted(complete, key=lambda t: (sign * (t.value or 0.0), t.number)))


def study_result(study: Study) -> StudyResult:
    """Read a study as it stands."""
    trials = tuple(_trial(found) for found in study.trials())
    identity = study.native.user_attrs["identity"]
    result = StudyResult(
        out=study.out,
        space=study.recipe.space,
        metric=study.metric,
        higher_is_better=study.higher_is_better,
        dataset_sha256=identity["dataset_sha256"],
        config_sha256=identity["config_sha256"],
        trials=trials,
        axes=tuple(_axis(study.recipe.space, key) for key in study.recipe.space.parameters),
        importances=_importances(study, trials),
        best=None,
    )
    return StudyResult(**{**vars(result), "best": (result.done or (None,))[0]})


def write_best(study: Study, result: StudyResult) -> Path | None:
    """Write the best configuration as ``deeplense train`` takes it; None if there is none yet."""
    if result.best is None:
        return None
    head = (
        f"# Trial {result.best.number} of {len(result.trials)}: best validation {result.metric} "
        f"{result.best.value:.6g}\n# on dataset {result.dataset_sha256}\n"
    )
    path = result.out / BEST_FILE
    atomic_write(path, head + yaml_text(study.recipe.config(result.best.chosen)))
    return path


def write_table(result: StudyResult) -> Path:
    """Write one row a trial."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = [axis.key for axis in result.axes]
    writer.writerow(["trial", "state", result.metric, "epochs", "seconds", "reason", *keys])
    for t in result.trials:
        seconds = "" if t.seconds is None else round(t.seconds, 1)
        row = [t.number, t.state, "" if t.value is None else t.value, len(t.by_epoch), seconds]
        writer.writerow([*row, t.reason, *(t.chosen.get(key, "") for key in keys)])
    path = result.out / TABLE_FILE
    atomic_write(path, text.getvalue())
    return path


def _trial(found: FrozenTrial) -> Trial:
    duration = found.duration
    return Trial(
        number=found.number,
        state=_STATES[found.state],
        value=found.value,
        chosen=dict(found.params),
        by_epoch=dict(found.intermediate_values),
        seconds=None if duration is None else duration.total_seconds(),
        reason=found.user_attrs.get("reason", ""),
    )


def _axis(space: SearchSpace, key: str) -> Axis:
    parameter = space.items()[key]
    if isinstance(parameter, Choice):
        return Axis(key, tuple(map(str, parameter.grid())))
    log = parameter.log if isinstance(parameter, Integer) else isinstance(parameter, LogUniform)
    return Axis(key, (), float(parameter.low), float(parameter.high), log)


def _importances(study: Study, trials: tuple[Trial, ...]) -> dict[str, float]:
    """Importances by parameter, largest first."""
    values = {t.value for t in trials if t.state == "complete"}
    varied = {
        key
        for key in study.recipe.space.parameters
        if len({canonical_json(t.chosen[key]) for t in trials if t.state == "complete"}) > 1
    }
    if len(values) < 2 or not varied:
        return {}
    evaluator = FanovaImportanceEvaluator(seed=study.recipe.space.seed)
    found = get_param_importances(study.native, evaluator=evaluator)
    return {key: float(share) for key, share in found.items()}
