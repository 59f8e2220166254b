"""``deeplense preview``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipeline.cli.options import Json, Overrides
from pipeline.cli.output import Result


def preview(
    preset: str,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Picture to write (.png).")] = None,
    n: Annotated[int, Parameter(name=["--n", "-n"], help="Lenses, each in every class.")] = 6,
    seed: Annotated[int | None, Parameter(help="Seed of all random numbers.")] = None,
    engine: Annotated[
        str, Parameter(help="What renders; the others compile first.")
    ] = "lenstronomy",
    set_: Overrides = (),
    json: Json = False,
) -> Result:
    """Draw a contact sheet in seconds: images by class, and image minus smooth twin.

    Parameters
    ----------
    preset
        Name of a preset (see: deeplense presets), or a YAML file.
    """
    from pipeline.report.preview import write_preview

    overrides = set_ if seed is None else (f"seed={seed}", *set_)
    sheet = write_preview(preset, out, n_lenses=n, engine=engine, overrides=overrides)
    return Result(sheet, sheet.text)
