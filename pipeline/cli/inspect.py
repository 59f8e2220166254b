"""``deeplense inspect``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipeline.cli.options import Json
from pipeline.cli.output import Result


def inspect(
    data: str,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Page to write (.html).")] = None,
    pixels: Annotated[
        bool, Parameter(help="Read every pixel, to find duplicates and damage.")
    ] = True,
    json: Json = False,
) -> Result:
    """Show what is in a dataset, complete or not: counts, parameters, pictures, duplicates, origin.

    Parameters
    ----------
    data
        Dataset NAME.zarr, or a URL.
    """
    from pipeline.report.inspect_page import inspect_and_report

    found = inspect_and_report(data, out, pixels=pixels)
    return Result(found.to_json(), found.text() + (f"\n{out}" if out is not None else ""))
