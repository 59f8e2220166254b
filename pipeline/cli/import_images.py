"""``deeplense import``."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from pipeline.cli.options import Json
from pipeline.cli.output import EXIT_DONE, EXIT_REJECTED, Result


def import_images(
    images: Path,
    /,
    *,
    out: Annotated[Path, Parameter(help="Folder NAME.zarr to write or to complete.")],
    labels: Annotated[
        Path | None, Parameter(help="Table (.csv, .ecsv) with path, label and numbers.")
    ] = None,
    label: Annotated[str | None, Parameter(help="Class of images that nothing else names.")] = None,
    alias: Annotated[
        tuple[str, ...],
        Parameter(negative="", help="FOLDER=CLASS: what a folder or label means; repeatable."),
    ] = (),
    band: Annotated[
        tuple[str, ...], Parameter(negative="", help="Name of each band, in order; repeatable.")
    ] = (),
    pixel_scale: Annotated[
        float | None, Parameter(help="Arcsec; needed where files do not say.")
    ] = None,
    unit: Annotated[str | None, Parameter(help="Unit of the pixels, if files do not say.")] = None,
    number: Annotated[
        str, Parameter(help="Name of the number beside an image in a pickled pair.")
    ] = "axion_mass",
    split: Annotated[
        Literal["given", "content"], Parameter(help="Keep the given splits, or make new ones.")
    ] = "given",
    fractions: Annotated[
        tuple[float, float, float],
        Parameter(negative="", help="Train, validation and test, where made here."),
    ] = (0.7, 0.15, 0.15),
    seed: Annotated[int, Parameter(help="Another seed divides the images otherwise.")] = 0,
    shard_size: Annotated[int, Parameter(help="Images in a file of the dataset.")] = 500,
    strict: Annotated[
        bool, Parameter(negative="", help="Exit with code 3 if anything was rejected.")
    ] = False,
    json: Json = False,
) -> Result:
    """Make a dataset of images that exist: .npy, .npz or FITS, one class a folder or a table.

    Nothing in a file is ever run. Pickled arrays (the axion files of DeepLense) are read by a
    machine that knows numbers and numpy arrays only.

    Parameters
    ----------
    images
        Folder, .npy, .npz or FITS file.
    """
    from pipeline.exchange.choose import import_config
    from pipeline.exchange.import_images import import_images as run

    config = import_config(
        bands=band, pixel_scale=pixel_scale, unit=unit, number=number, label=label, aliases=alias,
        splits_from=split, fractions=fractions, seed=seed, shard_size=shard_size,
    )  # fmt: skip
    found = run(images, out, config, labels)
    return Result(found, found.text, EXIT_REJECTED if strict and found.rejected else EXIT_DONE)
