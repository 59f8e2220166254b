"""Flow ``score``: score images with a trained network, in one piece or in partitions."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import TaskRunner
from pydantic import PositiveInt
from run_page import in_checkout, is_transient, show_files, show_numbers, talk
from runners import Runner, task_runner

from pipeline.checkpoint.spec import find_run


@task(
    name="score files",
    task_run_name="score with {run}",
    retries=2,
    retry_delay_seconds=10,
    retry_condition_fn=is_transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def score_files(
    run: Path, inputs: tuple[Path, ...], out: Path, hdu: str | None, device: str
) -> dict[str, Any]:  # Any: numbers and texts of the summary
    """Write one row an image: scored, or rejected with a reason."""
    from pipeline.workflow.steps import score as step

    with talk("score-progress", f"scoring into {out.name}"):
        summary = step(run, inputs, out, hdu=hdu, device=device)
    return asdict(summary)


def _partition_flow(on: TaskRunner[Any]) -> Callable[..., int]:
    """Return the subflow whose tasks score the partitions.

    A task's context holds its flow, so that is a function of this function: workers of a cluster
    get it by value, and need no checkout.
    """

    def partitions(
        run: Path, inputs: tuple[Path, ...], out: Path, hdu: str | None, device: str, n: int
    ) -> int:
        """Score n parts, one task each."""
        from pipeline.workflow.steps import score_part

        make = task(
            name="score partition", retries=2, retry_delay_seconds=10, cache_policy=NO_CACHE,
            persist_result=False,
        )(score_part)  # fmt: skip
        parts = [make.submit(run, inputs, out, hdu, device, (k, n)) for k in range(1, n + 1)]
        return sum(part.result() for part in parts)

    made = flow(name="score-partitions", task_runner=on, persist_result=False)(partitions)
    return made


@flow(name="score", persist_result=False)
def score(
    run: Path = Path("runs/demo/run"),
    inputs: list[Path] = [Path("runs/demo/fits")],  # noqa: B006 - never changed; shown in the form
    out: Path = Path("runs/demo/scores.ecsv"),
    hdu: str | None = None,
    device: str = "auto",
    partitions: PositiveInt = 1,
    runner: Runner = "local",
    address: str | None = None,
) -> dict[str, Any]:  # Any: as above
    """Score FITS files, folders or globs; each image becomes a row, scored or rejected.

    Args:
        run: Run folder of the network (relative to the checkout), or the name of one that ships.
        inputs: Files, folders, globs, or @FILE with one path a line (relative to the checkout).
        out: Table to write; .ecsv, .fits, .vot, .csv or .parquet (relative to the checkout).
        hdu: HDU (name or number) to take from every file; chosen by name if empty.
        device: auto, cpu, cuda or cuda:N.
        partitions: Parts that are scored apart and put together at the end.
        runner: Where the parts run: local, or on a dask or ray cluster, which must see the files.
        address: Address of a running scheduler; empty starts one on this machine.
    """
    table, folder = in_checkout(out), in_checkout(find_run(run))
    images = tuple(in_checkout(path) for path in inputs)
    if partitions > 1:
        score_all = _partition_flow(task_runner(runner, address))
        score_all(folder, images, table, hdu, device, partitions)
    summary = score_files(folder, images, table, hdu, device)
    show_numbers("scores", "Scores", summary)
    show_files("score-files", {"scores": table})
    return summary
