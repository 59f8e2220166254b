"""The chapter about scored files: a card for each score, a row for each rejection."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core.errors import ScoringError
from pipeline.inference.images import RawImage
from pipeline.inference.read_item import read_raw
from pipeline.inference.score import NOTE
from pipeline.inference.search import Found, find_images
from pipeline.report.page import Picture, ScoreCard, ScoreCards, Section, Table
from pipeline.report.pictures import thumbnail

#: Most cards and rejected files a page shows; the rest is counted.
MAX_CARDS, MAX_REJECTED = 60, 100
#: Flag of the table -> what it means.
FLAGS = {
    "ood": "unlike anything the network was trained or validated on",
    "resampled": "brought to the network's pixel scale",
    "repaired": "a few missing pixels were filled in",
    "masked": "pixels that a mask, weight or error map calls bad were left out and filled in",
    "mask_ignored": "a mask or weight map leaves next to nothing, so it was not used",
    "psf_differs": "the point-spread function is not as wide as in the training images",
    "lens_light": "a smooth model of the lens galaxy's light was subtracted",
    "low_snr": "hardly anything stands out of the noise",
    "coarse_pixels": "pixels too coarse for what the network looks for",
    "pixel_scale_unknown": "the header does not say how large a pixel is, so none was resampled",
    "unit_unknown": "the network needs the unit, and the header does not say it",
    "anisotropic_pixels": "pixels that are not square",
    "picture": "a picture made for the eye: its brightness was stretched, its colours are averaged",
    "companion": "named like a noise map or a PSF",
    "hdu_choice": "the file holds other images too",
    "bad_header": "part of the header cannot be read",
    "checksum": "the file does not match its own checksum",
    "truncated_file": "the file ends early, behind the picture",
    "cropped": "larger than the network's field; its middle was taken",
    "padded": "smaller than the network's field; empty sky was put around it",
}

Row = Mapping[str, Any]  # Any: text, number or None, by column


@dataclass(frozen=True)
class Scores:
    """A table of scores; ``files`` are the images it is about, by their name in the table."""

    path: Path
    rows: tuple[Row, ...]
    class_names: tuple[str, ...]
    checkpoint_sha256: str
    files: Mapping[str, Found] = field(default_factory=dict)
    population: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON values

    @property
    def scored(self) -> tuple[Row, ...]:
        """Rows with a score."""
        return tuple(row for row in self.rows if row["status"] == "scored")

    @property
    def rejected(self) -> tuple[Row, ...]:
        """Rows without one."""
        return tuple(row for row in self.rows if row["status"] != "scored")


def read_scores(path: Path, images: Path | None = None) -> Scores:
    """Read a table that ``deeplense score`` wrote.

    Parameters
    ----------
    path : Path
        ``.ecsv``, ``.csv``, ``.fits``, ``.vot`` or ``.parquet``.
    images : Path, optional
        The folder that was scored, for pictures.

    Raises
    ------
    ScoringError
        If it is missing, unreadable or no table of scores.
    """
    if not path.is_file():
        raise ScoringError(f"{path}: no such table of scores")
    try:
        rows, meta = _read_parquet(path) if path.suffix == ".parquet" else _read_table(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScoringError(f"{path}: cannot be read as a table of scores: {error}") from error
    if rows and not {"path", "status", "reason"} <= rows[0].keys():
        raise ScoringError(f"{path}: no table of scores: it lacks path, status and reason")
    columns = rows[0].keys() if rows else ()
    files = {} if images is None else {f.name: f for f in find_images([images]).files}
    return Scores(
        path,
        tuple(rows),
        tuple(n.removeprefix("p_") for n in columns if n.startswith("p_") and n != "p_spread"),
        str(meta.get("checkpoint_sha256") or meta.get("CKPTSHA") or "unknown"),
        files,
        meta.get("population") or {},
    )


def scores_section(scores: Scores) -> Section:
    """Show scored and rejected files.

    Parameters
    ----------
    scores : Scores

    Returns
    -------
    Section
    """
    scored, rejected = scores.scored, scores.rejected
    doubtful = sum(not row["trusted"] for row in scored)
    lead = (
        f"{len(scores.rows):,} files: {len(scored):,} scored, {len(rejected):,} rejected. "
        f"{doubtful:,} of the scores should not be believed; their cards have a border and say "
        f"why. {NOTE}{_population(scores.population)}"
    )
    blocks: list[ScoreCards | Table] = []
    if scored:
        blocks.append(_cards(scores, scored))
    if rejected:
        blocks.append(_rejections(rejected))
    return Section("Scored images", lead, tuple(blocks))


def _population(found: Mapping[str, Any]) -> str:  # Any: JSON values
    """The fractions of the classes in a sentence, or why there are none."""
    if "refused" in found:
        return f" No fractions of the classes are given: {found['refused']}."
    if "fractions" not in found:
        return ""
    shares = ", ".join(
        f"{name} {100 * mean:.0f} % ({100 * low:.0f} to {100 * high:.0f})"
        for name, (mean, low, high) in found["fractions"].items()
    )
    return (
        f" Fractions of the classes with 90 % intervals, corrected by the confusion measured on "
        f"simulations and true only for images like them: {shares}."
    )


def _cards(scores: Scores, scored: tuple[Row, ...]) -> ScoreCards:
    cards = tuple(_card(scores, row) for row in scored[:MAX_CARDS])
    met = [flag for flag in FLAGS if any(flag in card.flags for card in cards)]
    meanings = "".join(f" “{flag}”: {FLAGS[flag]}." for flag in met)
    left = len(scored) - len(cards)
    more = f" {left:,} more are in {scores.path.name}." if left else ""
    return ScoreCards(
        cards,
        "Calibrated probability of each class. Novelty is the share of validation images that are "
        "less unusual than this one. Pictures have a stretch of their own, so brightness cannot be "
        f"compared between them.{meanings}{more}",
    )


def _card(scores: Scores, row: Row) -> ScoreCard:
    item = scores.files.get(row["path"])
    raw, digest = read_raw(item) if item is not None else (None, None)
    is_same = isinstance(raw, RawImage) and digest == row["input_sha256"]
    picture = Picture(thumbnail(raw.data[0]), row["path"]) if is_same else None  # type: ignore[union-attr]
    return ScoreCard(
        name=row["path"],
        picture=picture,
        probabilities=tuple((name, float(row[f"p_{name}"])) for name in scores.class_names),
        label=str(row["label"]) if scores.class_names else _estimate(row),
        trusted=bool(row["trusted"]),
        flags=tuple(str(row["flags"] or "").split(",")) if row["flags"] else (),
        truth=_truth(item.path, scores.class_names) if is_same and item is not None else "",
        note=f"novelty {float(row['novelty']):.2f}",
    )


def _rejections(rejected: tuple[Row, ...]) -> Table:
    counts = Counter(str(row["reason"]) for row in rejected).most_common()
    total = ", ".join(f"{n:,} {reason}" for reason, n in counts)
    left = len(rejected) - MAX_REJECTED
    return Table(
        ("rejected file", "reason", "what is wrong"),
        tuple((row["path"], row["reason"], row["detail"] or "") for row in rejected[:MAX_REJECTED]),
        f"No score is better than a wrong one. Reasons: {total}."
        + (f" {left:,} more files are not listed here." if left > 0 else ""),
    )


def _estimate(row: Row) -> str:
    """A measured quantity with its error, for networks that measure rather than classify."""
    for name, value in row.items():
        error = row.get(f"{name}_std")
        if error is not None and value is not None:
            return f"{name} {float(value):.2f} ± {float(error):.2f}"
    return ""


def _truth(path: Path, class_names: tuple[str, ...]) -> str:
    """Class that a simulated file's header says it is, ``TRUTH``; empty otherwise."""
    from astropy.io import fits  # type: ignore[import-untyped]

    try:
        value = fits.getheader(path, 0).get("TRUTH")
    except (OSError, ValueError, TypeError, IndexError):
        return ""
    return value if value in class_names else ""


