"""A study on disk: which trials there are, whose turn it is, and what they came to.

A folder holds one study of one space, configuration and dataset. A trial belongs to the process
that holds its lock; one that is unfinished while nobody holds its lock was killed, and the next
worker goes on with it before it begins another.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from pipeline.checkpoint.yaml_text import yaml_text
from pipeline.core.errors import OutputError, TuningError
from pipeline.core.files import atomic_write, require_writable_parent
from pipeline.training.folder import differences
from pipeline.training.state import state_path
from pipeline.tuning.journal import (
    JOURNAL_FILE,
    LOCK_FOLDER,
    drop_lock,
    open_storage,
    take_lock,
    waiting_lock,
)
from pipeline.tuning.samplers import distributions, make_pruner, make_sampler, suggest
from pipeline.tuning.space import Chosen, Recipe

FORMAT, FORMAT_VERSION = "deeplense-study", 1
SPACE_FILE, CONFIG_FILE, TRIALS_FOLDER = "space.yaml", "config.yaml", "trials"
#: Name of the one study in a journal.
NAME = "study"
#: Sessions that may die on one trial without getting any further, before it counts as failed.
MAX_DEATHS = 3

# One study, one voice: ours.
optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Claim:
    """A trial that this process may run: its number, its values, whether another began it."""

    number: int
    chosen: dict[str, Chosen]
    resumed: bool
    trial: optuna.Trial


class Study:
    """The study in a folder, begun if there is none.

    Parameters
    ----------
    out : Path
    recipe : Recipe
    dataset_sha256 : str
    metric : str
        Validation metric that is searched for.
    higher_is_better : bool

    Raises
    ------
    TuningError
        If the folder holds a study of something else, or other things.
    OutputError
        If it cannot be written.
    """

    def __init__(
        self, out: Path, recipe: Recipe, dataset_sha256: str, metric: str, higher_is_better: bool
    ) -> None:
        self.out = out
        self.recipe = recipe
        self.metric = metric
        self.higher_is_better = higher_is_better
        self._dataset_sha256 = dataset_sha256
        _require_study_folder(out)
        require_writable_parent(out / JOURNAL_FILE)
        self._pruner = make_pruner(recipe.space, recipe.base.epochs)
        with waiting_lock(out, "study"):
            self._storage = open_storage(out)
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=NAME,
                direction="maximize" if higher_is_better else "minimize",
                pruner=self._pruner,
                load_if_exists=True,
            )
            self._begin_or_refuse()

    @property
    def native(self) -> optuna.Study:
        """The study as Optuna's own tools take it."""
        return self._study

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self._study.get_trials(deepcopy=False)

    def run_folder(self, number: int) -> Path:
        """Run folder of a trial."""
        return self.out / TRIALS_FOLDER / _name(number)

    @contextmanager
    def claim(self) -> Iterator[Claim | None]:
        """Yield the next trial to run, locked meanwhile; None if nothing is left to begin."""
        with waiting_lock(self.out, "study"):
            found, lock = self._abandoned() or self._new() or (None, None)
        try:
            yield found
        finally:
            if lock is not None:
                drop_lock(lock)

    def report(self, claim: Claim, epoch: int, value: float) -> None:
        """Record a trial's metric after an epoch, once."""
        if epoch not in self.trials()[claim.number].intermediate_values:
            claim.trial.report(value, epoch)

    def finish(self, claim: Claim, value: float) -> None:
        """Record what a trial came to."""
        self._study.tell(claim.number, value)

    def prune(self, claim: Claim) -> None:
        """Record that a trial was ended early; its last value stands for it."""
        self._study.tell(claim.number, state=TrialState.PRUNED)

    def fail(self, claim: Claim, reason: str) -> None:
        """Record that a trial cannot be trained, and why."""
        claim.trial.set_user_attr("reason", reason)
        self._study.tell(claim.number, state=TrialState.FAIL)

    def forgive(self, claim: Claim) -> None:
        """Forget the deaths of a trial that is interrupted because somebody wanted it so."""
        claim.trial.set_user_attr("taken_over", {})

    def _begin_or_refuse(self) -> None:
        here = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "space_sha256": self.recipe.space.sha256,
            "config_sha256": self.recipe.base.sha256,
            "dataset_sha256": self._dataset_sha256,
            "metric": self.metric,
        }
        there = self._study.user_attrs.get("identity")
        if there is None:
            for name, model in ((SPACE_FILE, self.recipe.space), (CONFIG_FILE, self.recipe.base)):
                atomic_write(self.out / name, yaml_text(model))
            self._study.set_user_attr("identity", here)
        elif there != here:
            raise TuningError(f"{self.out}: {self._refusal(here, there)}; choose another folder")

    def _refusal(self, here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
        """Say what differs between two identities."""
        if there.get("format_version") != FORMAT_VERSION:
            found = there.get("format_version")
            return f"holds a study of version {found}; this release reads {FORMAT_VERSION}"
        if here["space_sha256"] != there["space_sha256"]:
            found = differences(self.out / SPACE_FILE, self.recipe.space, "parameters.")
            return f"holds a study of another search space{found}"
        if here["config_sha256"] != there["config_sha256"]:
            found = differences(self.out / CONFIG_FILE, self.recipe.base)
            return f"holds a study of another configuration{found}"
        return (
            f"holds a study on another dataset ({there['dataset_sha256'][:12]}, here "
            f"{here['dataset_sha256'][:12]})"
        )

    def _abandoned(self) -> tuple[Claim, int] | None:
        """Take over the first unfinished trial whose process is gone."""
        for trial in self.trials():
            if trial.state != TrialState.RUNNING:
                continue
            lock = take_lock(self.out, _name(trial.number))
            if lock is None:
                continue
            # Its owner may have finished it and gone since it was looked at.
            if self.trials()[trial.number].state == TrialState.RUNNING:
                claim = self._take_over(trial)
                if claim is not None:
                    return claim, lock
            drop_lock(lock)
        return None

    def _take_over(self, found: FrozenTrial) -> Claim | None:
        """Go on with a trial, unless too many sessions died on it and left it where it was."""
        trial = optuna.Trial(self._sampling(found.number), found._trial_id)
        claim = Claim(found.number, self._values(trial), resumed=True, trial=trial)
        state = state_path(self.run_folder(found.number))
        stamp = state.stat().st_mtime_ns if state.is_file() else 0
        before = found.user_attrs.get("taken_over", {})
        deaths = before.get("deaths", 0) + 1 if before.get("stamp") == stamp else 1
        if deaths > MAX_DEATHS:
            self.fail(claim, f"its process died {deaths} times at the same place")
            return None
        trial.set_user_attr("taken_over", {"stamp": stamp, "deaths": deaths})
        return claim

    def _new(self) -> tuple[Claim, int] | None:
        number = len(self.trials())
        if number >= self.recipe.space.n_trials:
            return None
        lock = take_lock(self.out, _name(number))
        assert lock is not None, "trials are begun one at a time"
        trial = self._sampling(number).ask()
        return Claim(number, self._values(trial), resumed=False, trial=trial), lock

    def _sampling(self, number: int) -> optuna.Study:
        """Return the study as the sampler of one trial sees it."""
        sampler = make_sampler(self.recipe.space, number)
        return optuna.load_study(
            study_name=NAME, storage=self._storage, sampler=sampler, pruner=self._pruner
        )

    def _values(self, trial: optuna.Trial) -> dict[str, Chosen]:
        """Values of a trial; those that it has not got yet are chosen."""
        space = distributions(self.recipe.space)
        return {key: suggest(trial, key, distribution) for key, distribution in space.items()}


def _name(number: int) -> str:
    return f"{number:04d}"


def _require_study_folder(out: Path) -> None:
    """Refuse a folder that holds other things."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: a file lies there; a study needs a folder")
    if not out.is_dir() or (out / JOURNAL_FILE).is_file():
        return
    strange = sorted(p.name for p in out.iterdir() if p.name != LOCK_FOLDER)
    if strange:
        raise TuningError(
            f"{out}: not empty and no study (found {', '.join(strange[:3])}); choose another folder"
        )
