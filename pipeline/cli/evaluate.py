"""``deeplense evaluate``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipeline.cli.options import Device, Json
from pipeline.cli.output import Result, table


def evaluate(
    run: Path,
    /,
    *,
    data: Annotated[Path, Parameter(help="Dataset with the split to measure on.")],
    split: Annotated[str, Parameter(help="test, val or train.")] = "test",
    device: Device = "auto",
    json: Json = False,
) -> Result:
    """Measure a trained network: accuracy, AUC with 95 % intervals, confusion, calibration.

    Parameters
    ----------
    run
        Run folder that `deeplense train` wrote.
    """
    from pipeline.workflow.steps import evaluate as step

    found = step(run, data, split=split, device=device)
    rows = []
    for name, value in found.metrics.items():
        low, high = found.intervals.get(name, (None, None))
        rows.append((name, f"{value:.4f}", "" if low is None else f"{low:.4f} to {high:.4f}"))
    text = f"{run}: {found.n} {split} images of {data}\n"
    return Result(found.summary(), text + table(("metric", "value", "95 % interval"), rows))
