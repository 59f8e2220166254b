"""A page about a search: its history, what mattered, the best trials and how to use them."""

from pathlib import Path

from pipeline.core.provenance import package_versions
from pipeline.report.page import Chart, Charts, Listing, Page, Section, Table, Tile, write_page
from pipeline.report.study_figures import (
    history,
    importance_bars,
    learning_curves,
    n_best,
    parallel_coordinates,
    words,
)
from pipeline.tuning.result import StudyResult

#: Trials in the table of the best, and failures that are named.
TABLE_ROWS, FAILURES = 15, 10
#: Complete trials from which importances begin to mean something.
FEW = 10


def write_study_page(result: StudyResult, out: Path, *, data: Path, best: Path | None) -> Path:
    """Write the page of a study as it stands.

    Parameters
    ----------
    result : StudyResult
    out : Path
        HTML file.
    data : Path
        What the study is on, for the commands that the page suggests.
    best : Path, optional
        File of the best configuration.

    Returns
    -------
    Path
    """
    sections = [_history(result), _importance(result), _best(result, best), _failures(result)]
    return write_page(
        Page(
            title="Search for a training configuration",
            subtitle=_subtitle(result),
            tiles=_tiles(result),
            sections=tuple(section for section in sections if section is not None),
            next_steps=_next_steps(result, data, best),
            provenance={
                "dataset sha256": result.dataset_sha256,
                "configuration sha256, before the search": result.config_sha256,
                "search space sha256": result.space.sha256,
                "versions": ", ".join(
                    f"{name} {version}"
                    for name, version in package_versions(_PACKAGES).items()
                ),
            },
        ),
        out,
    )  # fmt: skip


_PACKAGES = ("deeplense-pipeline", "optuna", "torch")
_SAMPLERS = {
    "tpe": "tree-structured Parzen estimators",
    "gp": "a Gaussian process",
    "grid": "a grid",
    "random": "chance",
}


def _subtitle(result: StudyResult) -> str:
    keys = ", ".join(result.space.parameters)
    return (
        f"{result.space.description + '. ' if result.space.description else ''}Trials of {keys}, "
        f"chosen by {_SAMPLERS[result.space.sampler]}, judged by validation {result.metric} "
        f"({'more' if result.higher_is_better else 'less'} is better)."
    )


def _tiles(result: StudyResult) -> tuple[Tile, ...]:
    best, seconds = result.best, sum(t.seconds or 0.0 for t in result.trials)
    wanted = f"of {result.space.n_trials}"
    if n := result.count("running"):
        wanted += f", {n} not finished"
    ended = f"{result.count('pruned')} ended early"
    if n := result.count("failed"):
        ended += f", {n} failed"
    return (
        Tile(
            f"Best validation {result.metric}",
            "-" if best is None or best.value is None else f"{best.value:.4f}",
            "" if best is None else f"trial {best.number}",
        ),
        Tile("Trials", str(len(result.trials)), wanted),
        Tile("Complete", str(result.count("complete")), ended),
        Tile("Time of all trials", _duration(seconds)),
    )


def _history(result: StudyResult) -> Section:
    higher = result.higher_is_better
    charts = [
        Chart(
            history(result.metric, result.trials, higher_is_better=higher),
            "The metric of every trial in the order they were begun, and the best so far. Where "
            "the line has been level for long, more trials are unlikely to help.",
        ),
        Chart(
            learning_curves(result.metric, result.trials, result.done),
            "The same trials epoch by epoch, the best in orange. Lines that stop were ended early.",
        ),
    ]
    lead = (
        "Each trial is one training run. Its value is the best epoch's metric on validation "
        "images, which the search itself has learnt from: judge what it found on the test split."
    )
    return Section("History", lead, (Charts(tuple(charts)),))


def _importance(result: StudyResult) -> Section | None:
    if not result.done:
        return None
    lines = parallel_coordinates(result.metric, result.axes, result.done)
    stand_out = "best in orange" if n_best(result.done) == 1 else "best ones in orange"
    caption = (
        "Every complete trial as a line through its values to its metric on the right; the better "
        f"the trial, the stronger its line, the {stand_out}. Where good lines meet on an axis, "
        "that value matters."
    )
    blocks = [Charts((Chart(lines, caption),), wide=True)]
    if result.importances:
        caption = (
            "Share of the metric's variance over the whole search space that each parameter "
            "explains (functional analysis of variance with random forests)."
        )
        if len(result.done) < FEW:
            caption += f" From {len(result.done)} complete trials: take it as a hint."
        blocks.append(Charts((Chart(importance_bars(result.importances), caption),)))
    lead = "Which settings the result depends on, and which values the good trials share."
    return Section("What mattered", lead, tuple(blocks))


def _best(result: StudyResult, best: Path | None) -> Section | None:
    if not result.done:
        return None
    shown = result.done[:TABLE_ROWS]
    keys = list(result.space.parameters)
    rows = tuple(
        (
            str(t.number),
            f"{t.value:.4f}",
            str(len(t.by_epoch)),
            *(words(t.chosen[key]) for key in keys),
        )
        for t in shown
    )
    table = Table(
        header=("trial", result.metric, "epochs", *keys),
        rows=rows,
        caption=f"The best {len(shown)} of {len(result.done)} complete trials. Every trial is a "
        f"run folder in {result.out / 'trials'}; all of them are in {result.out / 'trials.csv'}.",
        numeric=(0, 1, 2),
    )
    listing = () if best is None else (Listing(best.name, best.read_text(encoding="utf-8")),)
    return Section("Best trials", "", (table, *listing))


def _failures(result: StudyResult) -> Section | None:
    failed = [t for t in result.trials if t.state == "failed"]
    if not failed:
        return None
    rows = tuple((str(t.number), t.reason) for t in failed[:FAILURES])
    hidden = len(failed) - FAILURES
    more = f"{hidden} more are in trials.csv" if hidden > 0 else ""
    table = Table(("trial", "reason"), rows, caption=more, numeric=(0,))
    return Section("Failed trials", "Values that do not go together, or lost numbers.", (table,))


def _next_steps(result: StudyResult, data: Path, best: Path | None) -> dict[str, str]:
    steps = {}
    if result.best is not None and best is not None:
        run = result.out / "trials" / f"{result.best.number:04d}"
        steps["Judge the best trial on images that neither training nor search has seen"] = (
            f"deeplense evaluate {run} --data {data}"
        )
        steps["Train the best configuration again, with other seeds"] = (
            f"deeplense train {best} --data {data} --out runs/best --seed 1"
        )
    steps["Go on with the search"] = (
        f"deeplense tune CONFIG --space SPACE --data {data} --out {result.out} "
        f"--trials {2 * result.space.n_trials}"
    )
    return steps


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
