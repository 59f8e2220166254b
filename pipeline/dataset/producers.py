"""Who simulates while a network trains: processes beside the trainer, or a thread feeding a GPU.

Processes are spawned, one core each, and end with the trainer, however it ends. A thread serves
where JAX computes on a GPU: drawing is little work there, and one process owns the device.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Literal

from pipeline.core.config import dump, validate
from pipeline.core.errors import EngineError
from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.stream import Request, Simulated, simulate_batch
from pipeline.dataset.workers import die_with_parent, one_thread_each, stop
from pipeline.engines.base import ENGINES, Engine

Kind = Literal["process", "thread"]


def default_producers() -> int:
    """Half of the cores that this process may use; the trainer needs the others."""
    return max(1, len(os.sched_getaffinity(0)) // 2)


class Producers:
    """Simulate batches in the background, any number asked for, in the order asked.

    Parameters
    ----------
    config : DatasetConfig
    kind : str
        ``process`` or ``thread``.
    n_workers : int
        Processes, or threads.
    """

    def __init__(self, config: DatasetConfig, kind: Kind, n_workers: int) -> None:
        self.n_workers = n_workers
        self._pool: Executor
        if kind == "thread":
            engine = ENGINES.load(config.engine.kind).build(config.engine)
            self._call: Callable[[Request], Simulated] = lambda r: simulate_batch(config, engine, r)
            self._pool = ThreadPoolExecutor(n_workers, thread_name_prefix="simulate")
            self._end = weakref.finalize(self, _abandon, self._pool)
            return
        self._call = _simulate
        context = multiprocessing.get_context("spawn")
        with one_thread_each():
            pool = ProcessPoolExecutor(
                n_workers, context, _start_producer, (json.dumps(dump(config)),)
            )
            pool.submit(os.getpid)  # starts all of them, while the threads are limited
        self._pool = pool
        self._end = weakref.finalize(self, _abandon, pool)

    def submit(self, request: Request) -> Future[Simulated]:
        """Begin a batch."""
        try:
            return self._pool.submit(self._call, request)
        except BrokenProcessPool as error:
            raise _died() from error

    def result(self, future: Future[Simulated]) -> Simulated:
        """Wait for a batch.

        Raises
        ------
        EngineError
            If a scene cannot be rendered, or a producer died.
        """
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise _died() from error

    def close(self) -> None:
        """End the producers at once."""
        self._end()


def _abandon(pool: Executor) -> None:
    """End a pool, whatever it is doing."""
    if isinstance(pool, ProcessPoolExecutor):
        stop(pool)
    else:
        pool.shutdown(wait=False, cancel_futures=True)


def _died() -> EngineError:
    return EngineError(
        "a process that simulates training images died (killed, or out of memory?); the same "
        "command goes on from the last saved step"
    )


class _Producer:
    """State of one producer process."""

    config: DatasetConfig
    engine: Engine


def _start_producer(config_json: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=die_with_parent, daemon=True).start()
    _Producer.config = validate(json.loads(config_json), DatasetConfig)
    _Producer.engine = ENGINES.load(_Producer.config.engine.kind).build(_Producer.config.engine)


def _simulate(request: Request) -> Simulated:
    return simulate_batch(_Producer.config, _Producer.engine, request)
