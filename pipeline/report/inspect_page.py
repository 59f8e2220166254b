"""The page about a dataset: what is in it, how it looks, what its numbers mean, its origin."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.files import require_writable_parent
from pipeline.core.provenance import package_versions
from pipeline.dataset.inspection import Inspection, Parameter, Spread, inspect_dataset
from pipeline.dataset.place import Url
from pipeline.dataset.splits import SPLITS
from pipeline.report.describe import resolved_yaml
from pipeline.report.histograms import parameter_chart
from pipeline.report.page import (
    Chart,
    Charts,
    Gallery,
    Listing,
    Page,
    Picture,
    PictureRow,
    Section,
    Table,
    Tile,
    write_page,
)
from pipeline.report.pictures import grey_picture, stretch_limits

#: Pictures in a row of the contact sheet, and rows of each class.
N_COLUMNS, N_ROWS = 8, 2
#: Most histograms on a page.
MAX_CHARTS = 40
#: Shards that are named one by one.
_NAMED = 40


def inspect_and_report(
    path: str | Path | Url, out: Path | None, *, pixels: bool = True
) -> Inspection:
    """Look into a dataset and, if ``out`` is given, write its page.

    Parameters
    ----------
    path : str, Path or Url
    out : Path, optional
    pixels : bool
        As for ``inspect_dataset``.
    """
    if out is not None:
        require_writable_parent(out)
    found = inspect_dataset(path, pixels=pixels)
    if out is not None:
        write_inspection(found, out)
    return found


def write_inspection(found: Inspection, out: Path) -> Path:
    """Write one self-contained HTML file about a dataset and return its path."""
    dataset = found.dataset
    _, rows, columns = dataset.image_shape
    what = {"simulation": "simulated", "import": "imported", "merge": "merged"}
    bands = ", ".join("band unknown" if b == "unknown" else b for b in dataset.bands)
    subtitle = (
        f"{dataset.n_images:,} {what.get(dataset.origin, '')} images of {rows} × {columns} pixels, "
        f"{dataset.pixel_scale:g} arcsec each, {bands}. {dataset.description}"
    )
    sections = [_counts(found)]
    if found.missing or found.damaged:
        sections.insert(0, _shards(found))
    if len(found.rows):
        sections.append(Section("Images", "", (_contact_sheet(found),)))
    if found.parameters:
        sections.append(_parameters(found))
    if found.copies:
        sections.append(_copies(found))
    sections.append(_origin(found))
    page = Page(
        dataset.path.name,
        subtitle,
        _tiles(found),
        tuple(sections),
        _next_steps(found),
        _provenance(found),
    )
    return write_page(page, out)


def _tiles(found: Inspection) -> tuple[Tile, ...]:
    dataset = found.dataset
    n_bad = len(found.missing) + len(found.damaged)
    state = "complete" if found.is_complete else "unfinished"
    if found.damaged:
        state = "damaged"
    note = "every shard is there" + (" and whole" if found.n_copies is not None else "")
    if n_bad:
        note = f"shards: {len(found.missing)} missing, {len(found.damaged)} damaged"
    tiles = [
        Tile("images", f"{dataset.n_images:,}", f"{len(found.rows):,} can be relied on"),
        Tile("classes", str(len(dataset.class_names)), ", ".join(dataset.class_names)),
        Tile("state", state, note),
    ]
    if found.n_copies is not None:
        tiles.append(Tile("duplicates", f"{found.n_copies:,}", f"{found.n_across:,} across splits"))
    field = dataset.image_shape[2] * dataset.pixel_scale
    tiles.append(Tile("field of view", f"{field:.3g}″", f"unit {dataset.unit}"))
    return tuple(tiles)


def _counts(found: Inspection) -> Section:
    counts = found.counts
    rows = [
        (name, *(f"{n:,}" for n in of_split.values()), f"{sum(of_split.values()):,}")
        for name, of_split in counts.items()
    ]
    totals = [sum(of_split[s] for of_split in counts.values()) for s in SPLITS]
    rows.append(("all", *(f"{n:,}" for n in totals), f"{sum(totals):,}"))
    table = Table(("class", *SPLITS, "all"), tuple(rows), numeric=tuple(range(1, 5)))
    return Section("How many", "Images of every class in each split.", (table,))


def _shards(found: Inspection) -> Section:
    dataset = found.dataset
    made = {"simulation": "simulate"}.get(dataset.origin, dataset.origin)
    named = [(k, "missing") for k in found.missing] + [(k, "damaged") for k in found.damaged]
    rows = []
    for shard, what in sorted(named)[:_NAMED]:
        images = dataset.rows(shard)
        rows.append((str(shard), what, f"{images.start:,} to {images.stop - 1:,}"))
    more = len(named) - len(rows)
    lead = (
        f"The deeplense {made} command that made this dataset, called again, writes what is "
        "missing; deeplense audit says more about damage. Nothing below counts these images."
    )
    caption = f"and {more:,} more" if more else ""
    table = Table(("shard", "state", "images"), tuple(rows), caption)
    return Section("What is wrong", lead, (table,))


def _contact_sheet(found: Inspection) -> Gallery:
    dataset = found.dataset
    chosen = [
        found.rows[found.labels == k][: N_COLUMNS * N_ROWS] for k in range(len(dataset.class_names))
    ]
    images = [dataset.read_images(index)[:, 0] for index in chosen]
    black, white = stretch_limits(np.concatenate(images))
    rows = []
    for k, (name, index, stack) in enumerate(zip(dataset.class_names, chosen, images, strict=True)):
        pictures = [
            Picture(grey_picture(image, black, white), f"{name}, image {i}", f"image {i}")
            for i, image in zip(index.tolist(), stack, strict=True)
        ]
        for start in range(0, len(pictures), N_COLUMNS):
            label = name if start == 0 else ""
            series = k if start == 0 else None
            rows.append(PictureRow(label, tuple(pictures[start : start + N_COLUMNS]), series))
    band = f" ({dataset.bands[0]}, the first of {len(dataset.bands)} bands)"
    return Gallery(
        tuple(rows),
        "The first images of every class, all under one stretch"
        + (band if len(dataset.bands) > 1 else "")
        + ".",
    )


def _parameters(found: Inspection) -> Section:
    names = found.dataset.class_names
    fixed = [p for p in found.parameters if p.is_constant]
    varying = [p for p in found.parameters if not p.is_constant]
    charts = tuple(
        Chart(
            parameter_chart(p.name, p.unit, _by_class(found, p)),
            p.description,
        )
        for p in varying[:MAX_CHARTS]
    )
    rows = tuple(_row(p, names) for p in varying + fixed)
    header = ("parameter", "unit", "what it is", *names)
    caption = (
        "Smallest value · median · largest value of each class; a dash where its images have none, "
        "one number where it never changes."
    )
    blocks: list[Charts | Table] = [Charts(charts)] if charts else []
    lead = (
        f"{len(found.parameters)} numbers describe the images"
        + (f", {len(fixed)} of them the same for all." if fixed else ".")
        + (f" The first {MAX_CHARTS} are drawn." if len(varying) > MAX_CHARTS else "")
    )
    return Section("Parameters", lead, (*blocks, Table(header, rows, caption, whole=(0, 1))))


def _by_class(found: Inspection, parameter: Parameter) -> dict[str, NDArray[np.float64]]:
    values = found.truth[parameter.name]
    return {
        name: values[(found.labels == k) & np.isfinite(values)]
        for k, name in enumerate(found.dataset.class_names)
    }


def _row(parameter: Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    spreads = [_spread(parameter.by_class[name]) for name in names]
    return parameter.name, parameter.unit or "–", parameter.description or "–", *spreads


def _spread(spread: Spread) -> str:
    if not spread.n:
        return "–"
    if spread.low == spread.high:
        return f"{spread.low:.4g}".replace("-", "−")
    text = " · ".join(f"{x:.3g}" for x in (spread.low, spread.median, spread.high))
    return text.replace("-", "−")


def _copies(found: Inspection) -> Section:
    rows = tuple(
        (
            ", ".join(map(str, c.images[:8])) + (" …" if len(c.images) > 8 else ""),
            str(len(c.images)),
            ", ".join(c.classes),
            ", ".join(c.splits) + (" ✗" if len(c.splits) > 1 else ""),
        )
        for c in found.copies
    )
    n_shown = len(rows)
    lead = f"{found.n_copies:,} images have the same pixels as an earlier one. " + (
        f"{found.n_across:,} groups lie in several splits (✗): what was trained on is tested."
        if found.n_across
        else "No group lies in two splits."
    )
    table = Table(("images", "times", "classes", "splits"), rows, f"{n_shown} groups shown")
    return Section("Duplicates", lead, (table,))


def _origin(found: Inspection) -> Section:
    dataset = found.dataset
    attributes = dataset.spec.attributes
    blocks: list[Table | Listing] = []
    made_from = attributes.get("made_from", ())
    if made_from:
        rows = tuple((m["dataset_sha256"], m["origin"], f"{m['n_images']:,}") for m in made_from)
        blocks.append(Table(("dataset sha256", "origin", "images"), rows, "Made from", (2,)))
    if dataset.simulation is not None:
        title = "The configuration, every value with its unit"
        blocks.append(Listing(title, resolved_yaml(dataset.simulation)))
    else:
        said = {k: attributes[k] for k in (dataset.origin, "sources") if k in attributes}
        if said:
            text = json.dumps(said, indent=2, ensure_ascii=False)
            blocks.append(Listing(f"What the {dataset.origin} was told, and its sources", text))
    return Section("Origin", f"Made by: {dataset.origin}.", tuple(blocks))


def _next_steps(found: Inspection) -> dict[str, str]:
    path = found.dataset.path
    steps = {"Is it sound? What gives the classes away?": f"deeplense audit {path}"}
    if found.is_complete:
        steps["Train a network on it"] = f"deeplense train demo --data {path} --out runs/first"
        steps["Write it as FITS files, HDF5 or npy"] = (
            f"deeplense export {path} --format fits --out cutouts"
        )
    return steps


def _provenance(found: Inspection) -> dict[str, str]:
    dataset = found.dataset
    attributes = dataset.spec.attributes
    versions = ", ".join(f"{k} {v}" for k, v in dataset.versions.items())
    return {
        "dataset sha256": dataset.sha256 or "none: not complete",
        "origin": dataset.origin,
        "origin sha256": dataset.spec.origin_sha256,
        "format": f"{attributes['format']} {attributes['format_version']}",
        "shards": f"{dataset.n_shards} of {dataset.shard_size} images",
        "device": str(attributes.get("device", "")),
        "versions, dataset": versions,
        "versions, page": ", ".join(f"{k} {v}" for k, v in package_versions().items()),
    }
