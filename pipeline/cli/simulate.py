"""``deeplense simulate``."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pipeline.cli.options import Json, Overrides, Workers
from pipeline.cli.output import EXIT_DONE, EXIT_FAILED, Result
from pipeline.core.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.dataset.simulate import SimulateSummary


def simulate(
    preset: str | None = None,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Folder NAME.zarr to write or to complete.")] = None,
    images: Annotated[int | None, Parameter(help="Number of images.")] = None,
    seed: Annotated[int | None, Parameter(help="Seed of all random numbers.")] = None,
    engine: Annotated[str | None, Parameter(help="What renders the images.")] = None,
    set_: Overrides = (),
    workers: Workers = None,
    max_hours: Annotated[
        float | None, Parameter(help="Begin no shard after this many hours; then exit code 1.")
    ] = None,
    max_gb: Annotated[
        float | None, Parameter(help="Begin no shard that would make the dataset larger.")
    ] = None,
    repair: Annotated[
        bool, Parameter(negative="", help="Check every shard; make the damaged ones again.")
    ] = False,
    audit: Annotated[bool, Parameter(help="Check what was made, in a few seconds.")] = True,
    rebuild: Annotated[
        Path | None, Parameter(help="Render one image of this dataset again; needs --index.")
    ] = None,
    index: Annotated[int | None, Parameter(help="Number of the image to rebuild.")] = None,
    json: Json = False,
) -> Result:
    """Make a dataset, or complete one that was interrupted; or rebuild one of its images.

    Parameters
    ----------
    preset
        Name of a preset (see: deeplense presets), or a YAML file.
    """
    if rebuild is not None:
        if index is None or preset is not None:
            raise ConfigError("--rebuild DATA.zarr needs --index, and takes no preset")
        return _rebuild(rebuild, index, engine, out)
    if preset is None or out is None:
        raise ConfigError(
            "a preset and --out are needed, e.g. deeplense simulate demo --out d.zarr. "
            "See: deeplense simulate --help"
        )
    from pipeline.workflow.steps import simulate as step

    summary = step(
        preset, out, images=images, seed=seed, engine=engine, overrides=set_, workers=workers,
        max_hours=max_hours, max_gb=max_gb, repair=repair,
    )  # fmt: skip
    text = _text(summary)
    found = None
    if not summary.complete:
        return Result({**asdict(summary), "audit": None}, text, EXIT_FAILED)
    if audit and summary.images_per_second > 0:  # nothing was made: nothing to check
        from pipeline.dataset.audit import audit_dataset

        found = audit_dataset(out, short=True)
        text += f"\n{found.short_text()}"
    data = {**asdict(summary), "audit": None if found is None else found.to_json()}
    return Result(data, text, EXIT_FAILED if found is not None and found.is_broken else EXIT_DONE)


def _text(summary: "SimulateSummary") -> str:
    lines = [
        f"{summary.path}: {summary.images} images in {summary.seconds:.1f} s "
        f"({summary.images_per_second:.0f}/s, {summary.engine})"
    ]
    if summary.repaired:
        lines.append(f"shards made again: {', '.join(map(str, summary.repaired))}")
    if summary.complete:
        return "\n".join([*lines, f"sha256 {summary.dataset_sha256}"])
    return f"{summary.path}: not complete: {summary.stopped}; the same command goes on"


def _rebuild(data: Path, index: int, engine: str | None, out: Path | None) -> Result:
    from pipeline.dataset.rebuild import rebuild, write_rebuilt

    found = rebuild(data, index, engine=engine)
    if out is not None:
        write_rebuilt(found, out)
    code = EXIT_DONE if found.is_sound else EXIT_FAILED
    return Result({**found.to_json(), "out": out}, found.text(), code)
