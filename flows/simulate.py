"""Flow ``simulate``: make a dataset, or complete one."""

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pydantic import NonNegativeInt, PositiveInt
from run_page import config_source, in_checkout, is_transient, show_numbers, show_picture, talk


@task(
    name="simulate dataset",
    task_run_name="simulate {preset} to {out}",
    retries=2,
    retry_delay_seconds=10,
    retry_condition_fn=is_transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def make_dataset(
    preset: str,
    out: Path,
    images: int | None,
    seed: int | None,
    engine: str | None,
    overrides: tuple[str, ...],
    workers: int | None,
) -> dict[str, Any]:  # Any: numbers and texts of the summary
    """Simulate what is missing of the dataset."""
    from dataclasses import asdict

    from pipeline.workflow.steps import simulate as step

    with talk("simulate-progress", f"simulating {out.name}"):
        summary = step(
            preset, out, images=images, seed=seed, engine=engine, overrides=overrides,
            workers=workers,
        )  # fmt: skip
    return asdict(summary)


@task(name="contact sheet", cache_policy=NO_CACHE, persist_result=False)
def draw_contact_sheet(data: Path) -> None:
    """Show images of every class on the run's page."""
    from pipeline.report.contact_sheet import contact_sheet

    show_picture(
        "contact-sheet", contact_sheet(data), f"images of {data.name}, a row for each class"
    )


@flow(name="simulate", persist_result=False)
def simulate(
    preset: str = "demo",
    out: Path = Path("runs/demo/data.zarr"),
    images: PositiveInt | None = None,
    seed: NonNegativeInt | None = None,
    engine: str | None = None,
    set: list[str] | None = None,
    workers: PositiveInt | None = None,
) -> dict[str, Any]:  # Any: numbers and texts of the summary
    """Make a dataset, or complete one that was interrupted.

    Args:
        preset: Name of a preset, or a YAML file (relative to the checkout).
        out: Folder NAME.zarr (relative to the checkout).
        images: Number of images; the preset's if empty.
        seed: Seed of all random numbers; the preset's if empty.
        engine: What renders the images; the preset's if empty.
        set: Changes of the configuration, each "key.key=value".
        workers: Worker processes; one per core if empty.
    """
    data = in_checkout(out)
    summary = make_dataset(
        config_source(preset), data, images, seed, engine, tuple(set or ()), workers
    )
    draw_contact_sheet(data)
    show_numbers("dataset", "Dataset", summary)
    return summary
