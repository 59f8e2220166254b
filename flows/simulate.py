"""Flow ``simulate``: make a dataset, or complete one."""

from pathlib import Path
from typing import Any, Literal

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from run_page import config_source, in_checkout, is_transient, show_numbers, show_picture, talk

from pipeline.dataset.place import Url, locate


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
    out: str | Path,
    images: int | None,
    seed: int | None,
    engine: str | None,
    overrides: tuple[str, ...],
    workers: int | None,
    max_hours: float | None = None,
    max_gb: float | None = None,
) -> dict[str, Any]:  # Any: numbers and texts of the summary
    """Simulate what is missing of the dataset."""
    from dataclasses import asdict

    from pipeline.workflow.steps import simulate as step

    with talk("simulate-progress", f"simulating {locate(out).name}"):
        summary = step(
            preset, out, images=images, seed=seed, engine=engine, overrides=overrides,
            workers=workers, max_hours=max_hours, max_gb=max_gb,
        )  # fmt: skip
    return asdict(summary)


def make_on_cluster(
    runner: Literal["dask", "ray"],
    address: str | None,
    shards_per_task: int,
    preset: str,
    out: str | Path,
    images: int | None,
    seed: int | None,
    engine: str | None,
    overrides: tuple[str, ...],
    workers: int | None,
    max_hours: float | None,
    max_gb: float | None,
) -> dict[str, Any]:  # Any: as above
    """Simulate what is missing of the dataset, each shard on some worker of a cluster."""
    from dataclasses import asdict

    from shard_tasks import cluster_maker

    from pipeline.workflow.steps import simulate as step

    with talk("simulate-progress", f"simulating {locate(out).name}"):
        summary = step(
            preset, out, images=images, seed=seed, engine=engine, overrides=overrides,
            workers=workers, max_hours=max_hours, max_gb=max_gb,
            maker=cluster_maker(runner, address, shards_per_task, workers),
        )  # fmt: skip
    return asdict(summary)


@task(name="contact sheet", cache_policy=NO_CACHE, persist_result=False)
def draw_contact_sheet(data: str | Path) -> None:
    """Show images of every class on the run's page."""
    from pipeline.report.contact_sheet import contact_sheet

    show_picture(
        "contact-sheet", contact_sheet(data), f"images of {locate(data).name}, a row for each class"
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
    max_hours: PositiveFloat | None = None,
    max_gb: PositiveFloat | None = None,
    runner: Literal["local", "dask", "ray"] = "local",
    address: str | None = None,
    shards_per_task: PositiveInt = 1,
) -> dict[str, Any]:  # Any: numbers and texts of the summary
    """Make a dataset, or complete one that was interrupted.

    Args:
        preset: Name of a preset, or a YAML file (relative to the checkout).
        out: Folder NAME.zarr (relative to the checkout), or a URL such as s3://bucket/NAME.zarr.
        images: Number of images; the preset's if empty.
        seed: Seed of all random numbers; the preset's if empty.
        engine: What renders the images; the preset's if empty.
        set: Changes of the configuration, each "key.key=value".
        workers: Worker processes, one per core if empty; on a cluster tasks at a time.
        max_hours: Begin no shard after this many hours.
        max_gb: Begin no shard that would make the dataset larger.
        runner: local (processes of this machine), dask or ray.
        address: Scheduler of a Dask or Ray cluster; a temporary one on this machine if empty.
        shards_per_task: Shards that a worker of the cluster makes in one task.
    """
    data = _dataset_place(out)
    asked = (config_source(preset), data, images, seed, engine, tuple(set or ()), workers)
    if runner == "local":
        summary = make_dataset(*asked, max_hours, max_gb)
    else:
        summary = make_on_cluster(runner, address, shards_per_task, *asked, max_hours, max_gb)
    if summary["complete"]:
        draw_contact_sheet(data)
    show_numbers("dataset", "Dataset", summary)
    return summary


def _dataset_place(out: Path) -> str | Path:
    """A URL as it is, a path resolved against the checkout."""
    place = locate(out)
    return str(place) if isinstance(place, Url) else in_checkout(place)
