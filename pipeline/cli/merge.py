"""``deeplense merge``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipeline.cli.options import Json
from pipeline.cli.output import Result


def merge(
    *data: Path,
    out: Annotated[Path, Parameter(help="Folder NAME.zarr to write or to complete.")],
    resplit: Annotated[
        bool, Parameter(negative="", help="Divide all images anew, by their pixels.")
    ] = False,
    fractions: Annotated[
        tuple[float, float, float],
        Parameter(negative="", help="Train, validation and test, with --resplit."),
    ] = (0.7, 0.15, 0.15),
    seed: Annotated[int, Parameter(help="Another seed divides otherwise, with --resplit.")] = 0,
    shard_size: Annotated[
        int | None, Parameter(help="Images in a file; by default as in the first dataset.")
    ] = None,
    json: Json = False,
) -> Result:
    """Merge datasets of the same bands, pixel scale, size and unit.

    Classes are matched by name, truths united. Splits are kept; an image with a twin in an
    earlier split is moved there.

    Parameters
    ----------
    data
        Datasets NAME.zarr, two or more.
    """
    from pipeline.exchange.choose import split_fractions
    from pipeline.exchange.merge import merge_datasets

    splits = split_fractions(fractions)
    found = merge_datasets(
        data, out, resplit=resplit, splits=splits, seed=seed, shard_size=shard_size
    )
    return Result(found, found.text)
