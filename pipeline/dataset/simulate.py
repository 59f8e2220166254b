"""Make a dataset, or what is missing of one, or what is damaged in one: ``simulate_dataset``.

Nothing about the result depends on how many workers there are, where they run, in which order they
finish, or how often they were killed.
"""

import functools
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.core.cores import usable_cores
from pipeline.core.errors import DatasetIntegrityError
from pipeline.core.logs import Advance, get_logger, progress
from pipeline.core.provenance import package_versions
from pipeline.dataset.budget import PROBE_FROM, Budget, Estimate, estimate_cost, plain_bytes
from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.generate import simulation_spec
from pipeline.dataset.place import (
    Place,
    Url,
    exists,
    locate,
    read_bytes,
    require_writable,
    write_bytes,
)
from pipeline.dataset.store import Dataset, is_intact
from pipeline.dataset.workers import make_shards
from pipeline.dataset.writer import ShardStore, write_store

#: Makes and writes the shards it is given, in the budget.
type Maker = Callable[[DatasetConfig, ShardStore, tuple[int, ...], Advance, Budget], None]

_logger = get_logger("simulate")


@dataclass(frozen=True)
class SimulateSummary:
    """What ``simulate_dataset`` did.

    Attributes
    ----------
    path : str
    images : int
        That the dataset has, or will have when it is complete.
    seconds, images_per_second : float
        Of this run; 0 images/s if there was nothing to do.
    engine : str
    dataset_sha256 : str
        "" while it is not complete.
    resumed, complete : bool
    stopped : str
        Why a budget ended the run; "" if none did.
    repaired : tuple of int
        Shards whose digests did not match and that were made again.
    estimate : Estimate or None
        What the run was thought to cost.
    """

    path: str
    images: int
    seconds: float
    images_per_second: float
    engine: str
    dataset_sha256: str
    resumed: bool
    complete: bool
    stopped: str
    repaired: tuple[int, ...]
    estimate: Estimate | None


def simulate_dataset(
    config: DatasetConfig,
    out: str | Path | Url,
    *,
    workers: int | None = None,
    max_hours: float | None = None,
    max_gb: float | None = None,
    repair: bool = False,
    maker: Maker | None = None,
) -> SimulateSummary:
    """Make the dataset, or complete one that was interrupted.

    Parameters
    ----------
    config : DatasetConfig
    out : str, Path or Url
        Folder ``NAME.zarr``, or a URL; ``NAME.run.json`` beside it notes when and how fast.
    workers : int, optional
        Processes; one per core by default.
    max_hours, max_gb : float, optional
        Budget of this run and size of the dataset; no shard is begun beyond it.
    repair : bool
        Read every shard first, and make again those that do not match their digests.
    maker : callable, optional
        Makes the shards instead of worker processes on this machine.

    Raises
    ------
    DatasetMismatchError
        If another configuration made what lies at ``out``.
    OutputError
        If it cannot be written.
    EngineError
        If a scene cannot be rendered, or a worker died.
    """
    out = locate(out)
    require_writable(out)
    start, existed = time.monotonic(), exists(out)
    n_workers = workers or usable_cores()
    make = maker or functools.partial(make_shards, workers=n_workers)
    with write_store(out, simulation_spec(config)) as store:
        sealed_as = store.sealed_as()
        repaired = _forget_damaged(store) if repair else ()
        missing = store.missing()
        n_missing = _n_images(store, missing)
        resumed = existed and n_missing > 0
        if resumed:
            done = config.n_images - n_missing
            _logger.info("%s: going on after %d of %d images", out, done, config.n_images)
        budget = Budget(max_hours, max_gb, _gigabytes(store, config.n_images - n_missing))
        limited = max_hours is not None or max_gb is not None
        estimate = None
        if missing and (limited or n_missing >= PROBE_FROM):
            estimate = estimate_cost(config, n_missing, n_workers)
        if missing:
            with progress(f"simulating {out.name}", n_missing) as advance:
                make(config, store, missing, advance, budget)
        elif sealed_as:
            _logger.info("%s: complete already, nothing to do", out)
        left = _n_images(store, store.missing())
        digest = "" if left else store.seal()
    if budget.stopped:
        _logger.warning(
            "%s: stopped after %d of %d images: %s; run the same command again to go on",
            out, config.n_images - left, config.n_images, budget.stopped,
        )  # fmt: skip
    if repaired and digest and sealed_as not in ("", digest):
        raise DatasetIntegrityError(
            f"{out}: shards {', '.join(map(str, repaired))} were made again but came out different "
            "(another machine or other versions?); the dataset has a new hash"
        )
    seconds = time.monotonic() - start
    summary = SimulateSummary(
        path=str(out),
        images=config.n_images,
        seconds=round(seconds, 3),
        images_per_second=round((n_missing - left) / seconds, 2),
        engine=config.engine.kind,
        dataset_sha256=digest,
        resumed=resumed,
        complete=not left,
        stopped=budget.stopped,
        repaired=repaired,
        estimate=estimate,
    )
    if missing:
        _note_run(out, summary, n_missing - left)
    return summary


def _forget_damaged(store: ShardStore) -> tuple[int, ...]:
    """Take the digest from every written shard that does not match it."""
    dataset, missing = Dataset(store.path, store.spec, ""), set(store.missing())
    written = [k for k in range(store.spec.n_shards) if k not in missing]
    damaged = []
    with progress(f"checking {store.path.name}", len(written), "shards") as advance:
        for shard in written:
            if not is_intact(dataset, shard):
                damaged.append(shard)
                store.forget(shard)
            advance()
    if damaged:
        _logger.warning(
            "%s: making damaged shards again: %s", store.path, ", ".join(map(str, damaged))
        )
    return tuple(damaged)


def _n_images(store: ShardStore, shards: tuple[int, ...]) -> int:
    return sum(store.rows(k).stop - store.rows(k).start for k in shards)


def _gigabytes(store: ShardStore, n_images: int) -> float:
    return n_images * plain_bytes(store.spec) / 1e9


def _note_run(out: Place, summary: SimulateSummary, n_made: int) -> None:
    """Append what the hashed dataset must not hold (clock, speed) to ``NAME.run.json``."""
    path = out.with_name(f"{out.name.removesuffix('.zarr')}.run.json")
    runs = json.loads(read_bytes(path) or "[]")
    finished = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    note = {"finished": finished, "images_made": n_made, "versions": package_versions()}
    text = json.dumps([*runs, {**note, **asdict(summary)}], indent=2) + "\n"
    write_bytes(path, text.encode())
