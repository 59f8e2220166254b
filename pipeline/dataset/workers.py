"""Worker processes that make shards: spawned, one core each, none outlives the command."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from pipeline.core.config import dump, validate
from pipeline.core.errors import EngineError
from pipeline.core.logs import Advance
from pipeline.dataset.budget import Budget, values_bytes
from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.generate import make_shard, simulation_spec
from pipeline.dataset.place import locate
from pipeline.dataset.writer import ShardStore
from pipeline.engines.base import ENGINES, Engine

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

#: Seconds between two looks at the workers' counter.
POLL_SECONDS = 0.25
#: Shards handed to each worker at a time: the one it makes and the next.
_QUEUED = 2
#: Libraries that start their own threads; each worker is one core.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


def make_shards(
    config: DatasetConfig,
    store: ShardStore,
    missing: tuple[int, ...],
    advance: Advance,
    budget: Budget,
    *,
    workers: int,
) -> None:
    """Make and write shards, in this process or in several others, until the budget is spent.

    Raises
    ------
    EngineError
        If a scene cannot be rendered, or a worker died.
    OutputError
        If a shard cannot be written.
    """
    if min(workers, len(missing)) <= 1:
        engine = ENGINES.load(config.engine.kind).build(config.engine)
        last = 0
        for shard in missing:
            if budget.is_spent(last):
                return
            values = make_shard(config, engine, store.rows(shard), advance)
            store.write(shard, values)
            last = values_bytes(values)
            budget.count(last)
        return
    _make_in_processes(config, store, missing, min(workers, len(missing)), advance, budget)


def write_shards(config_json: str, place: str, shards: list[int]) -> tuple[int, int]:
    """Make and write those of some shards that are still missing: one task of a cluster.

    Parameters
    ----------
    config_json : str
        The resolved configuration.
    place : str
        The dataset, which exists and is locked by whoever submits the task.
    shards : list of int

    Returns
    -------
    n_images, n_bytes : int
        That the shards hold and that were written.
    """
    config = validate(json.loads(config_json), DatasetConfig)
    store = ShardStore(locate(place), simulation_spec(config))
    engine = ENGINES.load(config.engine.kind).build(config.engine)
    missing, n_bytes = set(store.missing()), 0
    for shard in missing.intersection(shards):
        values = make_shard(config, engine, store.rows(shard), _ignore)
        store.write(shard, values)
        n_bytes += values_bytes(values)
    return sum(store.rows(k).stop - store.rows(k).start for k in shards), n_bytes


def _ignore(n_done: int = 1, *, note: str = "") -> None:
    """Advance nothing."""


def _make_in_processes(
    config: DatasetConfig,
    store: ShardStore,
    missing: tuple[int, ...],
    workers: int,
    advance: Advance,
    budget: Budget,
) -> None:
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    arguments = (str(store.path), json.dumps(dump(config)), counter)
    with one_thread_each():
        pool = ProcessPoolExecutor(workers, context, _start_worker, arguments)
        waiting = deque(missing)
        pending = {pool.submit(_work, waiting.popleft()) for _ in range(workers)}
    shown = last = 0
    try:
        while pending:
            done, pending = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
            for future in done:
                last = future.result()
                budget.count(last)
            # One shard waits for each worker, so that none is idle; a budget counts what is begun.
            while waiting and len(pending) < _QUEUED * workers:
                if budget.is_spent(last * (1 + len(pending))):
                    waiting.clear()
                    break
                pending.add(pool.submit(_work, waiting.popleft()))
            if counter.value > shown:
                advance(counter.value - shown)
                shown = counter.value
    except BrokenProcessPool as error:
        raise EngineError(
            f"{store.path}: a worker process died (killed, or out of memory?); finished shards are "
            "kept, run the same command again to go on"
        ) from error
    finally:
        stop(pool)


def stop(pool: ProcessPoolExecutor) -> None:
    """End a pool at once; its unfinished shards count as missing."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()


class _Worker:
    """State of one worker process."""

    config: DatasetConfig
    store: ShardStore
    engine: Engine
    counter: Synchronized[int]


def _start_worker(path: str, config_json: str, counter: Synchronized[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=die_with_parent, daemon=True).start()
    config = validate(json.loads(config_json), DatasetConfig)
    _Worker.config = config
    _Worker.store = ShardStore(locate(path), simulation_spec(config))
    _Worker.engine = ENGINES.load(config.engine.kind).build(config.engine)
    _Worker.counter = counter


def die_with_parent() -> None:
    """End this worker when the command that started it is killed; its shard counts as missing."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _work(shard: int) -> int:
    def advance(n_done: int = 1, *, note: str = "") -> None:
        with _Worker.counter.get_lock():
            _Worker.counter.value += n_done

    store = _Worker.store
    values = make_shard(_Worker.config, _Worker.engine, store.rows(shard), advance)
    store.write(shard, values)
    return values_bytes(values)


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Let processes started meanwhile use one thread each."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
