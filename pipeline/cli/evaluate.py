"""``deeplense evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pipeline.cli.options import Device, Json
from pipeline.cli.output import Result, table

if TYPE_CHECKING:
    from pipeline.statistics.regression import Bin
    from pipeline.training.bounds import DetectabilityBin


def evaluate(
    run: Path,
    /,
    *,
    data: Annotated[Path, Parameter(help="Dataset with the split to measure on.")],
    split: Annotated[str, Parameter(help="test, val or train.")] = "test",
    floor: Annotated[
        int, Parameter(help="Lenses to measure the axion mass's information floor from.")
    ] = 0,
    device: Device = "auto",
    json: Json = False,
) -> Result:
    """Measure a trained network: every figure with its 95 % interval, beside floor and ceiling.

    Parameters
    ----------
    run
        Run folder that `deeplense train` wrote.
    """
    from pipeline.workflow.steps import evaluate as step

    found = step(run, data, split=split, device=device, floor_lenses=floor)
    rows = []
    for name, value in found.metrics.items():
        low, high = found.intervals.get(name, (None, None))
        key = name.removeprefix("auc_")
        beside = [f"{d[key]:.4f}" if key in d else "" for d in (found.floor, found.ceiling)]
        interval = "" if low is None else f"{low:.4f} to {high:.4f}"
        rows.append((name, f"{value:.4f}", interval, *beside))
    header = ("metric", "value", "95 % interval", "plain statistics", "ceiling")
    parts = [f"{run}: {found.n} {split} images of {data}", table(header, rows)]
    if found.by_detectability:
        parts.append("Against the smooth class, by how much substructure stands out (d'):")
        parts.append(table(_BINS, [_bin_row(line) for line in found.by_detectability]))
    if found.mass_floor is not None:
        least = found.mass_floor
        parts.append(
            f"No method measures the axion mass with a mean absolute error below {least.mae:.3f} "
            f"+- {least.error:.3f} dex (information floor of {least.n} lenses)."
        )
    for target in found.targets:
        parts.append(f"{target.name}, by true value ({target.function} of {target.unit}):")
        parts.append(table(_VALUES, [_value_row(line) for line in target.bins]))
        said = ", ".join(f"{n} {what.replace('_', ' ')}" for what, n in target.readings.items())
        held = "" if target.limits_hold is None else f"; {target.limits_hold:.1%} of limits hold"
        parts.append(f"said: {said}{held}")
    return Result(found.summary(), "\n\n".join(parts))


_BINS = ("class", "d' from", "to", "images", "AUC", "95 % interval", "ceiling", "recall")
_VALUES = ("from", "to", "images", "MAE", "95 % interval", "in 68 %", "in 95 %")


def _bin_row(line: "DetectabilityBin") -> tuple[str, ...]:
    ends = f"{line.auc_interval.low:.3f} to {line.auc_interval.high:.3f}"
    numbers = (f"{line.auc:.3f}", ends, f"{line.ceiling:.3f}", f"{line.recall:.2f}")
    return (line.class_name, f"{line.low:g}", f"{line.high:g}", str(line.n), *numbers)


def _value_row(line: "Bin") -> tuple[str, ...]:
    ends = f"{line.mae_interval.low:.3f} to {line.mae_interval.high:.3f}"
    numbers = (f"{line.mae:.3f}", ends, f"{line.coverage_68:.2f}", f"{line.coverage_95:.2f}")
    return (f"{line.low:.2f}", f"{line.high:.2f}", str(line.n), *numbers)
