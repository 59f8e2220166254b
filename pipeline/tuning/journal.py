"""Durable storage of a study: Optuna's journal, a file that only grows, and locks beside it.

Locks are ``flock``: they vanish with their process, whatever ended it. A kill in the middle of a
line leaves a torn one, which the next writer cuts off.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock

JOURNAL_FILE = "study.journal"
LOCK_FOLDER = "locks"


def open_storage(out: Path) -> JournalStorage:
    """Open the storage of a study's folder, or begin it."""
    path = out / JOURNAL_FILE
    return JournalStorage(JournalFileBackend(str(path), _Lock(path, out)))


class _Lock(BaseJournalFileLock):
    """Lock of one append; mends the end of the file first."""

    def __init__(self, path: Path, out: Path) -> None:
        self._path = path
        self._lock = out / LOCK_FOLDER / "journal"
        self._held: list[int] = []

    def acquire(self) -> bool:
        """Wait for the lock."""
        descriptor = _open(self._lock)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._held.append(descriptor)
        with self._path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            if size and not _ends_a_line(file.fileno(), size):
                content = self._path.read_bytes()
                file.truncate(content.rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Give it back."""
        os.close(self._held.pop())


def _ends_a_line(descriptor: int, size: int) -> bool:
    return os.pread(descriptor, 1, size - 1) == b"\n"


@contextmanager
def waiting_lock(out: Path, name: str) -> Iterator[None]:
    """Hold a lock of a study's folder; wait for whoever has it."""
    descriptor = _open(out / LOCK_FOLDER / name)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def take_lock(out: Path, name: str) -> int | None:
    """Take a lock of a study's folder until :func:`drop_lock`; None if somebody has it."""
    descriptor = _open(out / LOCK_FOLDER / name)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def drop_lock(descriptor: int) -> None:
    """Give a lock back."""
    os.close(descriptor)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
