"""``deeplense train``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipeline.cli.options import Device, Json, Overrides
from pipeline.cli.output import Result


def train(
    config: str = "demo",
    /,
    *,
    data: Annotated[
        Path, Parameter(help="Dataset to train on, or a preset to simulate meanwhile.")
    ],
    out: Annotated[Path, Parameter(help="Run folder to write, or to go on with.")],
    model: Annotated[str | None, Parameter(help="Kind of network (see: deeplense models).")] = None,
    epochs: Annotated[int | None, Parameter(help="Passes over the training images.")] = None,
    max_minutes: Annotated[float | None, Parameter(help="Wall time to end after.")] = None,
    task: Annotated[
        str | None,
        Parameter(help="classification, regression, joint, anomaly, adaptation; or your own."),
    ] = None,
    batch_size: Annotated[int | None, Parameter(help="Images behind one gradient.")] = None,
    learning_rate: Annotated[float | None, Parameter(help="Peak of the schedule.")] = None,
    logger: Annotated[
        tuple[str, ...] | None,
        Parameter(negative="", help="tensorboard, mlflow or wandb; may be repeated."),
    ] = None,
    devices: Annotated[
        int, Parameter(help="Processes that share every batch: a GPU each, or CPU cores.")
    ] = 1,
    seed: Annotated[int | None, Parameter(help="Seed of weights and order.")] = None,
    set_: Overrides = (),
    device: Device = "auto",
    json: Json = False,
) -> Result:
    """Train a network on a dataset, or go on with an interrupted run.

    Parameters
    ----------
    config
        Name of a training preset, or a YAML file.
    """
    from pipeline.workflow.steps import train as step

    summary = step(
        config, data, out, model=model, task=task, epochs=epochs, max_minutes=max_minutes,
        seed=seed, batch_size=batch_size, learning_rate=learning_rate, loggers=logger,
        overrides=set_, device=device, devices=devices,
    )  # fmt: skip
    text = (
        f"{summary.run}: {summary.epochs} epochs in {summary.seconds:.0f} s ({summary.stopped}); "
        f"best validation {summary.metric} {summary.best_metric:.4f}\n"
        f"next: {evaluation_of(summary.run, data)}"
    )
    return Result(summary, text)


def evaluation_of(run: Path, data: Path) -> str:
    """Command lines that judge a run on images it has not seen.

    A stream of simulated images is no dataset: its held-out images are the test split of any
    dataset of the same preset.
    """
    from pipeline.dataset.open import is_stream

    if not is_stream(data):
        return f"deeplense evaluate {run} --data {data}"
    return (
        f"deeplense simulate {data} --images 20000 --out held-out.zarr\n"
        f"      deeplense evaluate {run} --data held-out.zarr"
    )
