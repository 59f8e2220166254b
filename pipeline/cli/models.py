"""``deeplense models``."""

from pipeline.cli.options import Json
from pipeline.cli.output import Result, table


def models(name: str | None = None, /, *, json: Json = False) -> Result:
    """List the networks, or show one with its default configuration.

    Parameters
    ----------
    name
        Kind of network to show.
    """
    from pipeline.workflow.model_list import list_models, model_yaml

    lines = list_models(name)
    rows = [
        (m.name, f"{m.parameters:,}", m.image_sizes, ", ".join(m.variants), m.summary)
        for m in lines
    ]
    text = table(("model", "parameters", "image sizes", "variants", "what it is"), rows)
    if name is not None:
        text += f"\n\nIn a training configuration, with every default:\n\n{model_yaml(name)}"
    return Result(lines, text)
