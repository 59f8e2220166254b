"""``deeplense split``."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from pipeline.cli.options import Json
from pipeline.cli.output import Result


def split(
    data: Path,
    /,
    *,
    out: Annotated[Path, Parameter(help="Folder of the parts, each a NAME.zarr.")],
    by: Annotated[Literal["split", "class", "fraction"], Parameter(help="What divides.")] = "split",
    fraction: Annotated[
        tuple[float, ...],
        Parameter(negative="", help="Share of a part, with --by fraction; repeatable."),
    ] = (),
    seed: Annotated[int, Parameter(help="Another seed divides into fractions otherwise.")] = 0,
    json: Json = False,
) -> Result:
    """Divide a dataset; equal images stay together in one part of fractions.

    Parameters
    ----------
    data
        Dataset NAME.zarr.
    """
    from pipeline.exchange.divide import split_dataset

    found = split_dataset(data, out, by=by, fractions=fraction, seed=seed)
    return Result(found, found.text)
