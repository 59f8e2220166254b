"""``deeplense score``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipeline.cli.options import Device, Json
from pipeline.cli.output import EXIT_DONE, EXIT_REJECTED, Result


def score(
    run: Path,
    /,
    *inputs: Path,
    out: Annotated[Path, Parameter(help="Table: .ecsv, .fits, .csv or .parquet.")],
    hdu: Annotated[str | None, Parameter(help="HDU (name or number) to take instead.")] = None,
    strict: Annotated[
        bool, Parameter(negative="", help="Exit with code 3 if a file was rejected.")
    ] = False,
    device: Device = "auto",
    json: Json = False,
) -> Result:
    """Score FITS files with a trained network: one row a file, scored or rejected with a reason.

    Parameters
    ----------
    run
        Run folder that `deeplense train` wrote.
    inputs
        Files, folders (searched recursively), globs, or @FILE with one path a line.
    """
    from pipeline.workflow.steps import score as step

    summary = step(run, inputs, out, hdu=hdu, device=device)
    reasons = ", ".join(f"{n} {reason}" for reason, n in summary.reasons.items())
    text = (
        f"{summary.out}: {summary.scored} scored, {summary.rejected} rejected"
        + (f" ({reasons})" if reasons else "")
        + f", {summary.seconds:.1f} s ({summary.files_per_second:.0f} files/s)"
    )
    code = EXIT_REJECTED if strict and summary.rejected else EXIT_DONE
    return Result(summary, text, code)
