"""A page of explanations: what was seen, what substructure changed, where the network looked."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.explain.explanations.base import EXPLANATIONS
from pipeline.explain.pointing import ALL, OBSERVER, Pointing, Score
from pipeline.explain.run import Explanations
from pipeline.report.page import (
    Gallery,
    Page,
    Picture,
    PictureRow,
    Section,
    Table,
    Tile,
    write_page,
)
from pipeline.report.pictures import (
    difference_picture,
    grey_picture,
    heat_picture,
    stretch_limits,
)

#: Images of each class on the page.
MAX_ROWS = 8
#: Change at the ends of the colours, sigma.
CHANGE_LIMIT = 5.0
#: How a score is read, for the page and for the documentation.
HEADER = ("map", "peak on the change", "gain on light", "peak near the mass", "map on the change")


def write_explain_page(found: Explanations, out: Path) -> Path:
    """Write the page and return its path."""
    sections = [_scores(found)] if found.scores else []
    sections += [_maps(found, name) for name in dict.fromkeys(found.class_of)]
    if found.refused:
        rows = tuple(found.refused.items())
        table = Table(("explanation", "why not"), rows)
        sections.append(
            Section("Not applicable", "Explanations this network has no use for.", (table,))
        )
    page = Page(
        title="Explanations",
        subtitle="Which pixels the answer rests on, and whether that is where the substructure is",
        tiles=_tiles(found),
        sections=tuple(sections),
        provenance={
            "run": found.run,
            "checkpoint": found.checkpoint_sha256,
            "dataset": f"{found.data} ({found.split})",
            "dataset sha256": found.dataset_sha256,
        },
    )
    return write_page(page, out)


def score_rows(scores: tuple[Pointing, ...], class_name: str = ALL) -> list[tuple[str, ...]]:
    """Cells under :data:`HEADER` of one class."""
    return [
        (
            row.map,
            _cell(row.change),
            "" if row.map == OBSERVER else f"{row.gain.value:+.3f} ({_ends(row.gain)})",
            "" if row.mass is None else _cell(row.mass),
            f"{row.inside.value:.3f}",
        )
        for row in scores
        if row.class_name == class_name
    ]


def _cell(score: Score) -> str:
    return f"{score.value:.3f} ({_ends(score)})"


def _ends(score: Score) -> str:
    return f"{score.low:.3f} to {score.high:.3f}"


def _tiles(found: Explanations) -> tuple[Tile, ...]:
    tiles = [Tile("Images", str(len(found.index)), f"of the split {found.split}")]
    if not found.scores:
        return (*tiles, Tile("Pointing score", "-", found.unscored))
    of_all = [row for row in found.scores if row.class_name == ALL]
    best = max((row for row in of_all if row.is_method), key=lambda row: row.change.value)
    light = best.change.value - best.gain.value
    note = f"d' at least {found.min_d_prime:g}; {found.n_faint} fainter left out"
    return (
        *tiles,
        Tile("Scored", str(best.n), note),
        Tile("Best pointing", f"{best.change.value:.2f}", f"{best.map}, peaks on the change"),
        Tile("By light alone", f"{light:.2f}", "a pixel drawn by the smooth lens's light"),
    )


def _scores(found: Explanations) -> Section:
    names = dict.fromkeys(row.class_name for row in found.scores)
    tables = tuple(
        Table(
            HEADER,
            tuple(score_rows(found.scores, name)),
            caption=f"{_title(name)}: {_n(found.scores, name)} images",
            numeric=(1, 2, 3, 4),
        )
        for name in names
    )
    lead = (
        "The change is the noiseless image minus that of the smooth twin, over the noise of each "
        "pixel; its target is the fewest pixels that hold half of d'². The mass is within three "
        "pixels of the vortex, or of the heaviest mass in the image. A perfect observer looks at "
        "d' per pixel, which hits the first target by definition. In brackets: 95 % intervals over "
        "images. Gain: hits beyond those of a pixel drawn by the light of the smooth lens."
    )
    return Section("Pointing", lead, tables)


def _title(class_name: str) -> str:
    return "All classes with substructure" if class_name == ALL else class_name


def _n(scores: tuple[Pointing, ...], class_name: str) -> int:
    return next(row.n for row in scores if row.class_name == class_name)


def _maps(found: Explanations, class_name: str) -> Section:
    place = {int(position): k for k, position in enumerate(found.located)}
    of_class = [i for i, name in enumerate(found.class_of) if name == class_name]
    shown = [i for i in of_class if i in place][:MAX_ROWS] or of_class[:MAX_ROWS]
    known = all(i in place for i in shown)
    rows = tuple(_row(found, i, place.get(i) if known else None) for i in shown)
    caption = f"{len(shown)} of {len(of_class)} images"
    if known:
        caption += (
            f"; change from -{CHANGE_LIMIT:g} (blue) to +{CHANGE_LIMIT:g} sigma (red); outlined: "
            "the pixels that hold half of d'²"
        )
    columns = ("image", *(("change",) if known else ()), *found.maps)
    lead = "; ".join(f"{name}: {EXPLANATIONS.summary(name).rstrip('.')}" for name in found.maps)
    gallery = Gallery(rows=rows, caption=caption, columns=columns)
    return Section(f"Maps of class {class_name}", f"{lead}.", (gallery,))


def _row(found: Explanations, i: int, k: int | None) -> PictureRow:
    name = f"image {found.index[i]}"
    said = found.said[i]
    note = "" if not said else f"called {said}" + ("" if said == found.class_of[i] else " ✗")
    image = found.images[i]
    pictures = [Picture(grey_picture(image, *stretch_limits(image[None])), name, note)]
    target: NDArray[np.bool_] | None = None
    if k is not None and found.where is not None:
        target = found.where.change[k]
        change = difference_picture(found.where.signed[k], CHANGE_LIMIT)
        d = found.where.d_prime[k]
        pictures.append(Picture(change, f"change in {name}", f"d' {d:.0f}"))
    for method, maps in found.maps.items():
        hit = ""
        if target is not None:
            hit = "hit" if target.flat[maps[i].argmax()] else "miss"
        pictures.append(Picture(heat_picture(maps[i], target), f"{method} of {name}", hit))
    return PictureRow(name, tuple(pictures))
