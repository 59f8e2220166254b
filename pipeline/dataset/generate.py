"""Make a dataset, or what is missing of one: every shard is a pure function of (configuration, k).

Workers are spawned processes; each writes its own shards. Nothing about the result depends on how
many there are, in which order they finish, or how often they were killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.config import dump, validate
from pipeline.core.errors import DatasetError, EngineError
from pipeline.core.files import atomic_write, require_writable_parent
from pipeline.core.logs import Advance, get_logger, progress
from pipeline.core.provenance import package_versions
from pipeline.core.seeding import Stream, image_rng
from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.detectability import dataset_columns, truth_values
from pipeline.dataset.splits import GALAXY, split_codes
from pipeline.dataset.store import ShardStore
from pipeline.engines.base import ENGINES, Engine
from pipeline.physics.detector import expose
from pipeline.physics.lens_light import light_rate
from pipeline.physics.scene import Scene, draw_scene

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

#: Seconds between two looks at the workers' counter.
POLL_SECONDS = 0.25
#: Libraries that start their own threads; each worker is one core.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)

_logger = get_logger("simulate")


@dataclass(frozen=True)
class SimulateSummary:
    """What ``simulate_dataset`` did."""

    path: str
    images: int
    seconds: float
    images_per_second: float
    engine: str
    dataset_sha256: str
    resumed: bool


def default_workers() -> int:
    """One worker per core this process may use."""
    return len(os.sched_getaffinity(0))


def simulate_dataset(
    config: DatasetConfig, out: Path, *, workers: int | None = None
) -> SimulateSummary:
    """Make the dataset, or complete one that was interrupted.

    Parameters
    ----------
    config : DatasetConfig
    out : Path
        Folder ``NAME.zarr``; ``NAME.run.json`` beside it notes when and how fast.
    workers : int, optional
        Processes; one per core by default.

    Raises
    ------
    DatasetMismatchError
        If another configuration made what lies at ``out``.
    OutputError
        If it cannot be written.
    EngineError
        If a scene cannot be rendered, or a worker died.
    """
    require_writable_parent(out)
    start = time.monotonic()
    existed = out.exists()
    with _locked(out, config) as store:
        missing = store.missing()
        n_missing = sum(store.rows(k).stop - store.rows(k).start for k in missing)
        resumed = existed and n_missing > 0
        if resumed:
            done = config.n_images - n_missing
            _logger.info("%s: going on after %d of %d images", out, done, config.n_images)
        if missing:
            with progress(f"simulating {out.name}", n_missing) as advance:
                _make(store, missing, workers or default_workers(), advance)
        sealed = store.is_sealed()
        if sealed and not missing:
            _logger.info("%s: complete already, nothing to do", out)
        digest = store.seal()
    seconds = time.monotonic() - start
    summary = SimulateSummary(
        path=str(out),
        images=config.n_images,
        seconds=round(seconds, 3),
        images_per_second=round(n_missing / seconds, 2),
        engine=config.engine.kind,
        dataset_sha256=digest,
        resumed=resumed,
    )
    if missing:
        _note_run(out, summary, n_missing)
    return summary


def make_shard(
    config: DatasetConfig, engine: Engine, rows: slice, advance: Advance
) -> dict[str, NDArray[Any]]:
    """Values of every array for images ``rows``: draw, render, expose."""
    index = np.arange(rows.start, rows.stop)
    labels = (index % len(config.class_names)).astype(np.int16)
    split = np.empty(len(index), np.int8)
    columns = list(dataset_columns(config))
    images = np.empty((len(index), len(config.bands), config.n_pix, config.n_pix), np.float32)
    truth = np.empty((len(columns), len(index)))
    for first in range(0, len(index), engine.batch):
        part = slice(first, min(first + engine.batch, len(index)))
        scenes = [draw_scene(config.scenes, config.seed, int(i)) for i in index[part]]
        images[part] = observe(config, engine, scenes)
        split[part] = _split(config, index[part], scenes)
        truth[:, part] = truth_values(config, scenes, split[part])
        advance(len(scenes))
    values: dict[str, NDArray[Any]] = {"images": images, "label": labels, "split": split}
    values.update({f"truth/{name}": truth[j] for j, name in enumerate(columns)})
    return values


def _split(
    config: DatasetConfig, index: NDArray[np.int64], scenes: list[Scene]
) -> NDArray[np.int8]:
    galaxy = np.array([scene.truth[GALAXY] for scene in scenes]) if scenes[0].group else None
    splits = config.splits
    return split_codes(index, len(config.class_names), splits.train, splits.val, galaxy)


def observe(config: DatasetConfig, engine: Engine, scenes: list[Scene]) -> NDArray[np.float32]:
    """Images (B, C, H, W) in electron/s of scenes as the telescope records them."""
    return record(config, engine.render(scenes, config.grid, config.instruments), scenes)


def record(
    config: DatasetConfig, noiseless: NDArray[np.float64], scenes: list[Scene]
) -> NDArray[np.float32]:
    """Expose noiseless images (B, C, H, W), each with its own noise stream."""
    return np.stack(
        [
            expose(
                image,
                config.instruments,
                image_rng(config.seed, scene.index, Stream.NOISE),
                subtracted_rate(config, scene),
            )
            for image, scene in zip(noiseless, scenes, strict=True)
        ]
    )


def subtracted_rate(config: DatasetConfig, scene: Scene) -> NDArray[np.float64] | None:
    """Light (C, H, W), electron/s, of the lens that is gone from the image but not its noise."""
    if not scene.subtracted_light:
        return None
    return light_rate(scene.subtracted_light, config.grid, config.instruments)


def _make(store: ShardStore, missing: tuple[int, ...], workers: int, advance: Advance) -> None:
    if min(workers, len(missing)) <= 1:
        engine = ENGINES.load(store.config.engine.kind).build(store.config.engine)
        for shard in missing:
            store.write(shard, make_shard(store.config, engine, store.rows(shard), advance))
        return
    _make_in_processes(store, missing, min(workers, len(missing)), advance)


def _make_in_processes(
    store: ShardStore, missing: tuple[int, ...], workers: int, advance: Advance
) -> None:
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    arguments = (str(store.path), json.dumps(dump(store.config)), counter)
    with _one_thread_each():
        pool = ProcessPoolExecutor(workers, context, _start_worker, arguments)
        pending = {pool.submit(_work, shard) for shard in missing}
    shown = 0
    try:
        while pending:
            done, pending = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
            for future in done:
                future.result()
            if counter.value > shown:
                advance(counter.value - shown)
                shown = counter.value
    except BrokenProcessPool as error:
        raise EngineError(
            f"{store.path}: a worker process died (killed, or out of memory?); finished shards are "
            "kept, run the same command again to go on"
        ) from error
    finally:
        _stop(pool)


def _stop(pool: ProcessPoolExecutor) -> None:
    """End a pool at once; its unfinished shards count as missing."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()


