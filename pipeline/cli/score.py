"""``deeplense score``."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from pipeline.cli.options import Device, Json, RunPath
from pipeline.cli.output import EXIT_DONE, EXIT_REJECTED, Result


def score(
    run: RunPath,
    /,
    *inputs: Path,
    out: Annotated[Path, Parameter(help="Table: .ecsv, .fits, .vot, .csv or .parquet.")],
    more: Annotated[
        tuple[Path, ...],
        Parameter(name="--run", negative="", help="Another run of a deep ensemble; repeatable."),
    ] = (),
    hdu: Annotated[str | None, Parameter(help="HDU (name or number) to take instead.")] = None,
    band: Annotated[
        str | None, Parameter(help="Plane of a cube (from 1, or named in FILTER), or HDU's band.")
    ] = None,
    center: Annotated[
        str, Parameter(help="middle of the image, peak of its light, or X,Y: a pixel from 1.")
    ] = "middle",
    catalogue: Annotated[
        Path | None,
        Parameter(help="Table with RA and Dec: cut-outs from the inputs, which are mosaics."),
    ] = None,
    lens_light: Annotated[
        Literal["keep", "subtract"], Parameter(help="Subtract a smooth model of the lens galaxy?")
    ] = "keep",
    orient: Annotated[
        Literal["stored", "north"],
        Parameter(help="Pixels as stored, or turned by the WCS to north up and east left."),
    ] = "stored",
    masks: Annotated[bool, Parameter(help="Blank what DQ, weight and error maps call bad.")] = True,
    symmetries: Annotated[
        Literal["auto", "1", "8"],
        Parameter(help="Average over turned and mirrored copies; auto: if trained on them."),
    ] = "auto",
    explain: Annotated[
        Path | None, Parameter(help="JSON lines to write: every step of every image's preparation.")
    ] = None,
    gallery: Annotated[
        Path | None, Parameter(help="HTML page to write: a thumbnail for every image, sortable.")
    ] = None,
    workers: Annotated[
        int | None, Parameter(help="Reader processes; 0 reads in this one. Default: cores less 1.")
    ] = None,
    batch_size: Annotated[int, Parameter(help="Images in one pass of the network.")] = 64,
    timeout: Annotated[float, Parameter(help="Seconds one file may take to be read.")] = 60.0,
    strict: Annotated[
        bool, Parameter(negative="", help="Exit with code 3 if a file was rejected.")
    ] = False,
    device: Device = "auto",
    json: Json = False,
) -> Result:
    """Score images with a trained network: one row each, scored or rejected with a reason.

    Parameters
    ----------
    run
        Run folder that `deeplense train` wrote, the ONNX file of one, which needs no torch, or the
        name of a network that ships.
        Others that follow it join an ensemble.
    inputs
        FITS, .npy or .npz files, folders (searched recursively), globs, datasets, or @FILE with
        one path a line.
    """
    from pipeline.checkpoint.spec import is_run
    from pipeline.inference.images import ReadOptions
    from pipeline.workflow.steps import score as step

    n_runs = next((i for i, path in enumerate(inputs) if not is_run(path)), len(inputs))
    summary = step(
        (run, *inputs[:n_runs], *more), inputs[n_runs:], out, device=device, workers=workers,
        options=ReadOptions(hdu, band, center, masks, lens_light, orient), timeout=timeout,
        symmetries=None if symmetries == "auto" else int(symmetries), batch_size=batch_size,
        catalogue=catalogue, explain=explain, gallery=gallery,
    )  # fmt: skip
    reasons = ", ".join(f"{n} {reason}" for reason, n in summary.reasons.items())
    text = (
        f"{summary.out}: {summary.scored} scored, {summary.rejected} rejected"
        + (f" ({reasons})" if reasons else "")
        + (f", {summary.resumed} from an earlier call" if summary.resumed else "")
        + f", {summary.seconds:.1f} s ({summary.files_per_second:.0f} files/s)"
        + _population(summary.population)
    )
    code = EXIT_REJECTED if strict and summary.rejected else EXIT_DONE
    return Result(summary, text, code)


def _population(found: dict[str, object]) -> str:
    """The fractions of the classes, a line each; nothing for a task without classes."""
    if "refused" in found:
        return f"\nno fractions of classes: {found['refused']}"
    fractions = found.get("fractions")
    if not isinstance(fractions, dict):
        return ""
    lines = (f"\n  {name}: {m:.0%} ({low:.0%} to {high:.0%})"
             for name, (m, low, high) in fractions.items())  # fmt: skip
    return "\nfractions of classes if all were like the simulations, 90 % intervals:" + "".join(
        lines
    )
