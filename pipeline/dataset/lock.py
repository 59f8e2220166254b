"""One writer at a time: locks on the folders themselves, which vanish with their process."""

import fcntl
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from pipeline.core.errors import DatasetError


def hold(out: Path, stack: ExitStack) -> Callable[[], None]:
    """Lock a dataset that is there or is about to be created, until ``stack`` ends.

    Returns
    -------
    callable
        To call once the dataset exists.

    Raises
    ------
    DatasetError
        If another process is writing it, or a file lies there.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    parent = _open_folder(out.parent, stack)
    fcntl.flock(parent, fcntl.LOCK_EX)
    existed = out.exists()
    if existed:
        _lock_or_refuse(out, stack)

    def exists_now() -> None:
        if not existed:
            _lock_or_refuse(out, stack)
        fcntl.flock(parent, fcntl.LOCK_UN)

    return exists_now


def _lock_or_refuse(folder: Path, stack: ExitStack) -> None:
    try:
        fcntl.flock(_open_folder(folder, stack), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DatasetError(f"{folder}: another process is writing it") from error
    except NotADirectoryError as error:
        raise DatasetError(f"{folder}: a file lies there, not a dataset") from error


def _open_folder(folder: Path, stack: ExitStack) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    stack.callback(os.close, descriptor)
    return descriptor