class _Worker:
    """State of one worker process."""

    store: ShardStore
    engine: Engine
    counter: Synchronized[int]


def _start_worker(path: str, config_json: str, counter: Synchronized[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    config = validate(json.loads(config_json), DatasetConfig)
    _Worker.store = ShardStore(Path(path), config)
    _Worker.engine = ENGINES.load(config.engine.kind).build(config.engine)
    _Worker.counter = counter


def _die_with_parent() -> None:
    """End this worker when the command that started it is killed; its shard counts as missing."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _work(shard: int) -> None:
    def advance(n_done: int = 1, *, note: str = "") -> None:
        with _Worker.counter.get_lock():
            _Worker.counter.value += n_done

    store = _Worker.store
    store.write(shard, make_shard(store.config, _Worker.engine, store.rows(shard), advance))


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def _locked(out: Path, config: DatasetConfig) -> Iterator[ShardStore]:
    """Create or take up the dataset and hold its lock: two commands never write one shard.

    The locks are on the folders themselves and vanish with the process that holds them.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        parent = _open_folder(out.parent, stack)
        fcntl.flock(parent, fcntl.LOCK_EX)
        existed = out.exists()
        if existed:
            _lock_or_refuse(out, stack)
        store = ShardStore.prepare(out, config)
        if not existed:
            _lock_or_refuse(out, stack)
        fcntl.flock(parent, fcntl.LOCK_UN)
        yield store


def _lock_or_refuse(folder: Path, stack: contextlib.ExitStack) -> None:
    try:
        fcntl.flock(_open_folder(folder, stack), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DatasetError(f"{folder}: another process is writing it") from error
    except NotADirectoryError as error:
        raise DatasetError(f"{folder}: a file lies there, not a dataset") from error


def _open_folder(folder: Path, stack: contextlib.ExitStack) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    stack.callback(os.close, descriptor)
    return descriptor


def _note_run(out: Path, summary: SimulateSummary, n_made: int) -> None:
    """Append what the hashed dataset must not hold (clock, speed) to ``NAME.run.json``."""
    path = out.with_name(f"{out.name.removesuffix('.zarr')}.run.json")
    runs = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    finished = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    note = {"finished": finished, "images_made": n_made, "versions": package_versions()}
    atomic_write(path, json.dumps([*runs, {**note, **summary.__dict__}], indent=2) + "\n")
