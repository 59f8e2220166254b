"""``deeplense audit``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipeline.cli.options import Json
from pipeline.cli.output import EXIT_DONE, EXIT_FAILED, Result


def audit(
    data: Path,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Page of plots to write (.html).")] = None,
    sample: Annotated[
        int | None, Parameter(help="Images to simulate again; 60 by default.")
    ] = None,
    sham: Annotated[
        int, Parameter(help="Images a class to simulate without substructure, as a control.")
    ] = 0,
    json: Json = False,
) -> Result:
    """Check a dataset: digests, structure, a second engine, leaks; exit code 1 if it fails.

    Parameters
    ----------
    data
        Dataset NAME.zarr.
    """
    from pipeline.report.audit_page import audit_and_report

    found = audit_and_report(data, out, n_resimulate=sample, n_sham=sham)
    text = found.text() + (f"\n{out}" if out is not None else "")
    return Result(found.to_json(), text, EXIT_DONE if found.passed else EXIT_FAILED)
