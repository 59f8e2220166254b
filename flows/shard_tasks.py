"""Shards as tasks of a Dask or Ray cluster that already exists; each worker writes its own.

What a lost worker leaves is taken over: the scheduler gives its task to another one, and what is
still without a digest when all tasks have ended is submitted again. Digests decide, not the states
of tasks, so nothing is made twice and nothing is missing. The workers need the package, the
dataset's storage and Prefect's server within reach; ``flows/`` itself need not be there.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import TaskRunner
from runners import Runner, task_runner

from pipeline.core.config import dump
from pipeline.core.errors import DeepLenseError, EngineError
from pipeline.core.logs import Advance, get_logger
from pipeline.dataset.budget import Budget
from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.simulate import Maker
from pipeline.dataset.workers import write_shards
from pipeline.dataset.writer import ShardStore

#: Shards of each task.
type Groups = list[list[int]]
#: How often what lost workers left is submitted again.
ROUNDS = 4
#: Tasks at a time when a budget must be looked at between them.
AT_A_TIME = 8

_logger = get_logger("simulate")


def cluster_maker(
    runner: Runner, address: str | None, shards_per_task: int, at_a_time: int | None
) -> Maker:
    """Return what makes shards on a cluster.

    Parameters
    ----------
    runner : str
        ``dask`` or ``ray``.
    address : str or None
        Of the cluster's scheduler; a temporary cluster on this machine if there is none.
    shards_per_task : int
    at_a_time : int or None
        Tasks in flight; all of them by default.
    """
    on = task_runner(runner, address)

    def make(
        config: DatasetConfig,
        store: ShardStore,
        missing: tuple[int, ...],
        advance: Advance,
        budget: Budget,
    ) -> None:
        lost = ""
        for _ in range(ROUNDS):
            lost = _make_once(
                _waves(missing, shards_per_task, at_a_time or _default_wave(budget, missing)),
                _cluster_flow(on), config, store, advance, budget,
            )  # fmt: skip
            missing = store.missing()
            if budget.stopped or not missing:
                return
            _logger.warning("%d shards left by lost workers: taken over (%s)", len(missing), lost)
        raise EngineError(f"{store.path}: workers were lost {ROUNDS} times in a row: {lost}")

    return make


def _make_once(
    waves: Sequence[Groups],
    run: Callable[[str, str, Groups], list[Any]],  # Any: (images, bytes), or what went wrong
    config: DatasetConfig,
    store: ShardStore,
    advance: Advance,
    budget: Budget,
) -> str:
    """Run every group of shards once; return the last fault that is not one of the data."""
    lost, n_bytes = "", 0
    for wave in waves:
        if budget.is_spent(n_bytes * len(wave)):
            break
        for found in run(json.dumps(dump(config)), str(store.path), wave):
            if isinstance(found, DeepLenseError):
                raise found
            if isinstance(found, BaseException):
                lost = (f"{type(found).__name__}: {found}".splitlines() or [""])[0]
                continue
            n_images, n_bytes = found
            advance(n_images)
            budget.count(n_bytes)
    return lost


def _cluster_flow(on: TaskRunner[Any]) -> Callable[[str, str, Groups], list[Any]]:
    """Return the subflow whose tasks run on the cluster.

    A task's context holds its flow, so that is a function of this function: workers get it by
    value, and need no checkout.
    """

    def shards(config: str, place: str, groups: list[list[int]]) -> list[Any]:
        """Make groups of shards, one task each."""
        make = task(name="make shards", cache_policy=NO_CACHE, persist_result=False)(write_shards)
        futures = [make.submit(config, place, group) for group in groups]
        return [future.result(raise_on_failure=False) for future in futures]

    made = flow(name="shards", task_runner=on, persist_result=False)(shards)
    return made


def _waves(missing: tuple[int, ...], shards_per_task: int, at_a_time: int) -> list[Groups]:
    starts = range(0, len(missing), shards_per_task)
    groups = [list(missing[i : i + shards_per_task]) for i in starts]
    return [groups[i : i + at_a_time] for i in range(0, len(groups), at_a_time)]


def _default_wave(budget: Budget, missing: tuple[int, ...]) -> int:
    return len(missing) if budget.max_hours is None and budget.max_gb is None else AT_A_TIME
