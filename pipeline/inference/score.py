"""Score FITS files with a trained run: stream, batch, one row per file whatever happens."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.files import require_writable_parent
from pipeline.core.logs import get_logger, progress
from pipeline.core.provenance import package_versions
from pipeline.inference.catalogue import Catalogue
from pipeline.inference.images import Rejection
from pipeline.inference.prepare import Prepared, Target
from pipeline.inference.readers import Outcome, default_workers, read_all
from pipeline.inference.search import Search, find_images
from pipeline.inference.writers import require_format, write_catalogue

if TYPE_CHECKING:
    from pipeline.checkpoint.load import Run

FORMAT = "deeplense-scores"
FORMAT_VERSION = 1
_LOGGER = get_logger("score")


@dataclass(frozen=True)
class ScoreSummary:
    """What a scoring run did; ``reasons`` counts the rejected files by reason."""

    files: int
    rows: int
    scored: int
    rejected: int
    reasons: dict[str, int]
    seconds: float
    files_per_second: float
    out: str | None


def run_scoring(
    run: Path,
    inputs: Sequence[Path | str],
    out: Path | None,
    *,
    workers: int | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    hdu: str | None = None,
) -> ScoreSummary:
    """Score files and write the table.

    Parameters
    ----------
    run : Path
        Run folder of a checkpoint.
    inputs : sequence of Path or str
        Files, folders (searched recursively), globs, ``@FILE`` with one path a line.
    out : Path or None
        ``.ecsv``, ``.fits``, ``.csv`` or ``.parquet``; None writes nothing.
    workers : int, optional
        Reader processes; 0 reads in this process. By default as many as pay off.
    batch_size : int
    device : str
    hdu : str, optional
        HDU to take from every file, instead of choosing by name.

    Returns
    -------
    ScoreSummary

    Raises
    ------
    ScoringError
        If an input does not exist or nothing is found.
    CheckpointError, ConfigError, OutputError, MissingExtraError
        Before any file is read.
    """
    from pipeline.checkpoint.load import load_run

    start = time.perf_counter()
    if out is not None:
        require_format(Path(out))
        require_writable_parent(Path(out))
    search = find_images(inputs)
    loaded = load_run(run, device=device)
    catalogue = _score(loaded, search, workers=workers, batch_size=batch_size, hdu=hdu)
    if out is not None:
        write_catalogue(catalogue, _meta(loaded, search, catalogue), Path(out))
    return _summary(catalogue, time.perf_counter() - start, out)


def score_table(
    run: "Run",
    inputs: Sequence[Path | str],
    *,
    workers: int | None = None,
    batch_size: int = 64,
    hdu: str | None = None,
) -> Any:  # an astropy Table; astropy carries no types
    """Scores of files as an ``astropy.table.Table``, for a run that is loaded already."""
    search = find_images(inputs)
    catalogue = _score(run, search, workers=workers, batch_size=batch_size, hdu=hdu)
    return catalogue.table(_meta(run, search, catalogue))


def iter_prepared(
    run: "Run", inputs: Sequence[Path | str], *, hdu: str | None = None
) -> Iterator[tuple[str, Path, Prepared | Rejection]]:
    """Name in the table, path and what the network sees of each file, e.g. for thumbnails."""
    target = Target.of(run.preprocess)
    files = find_images(inputs).files
    readable = (item.path for item in files if item.problem is None)
    outcomes = read_all(list(readable), target, hdu=hdu)
    for item in files:
        yield item.name, item.path, item.problem or next(outcomes).image


def _score(
    run: "Run", search: Search, *, workers: int | None, batch_size: int, hdu: str | None
) -> Catalogue:
    files = search.files
    if search.n_skipped:
        _LOGGER.info("%d files are not FITS by name and were left out", search.n_skipped)
    catalogue = Catalogue([item.name for item in files], run.class_names, run.spec.targets)
    readable = [row for row, item in enumerate(files) if item.problem is None]
    for row, item in enumerate(files):
        if item.problem is not None:
            catalogue.reject(row, item.problem)
    outcomes = read_all(
        [files[row].path for row in readable],
        Target.of(run.preprocess),
        hdu=hdu,
        workers=default_workers(len(readable)) if workers is None else workers,
    )
    with progress("scoring", len(readable), "files") as advance:
        for batch in _batches(zip(readable, outcomes, strict=True), catalogue, batch_size):
            if batch.rows:
                images = np.stack([image.image for image in batch.images])  # (B, C, H, W)
                catalogue.score(batch.rows, batch.images, run.predict(images))
            advance(batch.n_files)
    return catalogue


@dataclass
class _Batch:
    rows: list[int]
    images: list[Prepared]
    n_files: int = 0


def _batches(
    outcomes: Iterator[tuple[int, Outcome]], catalogue: Catalogue, batch_size: int
) -> Iterator[_Batch]:
    """Images for the network, ``batch_size`` at a time; rejections go straight to their rows."""
    batch = _Batch([], [])
    for row, outcome in outcomes:
        catalogue.note(row, hdu=outcome.hdu, sha256=outcome.sha256)
        batch.n_files += 1
        if isinstance(outcome.image, Rejection):
            catalogue.reject(row, outcome.image)
        else:
            batch.rows.append(row)
            batch.images.append(outcome.image)
        if len(batch.rows) == batch_size:
            yield batch
            batch = _Batch([], [])
    yield batch


def _meta(run: "Run", search: Search, catalogue: Catalogue) -> dict[str, Any]:  # YAML-able values
    n_scored = int(catalogue.columns["scored"].sum())
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "checkpoint_sha256": run.sha256,
        "dataset_sha256": run.spec.dataset_sha256,
        "files": len(catalogue.names),
        "scored": n_scored,
        "rejected": len(catalogue.names) - n_scored,
        "skipped": search.n_skipped,
        "versions": package_versions(),
    }


def _summary(catalogue: Catalogue, seconds: float, out: Path | None) -> ScoreSummary:
    n_files, n_scored = len(catalogue.names), int(catalogue.columns["scored"].sum())
    return ScoreSummary(
        files=n_files,
        rows=n_files,
        scored=n_scored,
        rejected=n_files - n_scored,
        reasons=catalogue.reasons,
        seconds=round(seconds, 3),
        files_per_second=round(n_files / max(seconds, 1e-9), 1),
        out=None if out is None else str(out),
    )
