"""``deeplense export``: a run becomes an ONNX file; a dataset goes to npy, HDF5 or FITS."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from pipeline.cli.options import Json
from pipeline.cli.output import Result
from pipeline.core.errors import ConfigError


def export(
    what: Path,
    /,
    *,
    onnx: Annotated[
        Path | None, Parameter(help="Of a run: ONNX file to write; scores without torch.")
    ] = None,
    data: Annotated[
        Path | None, Parameter(help="Dataset whose test images the ONNX file has to agree on.")
    ] = None,
    out: Annotated[
        Path | None, Parameter(help="Of a dataset: folder, or .h5 file, to write or to complete.")
    ] = None,
    format_: Annotated[
        Literal["npy", "hdf5", "fits"] | None, Parameter(name="--format", help="What to write.")
    ] = None,
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
    """Write a trained network as one ONNX file, or a dataset as npy folders, HDF5 or FITS.

    Parameters
    ----------
    what
        Run folder, or dataset NAME.zarr.
    """
    if onnx is not None:
        from pipeline.export.onnx import export_onnx

        exported = export_onnx(what, onnx, data=data)
        return Result(exported, exported.text)
    from pipeline.checkpoint.spec import is_run
    from pipeline.exchange.export import export_dataset

    if out is None or format_ is None:
        named = is_run(what)
        needs = "--onnx FILE" if named else "--out PATH and --format npy, hdf5 or fits"
        raise ConfigError(f"{what}: a {'run folder' if named else 'dataset'} needs {needs}")
    found = export_dataset(what, out, format_, splits=split, classes=class_, pairs=pairs)
    return Result(found, found.text)
