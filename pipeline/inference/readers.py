"""Read and prepare many items in order, in this process or in several, in bounded memory.

Reader processes are plain Python processes, started without the caller's main module, that answer
over a pipe. One that dies or does not answer in time is replaced, and the file it was at becomes a
row with that reason.
"""

import os
import pickle
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import batched
from multiprocessing.connection import Connection, wait
from pathlib import Path

from pipeline.core.cores import usable_cores
from pipeline.core.errors import ScoringError
from pipeline.inference.images import ReadOptions, Rejection, RejectReason
from pipeline.inference.read_item import Outcome, read_item
from pipeline.inference.reader_process import READY
from pipeline.inference.search import Found
from pipeline.inference.target import Target

#: Items a reader process takes at a time.
CHUNK = 64
#: Seconds one item may take in a reader process.
TIMEOUT = 60.0
#: Outcomes in this process; further ones wait in the pipe.
_READY = 16
#: Largest request that is sent to a reader at work: two fit into the smallest pipe.
_REQUEST_BYTES = 30_000
#: Bytes a reader may be ahead of its parent: some sixty 64 x 64 images.
_PIPE_BYTES = 2**20
#: Seconds a new reader may take to say that it is there.
_START_SECONDS = 120.0
_F_SETPIPE_SZ = 1031
_CODE = "from pipeline.inference.reader_process import main; main()"


def default_workers() -> int:
    """Reader processes that leave a core to the network."""
    return max(1, min(8, usable_cores() - 1))


@dataclass
class _Reader:
    """A reader process and what it is at."""

    process: subprocess.Popen[bytes]
    requests: Connection
    answers: Connection
    in_hand: deque[tuple[int, Found]] = field(default_factory=deque)  # with their positions
    is_ready: bool = False  # it has said that it is there
    since: float = field(default_factory=time.monotonic)

    def takes(self, items: Sequence[Found]) -> bool:
        """Whether items can be given now: they must fit into the pipe beside those given before.

        The next items are given before the last ones are answered, so that a reader has work while
        its parent asks the network.
        """
        if not self.in_hand:
            return True
        return len(self.in_hand) < CHUNK and _size(items) <= _REQUEST_BYTES

    def give(self, items: Sequence[tuple[int, Found]]) -> None:
        if not self.in_hand:
            self.since = time.monotonic()
        self.in_hand.extend(items)
        with suppress(BrokenPipeError, ConnectionError):  # its death shows when it is asked
            self.requests.send([item for _, item in items])

    def stop(self) -> None:
        for connection in (self.requests, self.answers):
            connection.close()
        self.process.kill()
        self.process.wait()


def _size(items: Sequence[Found]) -> int:
    """Bytes that a request for some items takes, about."""
    return len(pickle.dumps(items))


