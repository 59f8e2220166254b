"""What chooses the next trial and what ends a hopeless one: Optuna's, built for one decision.

A sampler is made anew for every trial, seeded by (seed, number of the trial), and has no state of
its own: what trial k tries depends on the trials before it alone, however many processes there are
and however often they were killed.
"""

from collections.abc import Mapping
from typing import Any

from optuna import Study
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial

from pipeline.core.seeding import RunStream, image_rng
from pipeline.tuning.space import Chosen, Integer, LogUniform, Parameter, SearchSpace, Uniform


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Optuna's name for every parameter."""
    return {key: _distribution(parameter) for key, parameter in space.items().items()}


def _distribution(parameter: Parameter) -> BaseDistribution:
    match parameter:
        case Uniform(low=low, high=high):
            return FloatDistribution(low, high)
        case LogUniform(low=low, high=high):
            return FloatDistribution(low, high, log=True)
        case Integer(low=low, high=high, step=step, log=log):
            return IntDistribution(low, high, log=log, step=step)
        case _:
            return CategoricalDistribution(parameter.grid())


def suggest(trial: Trial, key: str, distribution: BaseDistribution) -> Chosen:
    """Value of a parameter in a trial: the one it has, or a new one."""
    match distribution:
        case FloatDistribution(low=low, high=high, log=log):
            return trial.suggest_float(key, low, high, log=log)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(key, low, high, log=log, step=step)
        case CategoricalDistribution(choices=choices):
            return str(trial.suggest_categorical(key, choices))
    raise TypeError(f"{key}: {distribution}")


def make_sampler(space: SearchSpace, number: int) -> BaseSampler:
    """Sampler of trial ``number``."""
    seed = int(image_rng(space.seed, number, RunStream.SEARCH).integers(2**31))
    match space.sampler:
        case "tpe":
            return TPESampler(seed=seed, n_startup_trials=space.n_startup)
        case "gp":
            return GPSampler(
                seed=seed, n_startup_trials=space.n_startup, warn_independent_sampling=False
            )
        case "grid":
            return _Grid(space.grid_point(number))
        case _:
            return RandomSampler(seed=seed)


class _Grid(BaseSampler):
    """One point of the grid: that of the trial's number, so that no two trials share one."""

    def __init__(self, point: Mapping[str, Chosen]) -> None:
        self._point = point

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Chosen:
        return self._point[param_name]


def make_pruner(space: SearchSpace, epochs: int) -> BasePruner:
    """Pruner of trainings of ``epochs`` epochs, whose steps are finished epochs."""
    match space.pruner:
        case "median":
            return MedianPruner(n_startup_trials=space.n_startup, n_warmup_steps=2)
        case "halving":
            return SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
        case "hyperband":
            return HyperbandPruner(min_resource=1, max_resource=max(epochs, 1), reduction_factor=3)
        case _:
            return NopPruner()