def _read_table(path: Path) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:  # Any: as in Row
    from astropy.table import Table as AstropyTable  # type: ignore[import-untyped]

    formats = {".ecsv": "ascii.ecsv", ".csv": "ascii.csv", ".fits": "fits", ".vot": "votable"}
    if path.suffix not in formats:
        raise ValueError(f"suffix {path.suffix!r}; known: {', '.join(formats)}, .parquet")
    table = AstropyTable.read(path, format=formats[path.suffix])
    rows = [{name: _plain(row[name]) for name in table.colnames} for row in table]
    if path.suffix != ".csv" or "path" not in table.colnames:
        return rows, table.meta
    for row in rows:  # CSV has no types and no header
        row["path"] = str(row["path"])
        row["trusted"] = row.get("trusted") == "True"
    return rows, {"checkpoint_sha256": rows[0].get("checkpoint_sha256")} if rows else {}


def _read_parquet(path: Path) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:  # Any: as in Row
    import json

    from pyarrow import parquet  # type: ignore[import-untyped]

    table = parquet.read_table(path)
    meta = json.loads((table.schema.metadata or {}).get(b"deeplense", b"{}"))
    return table.to_pylist(), meta


def _plain(value: Any) -> Any:  # Any: an astropy cell
    """Cell as text, number or bool; None where it is masked, empty or not finite."""
    import numpy as np

    if value is np.ma.masked:
        return None
    item = value.item() if hasattr(value, "item") else value
    item = item.decode() if isinstance(item, bytes) else item
    if isinstance(item, float) and not math.isfinite(item):
        return None
    return None if item == "" else item
