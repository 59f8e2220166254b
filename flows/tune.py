"""Flow ``tune``: search for a training configuration, or go on with a search."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import TaskRunner
from pydantic import NonNegativeInt, PositiveInt
from run_page import config_source, in_checkout, is_transient, show_files, show_numbers, talk
from runners import Runner, task_runner

from pipeline.workflow.tune import Search, space_changes, summarise, trials_left, tune_one
from pipeline.workflow.tune import tune as step

#: How often what lost workers left is submitted again.
ROUNDS = 4


@task(
    name="run trials",
    task_run_name="trials of {search.out}",
    retries=2,
    retry_delay_seconds=10,
    retry_condition_fn=is_transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def run_trials(search: Search, workers: int) -> dict[str, Any]:  # Any: values of the summary
    """Run the trials that are left on this machine."""
    with talk("tune-progress", f"search in {search.out.name}"):
        return asdict(step(search, workers))


def _trial_flow(on: TaskRunner[Any]) -> Callable[[Search, int], int]:
    """Return the subflow whose tasks are trials.

    A task's context holds its flow, so that is a function of this function: workers of a cluster
    get it by value, and need no checkout.
    """

    def trials(search: Search, n: int) -> int:
        """Run n trials, one task each; how many a lost worker did not take with it."""
        run = task(name="run trial", cache_policy=NO_CACHE, persist_result=False)(tune_one)
        futures = [run.submit(search) for _ in range(n)]
        found = [future.result(raise_on_failure=False) for future in futures]
        return sum(value for value in found if isinstance(value, int))

    made = flow(name="trials", task_runner=on, persist_result=False)(trials)
    return made


@flow(name="tune", persist_result=False)
def tune(
    config: str = "demo",
    space: str = "recipe",
    data: Path = Path("runs/demo/data.zarr"),
    out: Path = Path("runs/demo/study"),
    trials: PositiveInt | None = None,
    sampler: Literal["tpe", "gp", "grid", "random"] | None = None,
    pruner: Literal["median", "halving", "hyperband", "none"] | None = None,
    seed: NonNegativeInt | None = None,
    workers: PositiveInt = 1,
    set: list[str] | None = None,
    device: str = "auto",
    runner: Runner = "local",
    address: str | None = None,
) -> dict[str, Any]:  # Any: as above
    """Search for a training configuration, or go on with a search.

    Args:
        config: Training preset, or a YAML file (relative to the checkout), that trials start from.
        space: Preset of sim_params/tuning, or a YAML file (relative to the checkout).
        data: Dataset to train on (relative to the checkout).
        out: Folder of the study (relative to the checkout).
        trials: Trials of the whole study; the space's if empty.
        sampler: What chooses the next trial; the space's if empty.
        pruner: What ends trials that fall behind; the space's if empty.
        seed: Seed of the sampler; the space's if empty.
        workers: Processes that run trials at once; a cluster runs as many as it has workers.
        set: Changes of the training configuration, each "key.key=value".
        device: auto, cpu, cuda or cuda:N.
        runner: Where trials run: local, or on a dask or ray cluster, which must see the files.
        address: Address of a running scheduler; empty starts one on this machine.
    """
    search = Search(
        config_source(config), config_source(space), in_checkout(data), in_checkout(out),
        tuple(set or ()), space_changes(trials, sampler, pruner, seed), device,
    )  # fmt: skip
    if runner == "local":
        found = run_trials(search, workers)
    else:
        run = _trial_flow(task_runner(runner, address))
        for _ in range(ROUNDS):
            left = trials_left(search)
            if left:
                run(search, left)
        found = asdict(summarise(search))
    show_numbers("search", "Search", found)
    show_files("search-files", {"page": found["page"], "study": search.out})
    return found