class ReaderPool:
    """Reader processes for one target; they start at once, while the caller loads its network.

    Parameters
    ----------
    workers : int
        0 reads in this process, without protection against a file that hangs or kills it.
    target : Target
    options : ReadOptions
    timeout : float
        Seconds an item may take.
    """

    def __init__(
        self, workers: int, target: Target, options: ReadOptions, *, timeout: float = TIMEOUT
    ) -> None:
        self._target, self._options, self._timeout = target, options, timeout
        self._readers: list[_Reader] = []
        self._readers = [self._start() for _ in range(workers)]
        self._has_started = False

    def __enter__(self) -> "ReaderPool":
        """Return the pool."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop every reader."""
        self.close()

    def close(self) -> None:
        """Stop every reader, whatever it is at."""
        for reader in self._readers:
            reader.stop()
        self._readers = []

    @property
    def pids(self) -> list[int]:
        """Process numbers of the readers."""
        return [reader.process.pid for reader in self._readers]

    def read(self, items: Sequence[Found]) -> Iterator[Outcome]:
        """Outcomes of ``items`` in their order, the same for any number of workers.

        Raises
        ------
        ScoringError
            If no reader process can be started.
        """
        if not self._readers:
            for item in items:
                yield read_item(item, self._target, self._options)
            return
        chunks = deque(batched(enumerate(items), CHUNK))
        ahead = 2 * CHUNK * len(self._readers)
        ready: dict[int, Outcome] = {}
        for position in range(len(items)):
            while position not in ready:
                for reader in self._readers:
                    is_near = bool(chunks) and chunks[0][0][0] < position + ahead
                    if is_near and reader.takes([item for _, item in chunks[0]]):
                        reader.give(chunks.popleft())
                self._collect(ready)
            yield ready.pop(position)

    def _collect(self, ready: dict[int, Outcome]) -> None:
        """Wait for answers, and replace readers that died or take too long."""
        busy = [reader for reader in self._readers if reader.in_hand]
        limit = min(reader.since + self._limit(reader) for reader in busy) - time.monotonic()
        answering = wait([reader.answers for reader in busy], timeout=max(0.0, limit))
        now = time.monotonic()
        for reader in busy:
            if reader.answers in answering:
                self._receive(reader, ready)
            elif now - reader.since > (seconds := self._limit(reader)):
                detail = f"not read within {seconds:.0f} s"
                self._replace(reader, ready, RejectReason.TIMED_OUT, detail)

    def _limit(self, reader: _Reader) -> float:
        return self._timeout if reader.is_ready else max(self._timeout, _START_SECONDS)

    def _receive(self, reader: _Reader, ready: dict[int, Outcome]) -> None:
        try:
            while reader.in_hand and reader.answers.poll():
                outcome = reader.answers.recv()
                reader.since = time.monotonic()
                if outcome == READY:
                    reader.is_ready = self._has_started = True
                    continue
                position, _ = reader.in_hand.popleft()
                ready[position] = outcome
                if len(ready) >= _READY:
                    return
        except (EOFError, OSError, pickle.UnpicklingError):
            detail = "the process that read this file died"
            self._replace(reader, ready, RejectReason.CRASHED, detail)

    def _replace(
        self, reader: _Reader, ready: dict[int, Outcome], reason: RejectReason, detail: str
    ) -> None:
        """Give the rest of a reader's items to a new one; the item it was at is rejected."""
        if not self._has_started:
            self.close()
            raise ScoringError(
                "reader processes cannot be started (their message is above); "
                "--workers 0 reads in this process"
            )
        position, _ = reader.in_hand.popleft()
        ready[position] = Outcome(Rejection(reason, detail), None, None)
        reader.stop()
        self._readers.remove(reader)
        new = self._start()
        self._readers.append(new)
        for rest in batched(reader.in_hand, CHUNK):
            new.give(rest)

    def _start(self) -> _Reader:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        single = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
        request_in, request_out = os.pipe()
        answer_in, answer_out = os.pipe()
        if sys.platform == "linux":
            import fcntl

            with suppress(OSError):
                fcntl.fcntl(answer_out, _F_SETPIPE_SZ, _PIPE_BYTES)
        process = subprocess.Popen(
            [sys.executable, "-c", _CODE, str(request_in), str(answer_out)],
            pass_fds=(request_in, answer_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **single, "PYTHONPATH": path},
        )
        os.close(request_in)
        os.close(answer_out)
        requests = Connection(request_out, readable=False)
        requests.send((self._target, self._options))
        return _Reader(process, requests, Connection(answer_in, writable=False))


def read_all(
    items: Sequence[Found | Path],
    target: Target,
    *,
    options: ReadOptions | None = None,
    workers: int = 0,
    timeout: float = TIMEOUT,
) -> Iterator[Outcome]:
    """Outcomes of items or paths in their order; see :class:`ReaderPool`."""
    found = [item if isinstance(item, Found) else Found(item, str(item)) for item in items]
    with ReaderPool(workers, target, options or ReadOptions(), timeout=timeout) as pool:
        yield from pool.read(found)
