"""``deeplense bench``: one benchmark a module of ``pipeline/benchmark``."""

import math
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from pipeline.cli.options import Json
from pipeline.cli.output import EXIT_DONE, EXIT_FAILED, Result, table

if TYPE_CHECKING:
    from pipeline.benchmark.agreement import AgreementSummary
    from pipeline.benchmark.rows import Rows
    from pipeline.benchmark.speed import SpeedSummary


def bench(
    what: Literal["simulate", "engines", "dataset", "load", "score", "train", "fit", "export"],
    /,
    *,
    quick: Annotated[
        bool, Parameter(negative="", help="A smoke test: few pixels, few repeats.")
    ] = False,
    json: Json = False,
) -> Result:
    """Measure how fast images are made, or how well the engines agree.

    Parameters
    ----------
    what
        simulate: time per image against other codes, one thread each. engines: largest difference
        of jax and autolens from lenstronomy over every preset. dataset: what writing costs.
        load: how fast images are read, and whether training waits for those simulated meanwhile.
        score: files a second against reading alone and the network alone.
        train: what the trainer adds to a bare PyTorch loop.
        fit: smooth lenses fitted blind, by size, and where the time goes.
        export: every model as ONNX: largest difference, and its time beside torch's.
    """
    if what == "engines":
        from pipeline.benchmark.agreement import bench_engines

        agreement = bench_engines(quick=quick)
        failed = not all(row.agrees for row in agreement.rows)
        return Result(agreement, _agreement_text(agreement), EXIT_FAILED if failed else EXIT_DONE)
    if what == "simulate":
        from pipeline.benchmark.speed import bench_simulate

        summary = bench_simulate(quick=quick)
        return Result(summary, _text(summary))
    if what == "export":
        from pipeline.benchmark.export import run as bench_export

        exported = bench_export(quick=quick)
        return Result(exported, exported.text)
    rows: Rows = import_module(f"pipeline.benchmark.{what}").run(quick=quick)
    return Result(rows, _rows_text(rows))


def _rows_text(summary: "Rows") -> str:
    rows = [
        (row.name, _number(row.value, ".4g"), row.unit, _number(row.ratio, ".2f"), row.against)
        for row in summary.rows
    ]
    listed = table(("what", "value", "unit", "times", "against"), rows)
    return "\n\n".join([summary.machine, listed, *summary.notes])


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


def _agreement_text(summary: "AgreementSummary") -> str:
    rows = [
        (
            row.preset,
            row.engine,
            str(row.n_scenes),
            f"{row.max_deviation:.1e}",
            f"{row.rms_deviation:.1e}",
            row.worst_class,
            "yes" if row.agrees else "NO",
        )
        for row in summary.rows
    ]
    header = ("preset", "engine", "scenes", "max/peak", "rms/peak", "worst class", "agrees")
    allowed = f"allowed: max {summary.max_allowed:.0e}, rms {summary.rms_allowed:.0e} of the peak"
    return f"Deviation from lenstronomy; {allowed}\n\n{table(header, rows)}"


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)
