"""``deeplense export``: what is exported decides how; a dataset goes to npy, HDF5 or FITS."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from pipeline.cli.options import Json
from pipeline.cli.output import Result


def export(
    data: Path,
    /,
    *,
    out: Annotated[Path, Parameter(help="Folder, or .h5 file, to write or to complete.")],
    format_: Annotated[
        Literal["npy", "hdf5", "fits"], Parameter(name="--format", help="What to write.")
    ],
    split: Annotated[
        tuple[str, ...], Parameter(negative="", help="Only this split; repeatable.")
    ] = (),
    class_: Annotated[
        tuple[str, ...], Parameter(name="--class", negative="", help="Only this class; repeatable.")
    ] = (),
    pairs: Annotated[
        str | None, Parameter(help="Truth to pickle with its image, [image, value]; npy only.")
    ] = None,
    json: Json = False,
) -> Result:
    """Write the images of a dataset as .npy folders, one HDF5 file, or FITS as surveys deliver it.

    Parameters
    ----------
    data
        Dataset NAME.zarr.
    """
    from pipeline.exchange.export import export_dataset

    found = export_dataset(data, out, format_, splits=split, classes=class_, pairs=pairs)
    return Result(found, found.text)
