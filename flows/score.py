"""Flow ``score``: score FITS files with a trained network."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from run_page import in_checkout, is_transient, show_files, show_numbers, talk


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
    """Write one row a file: scored, or rejected with a reason."""
    from pipeline.workflow.steps import score as step

    with talk("score-progress", f"scoring into {out.name}"):
        summary = step(run, inputs, out, hdu=hdu, device=device)
    return asdict(summary)


@flow(name="score", persist_result=False)
def score(
    run: Path = Path("runs/demo/run"),
    inputs: list[Path] = [Path("runs/demo/fits")],  # noqa: B006 - never changed; shown in the form
    out: Path = Path("runs/demo/scores.ecsv"),
    hdu: str | None = None,
    device: str = "auto",
) -> dict[str, Any]:  # Any: as above
    """Score FITS files, folders or globs; each file becomes a row, scored or rejected.

    Args:
        run: Run folder of the network (relative to the checkout).
        inputs: Files, folders, globs, or @FILE with one path a line (relative to the checkout).
        out: Table to write; .ecsv, .fits, .csv or .parquet (relative to the checkout).
        hdu: HDU (name or number) to take from every file; chosen by name if empty.
        device: auto, cpu, cuda or cuda:N.
    """
    table = in_checkout(out)
    summary = score_files(
        in_checkout(run), tuple(in_checkout(path) for path in inputs), table, hdu, device
    )
    show_numbers("scores", "Scores", summary)
    show_files("score-files", {"scores": table})
    return summary
