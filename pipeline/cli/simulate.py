"""``deeplense simulate``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipeline.cli.options import Json, Overrides, Workers
from pipeline.cli.output import EXIT_DONE, EXIT_FAILED, Result


def simulate(
    preset: str,
    /,
    *,
    out: Annotated[Path, Parameter(help="Folder NAME.zarr to write or to complete.")],
    images: Annotated[int | None, Parameter(help="Number of images.")] = None,
    seed: Annotated[int | None, Parameter(help="Seed of all random numbers.")] = None,
    engine: Annotated[str | None, Parameter(help="What renders the images.")] = None,
    set_: Overrides = (),
    workers: Workers = None,
    audit: Annotated[bool, Parameter(help="Check what was made, in a few seconds.")] = True,
    json: Json = False,
) -> Result:
    """Make a dataset, or complete one that was interrupted.

    Parameters
    ----------
    preset
        Name of a preset (see: deeplense presets), or a YAML file.
    """
    from pipeline.workflow.steps import simulate as step

    summary = step(
        preset, out, images=images, seed=seed, engine=engine, overrides=set_, workers=workers
    )
    text = (
        f"{summary.path}: {summary.images} images in {summary.seconds:.1f} s "
        f"({summary.images_per_second:.0f}/s, {summary.engine})\n"
        f"sha256 {summary.dataset_sha256}"
    )
    found = None
    if audit and summary.images_per_second > 0:  # nothing was made: nothing to check
        from pipeline.dataset.audit import audit_dataset

        found = audit_dataset(out, short=True)
        text += f"\n{found.short_text()}"
    data = {**asdict(summary), "audit": None if found is None else found.to_json()}
    return Result(data, text, EXIT_FAILED if found is not None and found.is_broken else EXIT_DONE)
