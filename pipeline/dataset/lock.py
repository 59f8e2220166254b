"""One writer at a time.

A local dataset is locked by locks on the folders themselves, which vanish with their process. An
object store has no locks: there a lease object ``NAME.zarr.lease`` is put only if it is absent,
renewed while its writer lives and deleted at the end. A lease that was not renewed for
``LEASE_SECONDS``, or whose process on this machine is gone, is taken over. Clocks of machines that
differ by more than that could let two writers in; as a shard is a pure function of its origin and
number, both would then write the same bytes.
"""

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from pipeline.core.errors import DatasetError, OutputError, StorageError
from pipeline.core.logs import get_logger
from pipeline.dataset.place import (
    Place,
    Url,
    faults,
    filesystem,
    patiently,
    read_bytes,
    write_bytes,
)

#: A lease that was not renewed for so long belongs to nobody.
LEASE_SECONDS = 90.0

_logger = get_logger("storage")


def hold(out: Place, stack: ExitStack) -> Callable[[], None]:
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
    if isinstance(out, Url):
        _hold_lease(out, stack)
        return _do_nothing
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


def _do_nothing() -> None:
    """Leave a lease as it is."""


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


def _hold_lease(out: Url, stack: ExitStack) -> None:
    lease = out.with_name(f"{out.name}.lease")
    owner = {"id": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid()}
    if not _put_if_absent(lease, owner):
        held = _read(lease)
        if held is not None and not _is_abandoned(held):
            left = held["until"] - time.time()
            raise DatasetError(
                f"{out}: another process is writing it: {held['pid']} on {held['host']}; if it was "
                f"killed, its lease ends in {left:.0f} s"
            )
        _logger.info("%s: taking over from a writer that is gone", out)
        write_bytes(lease, _text(owner))
        if (_read(lease) or {}).get("id") != owner["id"]:
            raise DatasetError(f"{out}: another process has just begun to write it")
    _OWN.add(str(owner["id"]))
    stop = threading.Event()
    renewing = threading.Thread(target=_renew, args=(lease, owner, stop), daemon=True)
    renewing.start()
    stack.callback(_release, lease, owner, stop, renewing)


#: Leases of this process.
_OWN: set[str] = set()


def _renew(lease: Url, owner: dict[str, Any], stop: threading.Event) -> None:
    while not stop.wait(LEASE_SECONDS / 4):
        with suppress(StorageError):  # the writer itself will say so
            write_bytes(lease, _text(owner))


def _release(
    lease: Url, owner: dict[str, Any], stop: threading.Event, renewing: threading.Thread
) -> None:
    stop.set()
    renewing.join(LEASE_SECONDS)
    _OWN.discard(owner["id"])
    fs = filesystem(lease)
    with suppress(*faults()):  # a server that is down: the lease ends by itself
        fs.rm_file(lease.text)


def _put_if_absent(lease: Url, owner: dict[str, Any]) -> bool:
    fs = filesystem(lease)
    try:
        patiently(lease, lambda: fs.pipe_file(lease.text, _text(owner), mode="create"))
    except FileExistsError:
        return False
    except StorageError:
        raise
    except OSError as error:
        if _read(lease) is not None:  # s3fs reports a failed precondition as a plain OSError
            return False
        raise OutputError(f"{lease}: cannot be written: {error}") from error
    return True


def _read(lease: Url) -> dict[str, Any] | None:
    content = read_bytes(lease)
    if content is None:
        return None
    try:
        found: dict[str, Any] = json.loads(content)
    except ValueError:
        return None
    return found


def _text(owner: dict[str, Any]) -> bytes:
    return json.dumps({**owner, "until": time.time() + LEASE_SECONDS}).encode()


def _is_abandoned(held: dict[str, Any]) -> bool:
    if held["until"] < time.time():
        return True
    if held["host"] != socket.gethostname():
        return False
    if held["pid"] == os.getpid():
        return held["id"] not in _OWN
    try:
        os.kill(held["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
