"""``deeplense compare``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipeline.cli.options import Device, Json, Overrides
from pipeline.cli.output import Result, table


def compare(
    *runs: Path,
    data: Annotated[Path | None, Parameter(help="Dataset to compare on.")] = None,
    preset: Annotated[str | None, Parameter(help="Simulate this preset instead.")] = None,
    models: Annotated[
        tuple[str, ...],
        Parameter(
            negative="", help="KIND, KIND/VARIANT, all or all/VARIANT to be trained; repeatable."
        ),
    ] = (),
    seeds: Annotated[int, Parameter(help="Trainings of each model.")] = 1,
    minutes: Annotated[float | None, Parameter(help="Budget of one training.")] = None,
    images: Annotated[int | None, Parameter(help="Images to simulate for --preset.")] = None,
    config: Annotated[
        str | None, Parameter(help="Training preset of all models, instead of each its own.")
    ] = None,
    out: Annotated[Path, Parameter(help="Folder for tables, runs and data.")] = Path("comparison"),
    split: Annotated[str, Parameter(help="test, val or train.")] = "test",
    set_: Overrides = (),
    device: Device = "auto",
    json: Json = False,
) -> Result:
    """Compare networks on the same images: one table with intervals and paired tests.

    Parameters
    ----------
    runs
        Run folders; those that differ by their seed alone make one row.
    """
    from pipeline.benchmark.compare import compare as compare_networks

    found = compare_networks(
        runs, out=out, data=data, preset=preset, models=models, seeds=seeds, minutes=minutes,
        images=images, config=config, overrides=set_, split=split, device=device,
    )  # fmt: skip
    from pipeline.benchmark.tables import table_for_people

    text = table(*table_for_people(found.rows, found.references))
    return Result(found, f"{text}\n\n{out}/compare.html, .md, .csv, .json")
