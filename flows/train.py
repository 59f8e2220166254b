"""Flow ``train``: train a network or resume, then evaluate it on the test split."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from run_page import config_source, in_checkout, is_transient, show_files, show_numbers, talk


@task(
    name="train network",
    task_run_name="train {out} on {data}",
    retries=2,
    retry_delay_seconds=10,
    retry_condition_fn=is_transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def train_network(
    config: str,
    data: Path,
    out: Path,
    model: str | None,
    epochs: int | None,
    max_minutes: float | None,
    seed: int | None,
    overrides: tuple[str, ...],
    device: str,
) -> dict[str, Any]:  # Any: numbers and texts of the summary
    """Train, or go on from the last checkpoint."""
    from pipeline.workflow.steps import train as step

    with talk("train-progress", f"training {out.name}"):
        summary = step(
            config, data, out, model=model, epochs=epochs, max_minutes=max_minutes, seed=seed,
            overrides=overrides, device=device,
        )  # fmt: skip
    return asdict(summary)


@task(name="evaluate network", cache_policy=NO_CACHE, persist_result=False)
def evaluate_network(run: Path, data: Path) -> dict[str, Any]:  # Any: as above
    """Measure the network on images it has never seen."""
    from pipeline.workflow.steps import evaluate as step

    return step(run, data).summary()


@flow(name="train", persist_result=False)
def train(
    config: str = "demo",
    data: Path = Path("runs/demo/data.zarr"),
    out: Path = Path("runs/demo/run"),
    model: str | None = None,
    epochs: PositiveInt | None = None,
    max_minutes: PositiveFloat | None = None,
    seed: NonNegativeInt | None = None,
    set: list[str] | None = None,
    device: str = "auto",
) -> dict[str, Any]:  # Any: as above
    """Train a network, or resume; then evaluate it on the dataset's test split.

    Args:
        config: Name of a training preset, or a YAML file (relative to the checkout).
        data: Dataset to train on (relative to the checkout).
        out: Run folder (relative to the checkout).
        model: Kind of network; the configuration's if empty.
        epochs: Passes over the train split; the configuration's if empty.
        max_minutes: Wall time after which training ends; the configuration's if empty.
        seed: Seed of weights and order; the configuration's if empty.
        set: Changes of the configuration, each "key.key=value".
        device: auto, cpu, cuda or cuda:N.
    """
    data, run = in_checkout(data), in_checkout(out)
    trained = train_network(
        config_source(config),
        data,
        run,
        model,
        epochs,
        max_minutes,
        seed,
        tuple(set or ()),
        device,
    )
    metrics = evaluate_network(run, data)
    show_numbers("training", "Training", trained)
    show_numbers("metrics", "Metrics on the test split", metrics)
    show_files("run-files", {"run": run, "model card": run / "MODEL_CARD.md"})
    return metrics
