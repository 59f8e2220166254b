"""``deeplense report``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipeline.cli.options import Json
from pipeline.cli.output import Result


def report(
    subject: Path,
    /,
    *,
    data: Annotated[Path | None, Parameter(help="Dataset to show pictures of.")] = None,
    images: Annotated[Path | None, Parameter(help="The scored folder, for pictures.")] = None,
    out: Annotated[Path | None, Parameter(help="Page to write.")] = None,
    json: Json = False,
) -> Result:
    """Write one self-contained HTML file about a run or a table of scores.

    Parameters
    ----------
    subject
        A run folder, or a table that `deeplense score` wrote.
    """
    from pipeline.workflow.steps import report_on

    path = report_on(subject, data=data, images=images, out=out)
    return Result({"report": path}, str(path))
