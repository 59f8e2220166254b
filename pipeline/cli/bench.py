"""``deeplense bench simulate``."""

import math
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from pipeline.cli.options import Json
from pipeline.cli.output import Result, table

if TYPE_CHECKING:
    from pipeline.benchmark.speed import SpeedSummary


def bench(
    what: Literal["simulate"],
    /,
    *,
    quick: Annotated[
        bool, Parameter(negative="", help="64 pixels, no noise, few repeats: a smoke test.")
    ] = False,
    json: Json = False,
) -> Result:
    """Measure how fast images are made, against other codes, one thread each.

    Parameters
    ----------
    what
        What to measure: simulate.
    """
    from pipeline.benchmark.speed import bench_simulate

    summary = bench_simulate(quick=quick)
    return Result(summary, _text(summary))


def _text(summary: "SpeedSummary") -> str:
    rows = [
        (
            row.scene,
            str(row.size),
            "noisy" if row.noisy else "noiseless",
            row.engine,
            _number(row.ms_per_image, ".3f"),
            _number(row.ratio_to_lenstronomy, ".1f"),
            _number(row.first_call_seconds, ".1f"),
            _number(row.deviation, ".0e"),
            row.note,
        )
        for row in summary.rows
    ]
    header = (
        "scene",
        "size",
        "noise",
        "engine",
        "ms/image",
        "times lenstronomy",
        "first s",
        "deviation",
        "",
    )
    names = ("draw", "pack", "render", "expose", "write", "total")
    stages = [
        (s.preset, *(f"{getattr(s, name):.3f}" for name in names), f"{s.images_per_second:.0f}")
        for s in summary.stages
    ]
    parts = [
        summary.machine,
        table(header, rows),
        "Where the time goes, engine jax, ms an image on one core:",
        table(("preset", *names, "images/s"), stages),
        *summary.skipped,
    ]
    return "\n\n".join(parts)


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)
