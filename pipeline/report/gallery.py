"""A page of thumbnails for a table of scores: one file, sorted by any column, ten thousand rows.

The page keeps its rows as data and draws only those in view. Thumbnails are what the network saw;
beside them, for the first images, is the saliency: how much each pixel moves the answer (the
explanation ``gradient``; networks without a gradient have none). The size of the page is bounded:
where thumbnails would not fit, rows go without, and the page says how many.
"""

import base64
import io
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import ExplanationError
from pipeline.core.files import atomic_write
from pipeline.inference.images import ReadOptions
from pipeline.inference.prepare import Prepared
from pipeline.inference.readers import default_workers
from pipeline.inference.score import NOTE, iter_prepared
from pipeline.report.pictures import stretch_limits
from pipeline.report.scores_section import FLAGS, Row, read_scores

if TYPE_CHECKING:
    from pipeline.checkpoint.any_run import AnyRun
    from pipeline.checkpoint.load import Run

#: Bytes of pictures on a page.
MAX_PICTURE_BYTES = 24 * 2**20
#: Side of a thumbnail, pixels: of a page of up to ``FEW`` rows, and of a longer one.
SIDE, SMALL_SIDE, FEW = 96, 48, 1000
#: Images with saliency, which costs a backward pass each.
MAX_SALIENCY = 2000
_BATCH = 32
#: Columns shown on a card or to sort by, where the table has them.
_COLUMNS = ("path", "status", "reason", "detail", "label", "entropy", "novelty", "trusted", "flags",
            "snr", "sky_rms", "masked_fraction", "pixel_scale", "psf_fwhm", "ra", "dec", "hdu",
            "band", "p_spread")  # fmt: skip


def build_gallery(
    out: Path,
    scores: Path,
    run: Path | Sequence[Path],
    images: Sequence[Path | str],
    *,
    options: ReadOptions | None = None,
    catalogue: Path | None = None,
    workers: int | None = None,
    device: str = "cpu",
) -> Path:
    """Write the gallery of a table of scores.

    Parameters
    ----------
    out : Path
        HTML file.
    scores : Path
        Table that ``deeplense score`` wrote.
    run : Path or sequence of Path
        Its run folder; of an ensemble the first sees and explains the images. An exported network
        sees them, but explains nothing.
    images : sequence of Path or str
        What was scored.
    options, catalogue, workers, device
        As they were for scoring.

    Returns
    -------
    Path
        ``out``.
    """
    from pipeline.checkpoint.any_run import load_run

    table = read_scores(scores)
    first = run if isinstance(run, Path | str) else run[0]
    loaded = load_run(first, device=device)
    pictures = _pictures(
        loaded, table.rows, images, options=options, catalogue=catalogue,
        workers=default_workers() if workers is None else workers,
    )  # fmt: skip
    atomic_write(out, _page(scores, table.rows, pictures, table.checkpoint_sha256))
    return out


def _pictures(
    run: "AnyRun",
    rows: Sequence[Row],
    images: Sequence[Path | str],
    *,
    options: ReadOptions | None,
    catalogue: Path | None,
    workers: int,
) -> dict[str, tuple[str, str]]:
    """Thumbnail and saliency (base64 of a JPEG, or empty) by name of the row."""
    scored = {row["path"] for row in rows if row["status"] == "scored"}
    side = SIDE if len(scored) <= FEW else SMALL_SIDE
    found: dict[str, tuple[str, str]] = {}
    n_bytes = 0
    seen = (
        (name, image)
        for name, _, image in iter_prepared(
            run, images, options=options, catalogue=catalogue, workers=workers
        )
        if name in scored and isinstance(image, Prepared)
    )
    for batch in _batches(seen):
        maps: list[NDArray[np.float64] | None] = [None] * len(batch)
        if len(found) < MAX_SALIENCY:
            maps = _saliency(run, np.stack([image.image for _, image in batch]))
        for (name, image), heat in zip(batch, maps, strict=True):
            shown = image.image[0].astype(np.float64)
            thumb = _jpeg(_stretched(shown), side)
            hot = "" if heat is None else _jpeg(heat, min(side, 64))
            n_bytes += len(thumb) + len(hot)
            if n_bytes > MAX_PICTURE_BYTES:
                return found
            found[name] = (thumb, hot)
    return found


def _batches(
    items: Iterator[tuple[str, Prepared]],
) -> Iterator[list[tuple[str, Prepared]]]:
    while batch := list(islice(items, _BATCH)):
        yield batch


def _saliency(run: "AnyRun", images: NDArray[np.float32]) -> list[NDArray[np.float64] | None]:
    """Map of each image (B, C, H, W), or None for networks that have no gradient."""
    if run.file_sha256 is not None:  # an exported network
        return [None] * len(images)
    from pipeline.explain.maps import explain

    try:
        return list(explain(cast("Run", run), images, "gradient"))
    except ExplanationError:
        return [None] * len(images)


def _stretched(image: NDArray[np.float64]) -> NDArray[np.float64]:
    black, white = stretch_limits(image[None])
    scaled = np.clip((image - black) / (white - black), 0.0, 1.0)
    return np.asarray(np.arcsinh(6.0 * scaled) / np.arcsinh(6.0))


def _jpeg(values: NDArray[np.float64], side: int) -> str:
    """Grey JPEG of values in [0, 1], row 0 at the bottom, as base64."""
    from PIL import Image

    grey = Image.fromarray((255 * np.nan_to_num(values[::-1])).astype(np.uint8))
    if max(grey.size) > side:
        grey = grey.resize((side, side), Image.Resampling.BOX)
    buffer = io.BytesIO()
    grey.save(buffer, format="JPEG", quality=72)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _page(
    scores: Path, rows: Sequence[Row], pictures: dict[str, tuple[str, str]], sha256: str
) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    present = rows[0].keys() if rows else ()
    names = [c for c in present if c in _COLUMNS or c.startswith(("p_", "log10_"))]
    data = {
        "columns": {name: [_cell(row.get(name)) for row in rows] for name in names},
        "thumbs": [pictures.get(str(row["path"]), ("", ""))[0] for row in rows],
        "heat": [pictures.get(str(row["path"]), ("", ""))[1] for row in rows],
        "meanings": FLAGS,
        "classes": [n.removeprefix("p_") for n in names if n.startswith("p_") and n != "p_spread"],
    }
    environment = Environment(
        loader=PackageLoader("pipeline.report", "templates"), autoescape=True,
        undefined=StrictUndefined,
    )  # fmt: skip
    n_scored = sum(row["status"] == "scored" for row in rows)
    return environment.get_template("gallery.html.j2").render(
        title=scores.name,
        n_rows=len(rows),
        n_scored=n_scored,
        n_without=n_scored - len(pictures),
        note=NOTE,
        checkpoint=sha256,
        data=_embedded(data),
    )


def _embedded(data: Any) -> Any:  # Any: JSON data; markup that is safe inside a script element
    from markupsafe import Markup

    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))


def _cell(value: Any) -> Any:  # Any: a cell of the table
    return round(value, 6) if isinstance(value, float) else value
