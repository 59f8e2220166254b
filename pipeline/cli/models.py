"""``deeplense models``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipeline.cli.options import Json
from pipeline.cli.output import Result, table


def models(
    name: str | None = None,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Write the list as a page of Markdown.")] = None,
    json: Json = False,
) -> Result:
    """List the networks, or show one with its default configuration.

    Parameters
    ----------
    name
        Kind of network to show.
    """
    from pipeline.checkpoint.spec import shipped_runs
    from pipeline.workflow.model_list import list_models, model_yaml, write_models_page

    lines = list_models(name)
    rows = [
        (
            m.name,
            f"{m.parameters:,}",
            m.image_sizes,
            m.other_sizes,
            ", ".join(m.variants),
            m.summary,
        )
        for m in lines
    ]
    header = ("model", "parameters", "image sizes", "other sizes", "variants", "what it is")
    text = table(header, rows)
    if shipped := shipped_runs():
        text += f"\n\nTrained, for score, app and explain: {', '.join(shipped)}"
    if name is not None:
        text += f"\n\nIn a training configuration, with every default:\n\n{model_yaml(name)}"
    if out is not None:
        write_models_page(lines, out)
        text = f"{out}: {len(lines)} models"
    return Result(lines, text)
