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
    data: Annotated[Path, Parameter(help="Dataset to train on.")],
    out: Annotated[Path, Parameter(help="Run folder to write, or to go on with.")],
    model: Annotated[str | None, Parameter(help="Kind of network (see: deeplense models).")] = None,
    epochs: Annotated[int | None, Parameter(help="Passes over the training images.")] = None,
    max_minutes: Annotated[float | None, Parameter(help="Wall time to end after.")] = None,
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
        config, data, out, model=model, epochs=epochs, max_minutes=max_minutes, seed=seed,
        overrides=set_, device=device,
    )  # fmt: skip
    text = (
        f"{summary.run}: {summary.epochs} epochs in {summary.seconds:.0f} s ({summary.stopped}); "
        f"best validation {summary.metric} {summary.best_metric:.4f}\n"
        f"next: deeplense evaluate {summary.run} --data {data}"
    )
    return Result(summary, text)
