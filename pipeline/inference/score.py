"""Score images with trained runs: stream, batch, one row per item whatever happens."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import ConfigError
from pipeline.core.files import atomic_path, require_writable_parent
from pipeline.core.provenance import package_versions, sha256_hex
from pipeline.inference.catalogue import Catalogue
from pipeline.inference.images import ReadOptions, Rejection
from pipeline.inference.job import ScoringJob
from pipeline.inference.journal import Journal
from pipeline.inference.readers import TIMEOUT, ReaderPool, default_workers
from pipeline.inference.search import Found, Search, find_images
from pipeline.inference.target import Target
from pipeline.inference.window import check_center
from pipeline.inference.writers import require_format, write_catalogue

if TYPE_CHECKING:
    from pipeline.checkpoint.any_run import AnyRun
    from pipeline.inference.ensemble import Ensemble
    from pipeline.inference.prepare import Prepared

FORMAT = "deeplense-scores"
#: 2: columns of the image (band, centre, sky position, unit, noise), quantiles, ensembles.
FORMAT_VERSION = 2


@dataclass(frozen=True)
class ScoreSummary:
    """What a scoring run did; ``reasons`` counts the rejected files by reason.

    ``population`` holds the fraction of each class with its interval, or why there is none.
    """

    files: int
    rows: int
    scored: int
    rejected: int
    reasons: dict[str, int]
    seconds: float
    files_per_second: float
    out: str | None
    resumed: int = 0
    population: dict[str, Any] = field(default_factory=dict)  # Any: JSON values


def run_scoring(
    run: Path | Sequence[Path],
    inputs: Sequence[Path | str],
    out: Path | None,
    *,
    workers: int | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    hdu: str | None = None,
    options: ReadOptions | None = None,
    symmetries: int | None = None,
    catalogue: Path | None = None,
    explain: Path | None = None,
    timeout: float = TIMEOUT,
    part: tuple[int, int] | None = None,
) -> ScoreSummary:
    """Score files and write the table; called again after a kill, go on where it was.

    Parameters
    ----------
    run : Path or sequence of Path
        Run folder of a checkpoint, or a network that was exported from one; several are scored as
        one ensemble.
    inputs : sequence of Path or str
        Files, folders (searched recursively), globs, ``@FILE`` with one path a line, Zarr datasets.
    out : Path or None
        ``.ecsv``, ``.fits``, ``.vot``, ``.csv`` or ``.parquet``; None writes nothing.
    workers : int, optional
        Reader processes; 0 reads in this process. By default all cores but one, at least one.
    batch_size : int
        Images in one pass of a network, symmetric copies included.
    device : str
    hdu : str, optional
        HDU to take from every file, instead of choosing by name.
    options : ReadOptions, optional
        Everything else that can be asked for.
    symmetries : int, optional
        8 averages over the symmetries of the square, 1 does not; by default 8 where the network
        was trained on turned and mirrored images.
    catalogue : Path, optional
        Table of positions; the inputs are then mosaics, and each line becomes a row.
    explain : Path, optional
        JSON lines to write: every step of the preparation of every image.
    timeout : float
        Seconds a file may take in a reader process.
    part : tuple of int, optional
        ``(k, n)``: only the k-th (from 1) of n parts, whose rows stay beside ``out`` until a call
        without ``part`` makes the table of them all.

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
    start = time.perf_counter()
    options = _checked(options, hdu, explain, out, part)
    if out is not None:
        require_format(Path(out))
        require_writable_parent(Path(out))
    paths = [run] if isinstance(run, Path | str) else list(run)
    bands = _bands(paths[0])
    search = _search(inputs, catalogue, bands, options)
    if part is not None:
        search = _slice(search, part)
    from pipeline.inference.ensemble import load_ensemble

    target = _target(paths[0])
    n_workers = default_workers() if workers is None else workers
    with ReaderPool(n_workers, target, options, timeout=timeout) as pool:
        ensemble = load_ensemble(
            [Path(path) for path in paths],
            device=device, symmetries=symmetries, batch_size=batch_size,
        )  # fmt: skip
        job = ScoringJob(ensemble, search, pool, options)
        if out is None:
            table, resumed = job.run(None), 0
            population = _population(ensemble, table)
        else:
            identity = _identity(ensemble, options, catalogue)
            label = "" if part is None else f"{part[0]:04d}-of-{part[1]:04d}"
            with Journal(Path(out), identity, label) as journal:
                table = job.run(journal)
                resumed = job.n_resumed
                population = _population(ensemble, table) if part is None else {}
                if part is None:
                    meta = _meta(ensemble, search, table, population)
                    write_catalogue(table, meta, Path(out))
                    if explain is not None:
                        _write_explanations(journal, search.files, explain)
                    journal.discard_all()
    return _summary(table, time.perf_counter() - start, out, resumed, population)


def score_table(
    run: "AnyRun | Ensemble",
    inputs: Sequence[Path | str],
    *,
    workers: int = 0,
    batch_size: int = 64,
    hdu: str | None = None,
    options: ReadOptions | None = None,
) -> Any:  # an astropy Table; astropy carries no types
    """Scores of files as an ``astropy.table.Table``, for a run that is loaded already."""
    from pipeline.inference.ensemble import Ensemble

    ensemble = run if isinstance(run, Ensemble) else Ensemble([run], batch_size=batch_size)
    options = _checked(options, hdu, None, None, None)
    target = Target.of_run(ensemble.runs[0])
    search = find_images(inputs, len(target.bands))
    with ReaderPool(workers, target, options) as pool:
        table = ScoringJob(ensemble, search, pool, options).run(None)
    return table.table(_meta(ensemble, search, table, _population(ensemble, table)))


