"""A comparison as CSV, Markdown, HTML and JSON."""

import csv
import html
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from pipeline.benchmark.judge import Row
from pipeline.core.files import atomic_write

if TYPE_CHECKING:
    from pipeline.benchmark.compare import Comparison, Reference

#: Column of the table for people -> title.
_TITLES = {
    "model": "model",
    "macro_auc": "macro AUC",
    "accuracy": "accuracy",
    "mae_dex": "MAE",
    "coverage_68": "in 68 %",
    "p_delong": "p (DeLong)",
    "p_mcnemar": "p (McNemar)",
    "p_mae": "p (MAE)",
    "ece": "ECE",
    "parameters": "parameters",
    "flops": "FLOP",
    "train_seconds": "training s",
    "images_per_second": "images/s",
    "memory_mb": "memory MB",
    "seeds": "seeds",
    "note": "note",
}


def write_tables(comparison: "Comparison") -> None:
    """Write all four files into the folder of the comparison."""
    header, lines = table_for_people(comparison.rows, comparison.references)
    out = comparison.out
    atomic_write(out / "compare.csv", _csv(comparison.rows))
    atomic_write(out / "compare.md", _markdown(_title(comparison), header, lines))
    atomic_write(out / "compare.html", _html(_title(comparison), header, lines))
    content = {**asdict(comparison), "out": out.name}
    text = json.dumps(_plain(content), indent=1, ensure_ascii=False, allow_nan=False)
    atomic_write(out / "compare.json", text + "\n")


def table_for_people(
    rows: Sequence[Row], references: Sequence["Reference"]
) -> tuple[list[str], list[list[str]]]:
    """Titles and cells; columns in which no row has anything are left out."""
    cells = [_cells(row) for row in rows]
    for reference in references:
        where = f" on {reference.dataset}" if reference.kind == "published" else ""
        line = dict.fromkeys(_TITLES, "")
        line["model"] = f"{reference.name}{where}"
        for name in ("macro_auc", "accuracy", "mae_dex"):
            value = getattr(reference, name)
            line[name] = "" if value is None else f"{value:.4f}"
        notes = {"published": "published, theirs", "ceiling": "no network exceeds this"}
        line["note"] = notes.get(reference.kind, "floor")
        cells.append(line)
    used = [name for name in _TITLES if any(line[name] for line in cells)]
    return [_TITLES[name] for name in used], [[line[name] for name in used] for line in cells]


def _cells(row: Row) -> dict[str, str]:
    def within(value: float | None, ends: tuple[float, float] | None) -> str:
        if value is None:
            return ""
        return f"{value:.4f}" + (f" ({ends[0]:.4f} to {ends[1]:.4f})" if ends else "")

    def number(value: float | None, form: str) -> str:
        return "" if value is None or not math.isfinite(value) else format(value, form)

    notes = {"ok": row.reason, "chance": "chance"}  # the heading says what that is
    note = notes.get(row.status, f"{row.status}: {row.reason}")
    return {
        "model": row.model,
        "macro_auc": within(row.macro_auc, row.macro_auc_interval),
        "accuracy": within(row.accuracy, row.accuracy_interval),
        "mae_dex": within(row.mae_dex, row.mae_dex_interval),
        "coverage_68": number(row.coverage_68, ".3f"),
        "p_delong": number(row.p_delong, ".2g"),
        "p_mcnemar": number(row.p_mcnemar, ".2g"),
        "p_mae": number(row.p_mae, ".2g"),
        "ece": number(row.ece, ".3f"),
        "parameters": number(row.parameters, ",d"),
        "flops": number(row.flops, ".3g"),
        "train_seconds": number(row.train_seconds, ".0f"),
        "images_per_second": number(row.images_per_second, ".0f"),
        "memory_mb": number(row.memory_mb, ".0f"),
        "seeds": str(row.seeds) if row.seeds else "",
        "note": note,
    }


def _title(comparison: "Comparison") -> str:
    return (
        f"{comparison.n} {comparison.split} images of {comparison.data} "
        f"({comparison.dataset_sha256[:12]}). In brackets: 95 % intervals, images and seeds "
        "resampled. p: equality with the best row, corrected for the number of models (Holm). "
        "chance: not distinguishable from guessing, or from always saying the median."
    )


def _csv(rows: Sequence[Row]) -> str:
    """Every field of every row; an interval is two columns."""
    names: list[str] = []
    for field in fields(Row):
        is_pair = field.name.endswith("_interval")
        names += [f"{field.name}_{end}" for end in ("low", "high")] if is_pair else [field.name]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        flat: dict[str, object] = {}
        for name, value in asdict(row).items():
            if name.endswith("_interval"):
                low, high = value or (None, None)
                flat |= {f"{name}_low": low, f"{name}_high": high}
            else:
                flat[name] = value
        writer.writerow(flat)
    return text.getvalue()


def _markdown(title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "| " + " | ".join("---" for _ in header) + " |"
    return "\n".join([title, "", line(header), rule, *map(line, lines)]) + "\n"


def _html(title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        # An interval may go to a line of its own, but stays in one piece.
        kept = (html.escape(cell).replace(" to ", "&nbsp;to&nbsp;") for cell in cells)
        inner = "".join(f"<{tag}>{cell}</{tag}>" for cell in kept)
        return f"<tr>{inner}</tr>"

    body = "\n".join(line(cells, "td") for cells in lines)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Comparison</title>\n'
        "<style>body{font:14px/1.4 system-ui,sans-serif;margin:2em;color:#222}"
        "table{border-collapse:collapse}td,th{padding:.3em .6em;text-align:left;"
        "border-bottom:1px solid #ddd;vertical-align:top}th{border-bottom:2px solid #888}"
        "td{font-variant-numeric:tabular-nums}td:last-child{min-width:9em}"
        "</style></head><body>\n"
        f"<h1>Comparison</h1>\n<p>{html.escape(title)}</p>\n"
        f"<table><thead>{line(header, 'th')}</thead>\n<tbody>\n{body}\n</tbody></table>\n"
        "</body></html>\n"
    )


def _plain(value: Any) -> Any:  # Any: JSON data; what is not finite becomes null
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
