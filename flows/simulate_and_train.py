"""Flow ``simulate-and-train``: the whole chain, from a preset to a report."""

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from run_page import config_source, in_checkout, show_files, show_numbers
from score import score_files
from simulate import draw_contact_sheet, make_dataset
from train import evaluate_network, train_network


@task(name="sample images", cache_policy=NO_CACHE, persist_result=False)
def make_sample_images(data: Path, folder: Path) -> None:
    """Write FITS files to score: lenses nobody trained on, and files with faults."""
    from pipeline.workflow.steps import sample_images as step

    step(data, folder)


@task(name="report", cache_policy=NO_CACHE, persist_result=False)
def write_report(run: Path, data: Path, scores: Path, images: Path, out: Path) -> None:
    """Write the report, one HTML file."""
    from pipeline.workflow.steps import report as step

    step(out, run=run, data=data, scores=scores, images=images)


@flow(name="simulate-and-train", persist_result=False)
def simulate_and_train(
    preset: str = "demo",
    config: str = "demo",
    out: Path = Path("runs/demo"),
    images: PositiveInt | None = None,
    seed: NonNegativeInt | None = None,
    epochs: PositiveInt | None = None,
    max_minutes: PositiveFloat | None = None,
    workers: PositiveInt | None = None,
    device: str = "auto",
) -> dict[str, Any]:  # Any: numbers and texts of the summaries
    """Simulate a dataset, train and evaluate a network, score sample images, write a report.

    Started again after a crash or a cancellation, it goes on from what is on disk.

    Args:
        preset: Dataset preset, or a YAML file (relative to the checkout).
        config: Training preset, or a YAML file (relative to the checkout).
        out: Folder of everything that is made (relative to the checkout).
        images: Number of images; the preset's if empty.
        seed: Seed of the dataset; the preset's if empty.
        epochs: Passes over the train split; the configuration's if empty.
        max_minutes: Wall time after which training ends; the configuration's if empty.
        workers: Worker processes of the simulation; one per core if empty.
        device: auto, cpu, cuda or cuda:N.
    """
    folder = in_checkout(out)
    data, run, fits = folder / "data.zarr", folder / "run", folder / "fits"
    scores, report = folder / "scores.ecsv", folder / "report.html"
    dataset = make_dataset(config_source(preset), data, images, seed, None, (), workers)
    draw_contact_sheet(data)
    show_numbers("dataset", "Dataset", dataset)
    train_network(config_source(config), data, run, None, epochs, max_minutes, None, (), device)
    metrics = evaluate_network(run, data)
    show_numbers("metrics", "Metrics on the test split", metrics)
    make_sample_images(data, fits)
    table = score_files(run, (fits,), scores, None, device)
    show_numbers("scores", "Scores", table)
    write_report(run, data, scores, fits, report)
    show_files("files", {"report": report, "scores": scores, "run": run, "dataset": data})
    return {**metrics, "scored": table["scored"], "rejected": table["rejected"]}