def iter_prepared(
    run: "AnyRun",
    inputs: Sequence[Path | str],
    *,
    hdu: str | None = None,
    workers: int = 0,
    options: ReadOptions | None = None,
    catalogue: Path | None = None,
) -> Iterator[tuple[str, Path, "Prepared | Rejection"]]:
    """Name in the table, path and what the network sees of each item, e.g. for thumbnails."""
    target = Target.of_run(run)
    options = options or ReadOptions(hdu=hdu)
    files = _search(inputs, catalogue, target.bands, options).files
    with ReaderPool(workers, target, options) as pool:
        for item, outcome in zip(files, pool.read(files), strict=True):
            yield item.name, item.path, outcome.image


def _write_explanations(journal: Journal, files: Sequence[Found], path: Path) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for row, values in journal.finished(files):
            line = {"path": files[row].name, "steps": values.get("steps", [])}
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def _checked(
    options: ReadOptions | None,
    hdu: str | None,
    explain: Path | None,
    out: Path | None,
    part: tuple[int, int] | None,
) -> ReadOptions:
    from dataclasses import replace

    options = options or ReadOptions()
    check_center(options.center)
    if explain is not None and out is None:
        raise ConfigError("an explanation is written together with a table: give --out")
    if part is not None and (out is None or not 1 <= part[0] <= part[1]):
        raise ConfigError(f"part {part[0]} of {part[1]}: expected 1 <= k <= n, and a table to make")
    return replace(options, hdu=hdu or options.hdu, explain=options.explain or explain is not None)


def _bands(run: Path) -> tuple[str, ...]:
    from pipeline.checkpoint.spec import read_spec

    bands: tuple[str, ...] = read_spec(Path(run)).preprocess.bands
    return bands


def _target(run: Path) -> Target:
    from pipeline.checkpoint.spec import read_spec

    return Target.of_folder(Path(run), read_spec(Path(run)).preprocess)


def _search(
    inputs: Sequence[Path | str],
    catalogue: Path | None,
    bands: tuple[str, ...],
    options: ReadOptions,
) -> Search:
    search = find_images(inputs, len(bands))
    if catalogue is None:
        return search
    from pipeline.inference.mosaic import find_cutouts
    from pipeline.inference.sky_catalogue import read_sky_catalogue

    positions = read_sky_catalogue(Path(catalogue))
    mosaics = [item for item in search.files if item.part is None]
    return Search(
        tuple(find_cutouts(positions, mosaics, bands, options)), search.root, search.n_skipped
    )


def _slice(search: Search, part: tuple[int, int]) -> Search:
    """The k-th of n parts of almost equal size."""
    k, n = part
    borders = [len(search.files) * i // n for i in (k - 1, k)]
    return Search(search.files[borders[0] : borders[1]], search.root, search.n_skipped)


def _identity(
    ensemble: "Ensemble", options: ReadOptions, catalogue: Path | None
) -> dict[str, Any]:  # Any: JSON values
    content = "" if catalogue is None else sha256_hex(Path(catalogue).read_bytes())
    return {
        "checkpoint": ensemble.sha256,
        "onnx": [run.file_sha256 for run in ensemble.runs],
        "symmetries": ensemble.symmetries,
        "images": ensemble.n_images,
        "options": vars(options),
        "catalogue": content,
        "versions": package_versions(),
        "format_version": FORMAT_VERSION,
    }


def _population(ensemble: "Ensemble", table: Catalogue) -> dict[str, Any]:  # Any: JSON values
    from pipeline.inference.population import estimate_population

    return estimate_population(ensemble.runs, table)


def _meta(
    ensemble: "Ensemble",
    search: Search,
    table: Catalogue,
    population: Mapping[str, Any],  # Any: JSON values
) -> dict[str, Any]:  # Any: YAML-able values
    meta = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "checkpoint_sha256": ensemble.sha256,
        "dataset_sha256": ensemble.runs[0].spec.dataset_sha256,
        "symmetries": ensemble.symmetries,
        "files": len(table.names),
        "scored": table.n_scored,
        "rejected": len(table.names) - table.n_scored,
        "skipped": search.n_skipped,
        "population": dict(population),
        "note": NOTE,
        "versions": package_versions(),
    }
    if len(ensemble.runs) > 1:
        meta["checkpoints"] = [run.sha256 for run in ensemble.runs]
    exported = [run.file_sha256 for run in ensemble.runs if run.file_sha256 is not None]
    if exported:
        meta["onnx_sha256"] = exported
    return meta


#: What every table says of itself.
NOTE = (
    "No real image carries a true substructure label: classes and masses of real lenses are "
    "extrapolations from simulations."
)


def _summary(
    table: Catalogue,
    seconds: float,
    out: Path | None,
    resumed: int,
    population: dict[str, Any],  # Any: JSON values
) -> ScoreSummary:
    n_files = len(table.names)
    return ScoreSummary(
        files=n_files,
        rows=n_files,
        scored=table.n_scored,
        rejected=n_files - table.n_scored,
        reasons=table.reasons,
        seconds=round(seconds, 3),
        files_per_second=round((n_files - resumed) / max(seconds, 1e-9), 1),
        out=None if out is None else str(out),
        resumed=resumed,
        population=population,
    )
