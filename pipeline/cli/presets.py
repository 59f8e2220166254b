"""``deeplense presets``."""

from pipeline.cli.options import Json
from pipeline.cli.output import Result, table


def presets(name: str | None = None, /, *, json: Json = False) -> Result:
    """List the presets, or print one with every value and its unit.

    Parameters
    ----------
    name
        Preset (or YAML file) to print, resolved.
    """
    from pipeline.core.resources import sim_params
    from pipeline.report.describe import list_presets, resolved_yaml

    if name is None:
        lines = list_presets(sim_params())
        return Result(lines, table(("preset", "what it is"), [(p.name, p.summary) for p in lines]))
    from pipeline.core.config import dump
    from pipeline.dataset.config import load_dataset_config

    config = load_dataset_config(name)
    return Result(dump(config), resolved_yaml(config))
