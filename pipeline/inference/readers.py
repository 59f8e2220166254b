"""Read and prepare many files in order, in this process or in several, in bounded memory."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import ScoringError
from pipeline.inference.images import RawImage, Rejection, RejectReason, read_image
from pipeline.inference.prepare import Prepared, Target, prepare_image

#: Files a reader process takes at a time.
CHUNK = 64
#: Fewer files than this are read sooner than a reader process starts.
MIN_FILES_FOR_PROCESSES = 4000


@dataclass(frozen=True)
class Outcome:
    """What became of one file; ``hdu`` is None where none was chosen."""

    image: Prepared | Rejection
    hdu: str | None
    sha256: str | None


def read_one(path: Path, target: Target, hdu: str | None = None) -> Outcome:
    """Read ``path`` and prepare its picture for a checkpoint; never raises for a bad file."""
    raw, sha256 = read_image(path, hdu=hdu, bands=target.bands)
    if not isinstance(raw, RawImage):
        return Outcome(raw, None, sha256)
    return Outcome(prepare_image(raw, target), raw.hdu, sha256)


def default_workers(n_files: int) -> int:
    """Reader processes worth starting for ``n_files``; 0 reads in this process."""
    if n_files < MIN_FILES_FOR_PROCESSES:
        return 0
    return max(1, min(8, (os.cpu_count() or 1) - 1))


def read_all(
    paths: Sequence[Path], target: Target, *, hdu: str | None = None, workers: int = 0
) -> Iterator[Outcome]:
    """Outcomes of ``paths`` in their order, the same for any number of workers.

    Parameters
    ----------
    paths : sequence of Path
    target : Target
    hdu : str, optional
    workers : int
        Reader processes; 0 reads in this process. A file that kills its reader is isolated and
        becomes a rejection.

    Yields
    ------
    Outcome

    Raises
    ------
    ScoringError
        If no reader process can be started.
    """
    if workers == 0:
        for path in paths:
            yield read_one(path, target, hdu)
        return
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    waiting: deque[tuple[Sequence[Path], Future[list[Outcome]]]] = deque()
    pool = _pool(workers)
    try:
        for n_taken in range(len(chunks) + 2 * workers):
            if n_taken < len(chunks):
                chunk = chunks[n_taken]
                waiting.append((chunk, pool.submit(_read_chunk, chunk, target, hdu)))
            if n_taken < 2 * workers or not waiting:
                continue
            chunk, future = waiting.popleft()
            try:
                yield from future.result()
            except BrokenProcessPool:
                pool.shutdown(wait=True, cancel_futures=True)
                yield from _read_isolated(chunk, target, hdu)
                pool = _pool(workers)
                again = [item for item, _ in waiting]
                waiting = deque(
                    (item, pool.submit(_read_chunk, item, target, hdu)) for item in again
                )
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read_isolated(paths: Sequence[Path], target: Target, hdu: str | None) -> Iterator[Outcome]:
    """Read files in a process of their own, renewed whenever one kills it."""
    pool = _pool(1)
    try:
        for path in paths:
            try:
                yield pool.submit(read_one, path, target, hdu).result()
            except BrokenProcessPool:
                pool.shutdown(wait=True)
                pool = _pool(1)
                _require_alive(pool)
                detail = "the process that read this file died"
                yield Outcome(Rejection(RejectReason.UNREADABLE, detail), None, None)
    finally:
        pool.shutdown(wait=True)


def _require_alive(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool as error:
        raise ScoringError(
            "reader processes cannot be started. A script must do its work under "
            "\"if __name__ == '__main__':\", since each process imports it; or pass workers=0"
        ) from error


def _read_chunk(paths: Sequence[Path], target: Target, hdu: str | None) -> list[Outcome]:
    return [read_one(path, target, hdu) for path in paths]


def _pool(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")  # torch threads do not survive a fork
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_ignore_interrupt)


def _ignore_interrupt() -> None:
    """Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
