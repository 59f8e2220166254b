"""Fit smooth lenses to a dataset or to FITS files: a table, a page, and what networks are given.

Work goes shard by shard into a folder, beside the table or in the dataset, so that a run that was
killed goes on where it was; the table is written last.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.config import config_sha256, dump, hint
from pipeline.core.errors import ConfigError
from pipeline.core.files import PARTIAL, atomic_path, require_writable_parent
from pipeline.core.logs import progress
from pipeline.core.provenance import canonical_json, package_versions, sha256_hex
from pipeline.fit.config import FitConfig, load_fit_config
from pipeline.fit.fitter import Fitter
from pipeline.fit.noise import Noise
from pipeline.fit.parameters import merged_priors
from pipeline.fit.result import Fits, Status
from pipeline.fit.store import FOLDER, FORMAT, FORMAT_VERSION, FitStore
from pipeline.physics.instrument import Instrument, load_instrument

if TYPE_CHECKING:
    from pipeline.dataset.store import Dataset

#: Suffixes that the table of fits can have.
SUFFIXES = (".ecsv", ".fits", ".csv")
#: FITS files that are read, fitted and kept at a time.
FILES_AT_ONCE = 64
#: Pixels along the side of the field that is fitted of a FITS image.
DEFAULT_SIZE = 80
_ELECTRON_RATES = frozenset({"electron/s", "electrons/s", "e-/s", "e/s", "electron s-1"})


@dataclass(frozen=True)
class FitSummary:
    """What a run of fits did."""

    images: int
    good: int
    poor: int
    failed: int
    seconds: float
    images_per_second: float
    chi2_median: float
    out: str | None
    page: str | None = None
    stored: str | None = None
    resumed: int = 0


@dataclass(frozen=True)
class _Job:
    """What is fitted: names, and batches of images with their noise by shard."""

    config: FitConfig
    instruments: tuple[Instrument, ...]
    n_pix: int
    names: tuple[str, ...]
    shard_size: int
    origin: Mapping[str, Any]  # Any: plain data that identify the images
    read: Callable[[slice], "_Images"]


@dataclass(frozen=True)
class _Images:
    """Images (n, C, H, W) in one unit each, their noise, and why some cannot be fitted."""

    images: NDArray[np.float32]
    noise: Noise
    rejected: tuple[str, ...]


def run_fit(
    inputs: Sequence[Path],
    out: Path | None,
    *,
    config: str | Path = "epl",
    instrument: str | None = None,
    page: Path | None = None,
    store: bool = False,
    size: int = DEFAULT_SIZE,
    batch_size: int = 64,
    overrides: Sequence[str] = (),
) -> FitSummary:
    """Fit a smooth lens to every image.

    Parameters
    ----------
    inputs : sequence of Path
        One dataset, or FITS files, folders and globs.
    out : Path or None
        Table, ``.ecsv``, ``.fits`` or ``.csv``.
    config : str or Path
        Preset of ``sim_params/fit`` or a YAML file. The priors of a simulated dataset's own preset
        stand in for those that it does not name.
    instrument : str, optional
        Telescope and band of FITS files: their PSF and noise.
    page : Path, optional
        HTML page of image, model and residual.
    store : bool
        Keep models and residuals in the dataset, for networks.
    size : int
        Pixels along the field that is fitted of FITS images.
    batch_size : int
    overrides : sequence of str
        ``"key.key=value"`` of the configuration.

    Raises
    ------
    ConfigError
        If the inputs do not fit together, before anything is fitted.
    DatasetMismatchError
        If other fits are stored or half done there.
    """
    start = time.perf_counter()
    _check_outputs(out, page)
    fit = load_fit_config(config, overrides)
    datasets = [path for path in inputs if path.suffix == ".zarr"]
    if datasets and len(inputs) > 1:
        raise ConfigError("expected one dataset, or FITS files, found both or several datasets")
    if store and not datasets:
        raise ConfigError("--store keeps fits in a dataset; the inputs are files")
    job = _dataset_job(datasets[0], fit) if datasets else _files_job(inputs, fit, instrument, size)
    folder = datasets[0] / FOLDER if store else _scratch(out, inputs)
    kept, n_before = _fit_all(job, folder, batch_size)
    fits = kept.all_fits(pixels=False)
    if out is not None:
        _write_table(job, fits, out)
    if page is not None:
        from pipeline.report.fit_page import write_fit_page

        def image_of(k: int) -> NDArray[np.float32]:
            return np.asarray(job.read(slice(k, k + 1)).images[0])

        write_fit_page(job.names, image_of, kept, page)
    if not store:
        shutil.rmtree(folder, ignore_errors=True)
    return _summary(
        fits, time.perf_counter() - start, n_before, out, page, folder if store else None
    )


def _check_outputs(out: Path | None, page: Path | None) -> None:
    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"{out}: cannot write a table with suffix {out.suffix or 'none'!r}"
            f"{hint(out.suffix, SUFFIXES)}"
        )
    for path in (out, page):
        if path is not None:
            require_writable_parent(path)


def dataset_fit_config(dataset: "Dataset", config: FitConfig) -> FitConfig:
    """``config`` with the priors and the rays of the preset that simulated the dataset."""
    from pipeline.fit.scene_priors import scene_priors

    simulation = dataset.simulation
    if simulation is None:
        return config
    named = "supersample" in config.model_fields_set
    rays = config.supersample if named else simulation.supersample
    return merged_priors(config, scene_priors(simulation.scenes)).with_changes(supersample=rays)


def _dataset_job(path: Path, config: FitConfig) -> _Job:
    from pipeline.dataset.store import open_dataset

    dataset = open_dataset(path)
    simulation = dataset.require_simulation("a fit, which needs PSF and noise,")
    noise = Noise.of(simulation.instruments)

    def read(rows: slice) -> _Images:
        images = dataset.read_images(rows)
        return _Images(images, noise, ("",) * len(images))

    return _Job(
        config=dataset_fit_config(dataset, config),
        instruments=simulation.instruments,
        n_pix=dataset.image_shape[-1],
        names=tuple(str(k) for k in range(dataset.n_images)),
        shard_size=dataset.shard_size,
        origin={"dataset_sha256": dataset.sha256},
        read=read,
    )


def _files_job(
    inputs: Sequence[Path], config: FitConfig, instrument: str | None, size: int
) -> _Job:
    from pipeline.inference.images import ReadOptions, Rejection
    from pipeline.inference.read_item import read_item
    from pipeline.inference.search import find_images
    from pipeline.inference.target import Target
    from pipeline.physics.instrument import instrument_names

    if instrument is None:
        raise ConfigError(
            "FITS files do not say their PSF and noise: give --instrument, one of "
            f"{', '.join(instrument_names())}"
        )
    telescope = load_instrument(instrument)
    files = find_images(list(inputs)).files
    target = Target((telescope.name,), telescope.pixel_scale, size, is_unit_free=True)

    def read(rows: slice) -> _Images:
        images = np.zeros((len(files[rows]), 1, size, size), np.float32)
        units, rejected = [], []
        for image, item in zip(images, files[rows], strict=True):
            found = read_item(item, target, ReadOptions()).image
            if isinstance(found, Rejection):
                rejected.append(f"{found.reason}: {found.detail}")
                image[:] = np.nan
                units.append("")
                continue
            image[:] = found.image
            rejected.append("")
            units.append("" if found.is_resampled else str(found.facts.get("unit") or ""))
        return _Images(*_measured(images, units, telescope), tuple(rejected))

    return _Job(
        config=config,
        instruments=(telescope,),
        n_pix=size,
        names=tuple(item.name for item in files),
        shard_size=FILES_AT_ONCE,
        origin={"files_sha256": sha256_hex(canonical_json([_stamp(item.path) for item in files]))},
        read=read,
    )


def _stamp(path: Path) -> list[Any]:
    """What changes when a file does; plain data."""
    status = path.stat() if path.exists() else None
    return [str(path), *((status.st_size, status.st_mtime_ns) if status else ())]


def _measured(
    images: NDArray[np.float32], units: Sequence[str], telescope: Instrument
) -> tuple[NDArray[np.float32], Noise]:
    """Images without their sky and their noise: the instrument's in its unit, else the border's."""
    from pipeline.dataset.preprocess import border_statistics

    own = Noise.of((telescope,))
    finite = np.nan_to_num(images, nan=0.0)
    sky, sigma = (np.asarray(a, np.float64) for a in border_statistics(finite))
    known = np.array([unit.strip().lower() in _ELECTRON_RATES for unit in units])[
        :, None, None, None
    ]
    measured = Noise.measured(sigma, (telescope,))
    return (images - sky).astype(np.float32), Noise(
        np.where(known, np.maximum(own.floor, measured.floor), measured.floor),
        np.where(known, own.slope, measured.slope),
    )


def _scratch(out: Path | None, inputs: Sequence[Path]) -> Path:
    """Folder of the work in progress, beside the table."""
    beside = out if out is not None else Path(f"{Path(inputs[0]).stem}-fits")
    return beside.with_name(f".{beside.name}{PARTIAL}")


def _fit_all(job: _Job, folder: Path, batch_size: int) -> tuple[FitStore, int]:
    """Fit the shards that are missing; the store, and how many images were there already."""
    identity = {
        "fit": dump(job.config),
        "fit_sha256": config_sha256(job.config),
        "instruments": [dump(instrument) for instrument in job.instruments],
        "images": dict(job.origin),
    }
    store = FitStore(folder, identity, len(job.names), job.shard_size)
    fitter = Fitter(job.config, job.n_pix, job.instruments, batch_size)
    missing = store.missing()
    n_left = sum(len(range(*store.rows(k).indices(store.n_images))) for k in missing)
    with progress("fitting", n_left, "images") as advance:
        for shard in missing:
            seen = job.read(store.rows(shard))
            fits = fitter.fit(seen.images, seen.noise, advance=advance)
            store.write(shard, _with_rejections(fits, seen.rejected))
    return store, store.n_images - n_left


def _with_rejections(fits: Fits, rejected: Sequence[str]) -> Fits:
    """Fits whose images could not even be read say so."""
    from dataclasses import replace

    reasons = tuple(why or reason for why, reason in zip(rejected, fits.reason, strict=True))
    return replace(fits, reason=reasons)


def _write_table(job: _Job, fits: Fits, out: Path) -> None:
    from astropy.table import Table  # type: ignore[import-untyped]  # heavy

    table = Table()
    for name, values, unit in _columns(job, fits):
        table[name] = values
        if unit:
            table[name].unit = unit
    table.meta = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "fit_sha256": config_sha256(job.config),
        **job.origin,
        "versions": package_versions(),
    }
    kinds = {".ecsv": "ascii.ecsv", ".csv": "ascii.csv", ".fits": "fits"}
    kind = kinds[out.suffix.lower()]
    if kind == "fits":
        table.meta = {k: v for k, v in table.meta.items() if not isinstance(v, dict)}
    with atomic_path(out) as temporary:
        table.write(temporary, format=kind)


def _columns(job: _Job, fits: Fits) -> Iterator[tuple[str, Any, str]]:
    """Name, values and unit of each column of the table."""
    yield "image", np.array(job.names, dtype=str), ""
    yield "status", np.array(fits.status, dtype=str), ""
    yield "reason", np.array(fits.reason, dtype=str), ""
    yield "chi2", fits.chi2, ""
    for k, (name, unit) in enumerate(zip(fits.names, fits.units, strict=True)):
        yield name, fits.values[:, k], unit
        yield f"{name}_error", fits.errors[:, k], unit
    for k, (name, unit) in enumerate((("sigma", ""), ("x", "arcsec"), ("y", "arcsec"))):
        yield f"perturber_{name}", fits.perturber[:, k], unit
    kinds = [f"mass_{length:g}" for length in job.config.response.softenings]
    kinds += [f"rod_{length:g}" for length in job.config.response.half_lengths]
    for k, kind in enumerate(kinds):
        yield f"ln_bayes_{kind}", fits.ln_bayes[:, k], ""
    yield "bic", fits.bic, ""
    yield "log_evidence", fits.log_evidence, ""
    yield "n_used", fits.n_used, ""
    yield "start", fits.start, ""
    yield "n_iterations", fits.n_iterations, ""


def _summary(
    fits: Fits, seconds: float, n_before: int, out: Path | None, page: Path | None, at: Path | None
) -> FitSummary:
    n = len(fits)
    believable = fits.chi2[np.isfinite(fits.chi2)]
    return FitSummary(
        images=n,
        good=fits.count(Status.GOOD),
        poor=fits.count(Status.POOR),
        failed=fits.count(Status.FAILED),
        seconds=round(seconds, 3),
        images_per_second=round((n - n_before) / max(seconds, 1e-9), 2),
        chi2_median=float(np.median(believable)) if len(believable) else float("nan"),
        out=None if out is None else str(out),
        page=None if page is None else str(page),
        stored=None if at is None else str(at),
        resumed=n_before,
    )
