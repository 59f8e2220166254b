"""Where a dataset lies: a local folder, or any URL that fsspec opens (``s3://``, ``gs://``, ...).

Both go through the same functions here and the same zarr code above them. Locally, files are
renamed into place. An object store has no rename, but each of its objects is whole or absent, so
what tells that something is complete is written last: the group's ``zarr.json`` when a dataset is
created, a shard's digest, ``dataset_sha256``. An address that does not answer is tried again,
waiting longer each time, for ``PATIENCE`` s (or the environment's ``DEEPLENSE_STORAGE_PATIENCE``).
Credentials and endpoints are those of s3fs and gcsfs, e.g. ``AWS_ENDPOINT_URL``.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import ConfigError, MissingExtraError, OutputError, StorageError
from pipeline.core.files import PARTIAL, atomic_folder, atomic_write, require_writable_parent
from pipeline.core.logs import get_logger

if TYPE_CHECKING:
    import zarr.abc.store

#: Seconds for which an address that does not answer is tried again.
PATIENCE = 60.0
#: The first pause between two tries, s; each next one is twice as long, up to the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0
#: A scheme and its slashes; ``pathlib`` folds two slashes to one.
_URL = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]+):/{1,2}(.*)$")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}

_logger = get_logger("storage")


@dataclass(frozen=True)
class Url:
    """A dataset that is not local."""

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.text.rstrip("/").rpartition("/")[2]

    @property
    def scheme(self) -> str:
        """What comes before the colon."""
        return self.text.partition(":")[0]

    def __truediv__(self, key: str) -> Url:
        return Url(f"{self.text.rstrip('/')}/{key}")

    def with_name(self, name: str) -> Url:
        """The same folder, another name."""
        return Url(f"{self.text.rstrip('/').rpartition('/')[0]}/{name}")


type Place = Path | Url


def locate(place: str | Path | Url) -> Place:
    """Tell URLs from paths, also URLs that went through ``Path``."""
    if isinstance(place, Url):
        return place
    found = _URL.match(str(place))
    if found is None:
        return Path(place)
    scheme, rest = found.groups()
    if scheme == "file":
        return Path(f"/{rest.lstrip('/')}")
    return Url(f"{scheme}://{rest.rstrip('/')}")


def zarr_store(place: Place, *, read_only: bool) -> zarr.abc.store.Store:
    """Open the store of zarr at a place."""
    if isinstance(place, Path):
        from zarr.storage import LocalStore

        return LocalStore(place, read_only=read_only)
    from pipeline.dataset._fsspec_store import PatientStore

    filesystem(place)  # names the extra that is missing
    return PatientStore.from_url(place.text, read_only=read_only)


def exists(place: Place) -> bool:
    """Whether anything lies there; on an object store, whether a group does."""
    if isinstance(place, Path):
        return place.exists()
    return read_bytes(place / "zarr.json") is not None


def read_bytes(place: Place) -> bytes | None:
    """Content of one file or object; None if there is none."""
    if isinstance(place, Path):
        return place.read_bytes() if place.exists() else None
    fs = filesystem(place)
    try:
        content: bytes = patiently(place, lambda: fs.cat_file(place.text))
    except FileNotFoundError:
        return None
    return content


def write_bytes(place: Place, content: bytes) -> None:
    """Write one file or object so that a reader sees all of it or none."""
    if isinstance(place, Path):
        atomic_write(place, content)
        return
    fs = filesystem(place)
    patiently(place, lambda: fs.pipe_file(place.text, content))


def create_folder(place: Place, fill: Callable[[Path], None]) -> None:
    """Create a dataset by filling a local folder; it is there as a whole or not at all."""
    if isinstance(place, Path):
        with atomic_folder(place) as temporary:
            fill(temporary)
        return
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder))
        files = sorted(p.relative_to(folder) for p in Path(folder).rglob("*") if p.is_file())
        files.sort(key=lambda p: p == Path("zarr.json"))  # the group comes last
        for file in files:
            write_bytes(place / file.as_posix(), (Path(folder) / file).read_bytes())


def sweep(place: Place) -> None:
    """Delete what a kill left behind; on an object store it leaves nothing."""
    if isinstance(place, Path):
        for leftover in place.rglob(f"*{PARTIAL}"):
            leftover.unlink()


def require_writable(place: Place) -> None:
    """Fail before any work is done if nothing can be written there.

    Raises
    ------
    OutputError
    """
    if isinstance(place, Path):
        require_writable_parent(place)
        return
    probe = place.with_name(f".{place.name}.probe")
    fs = filesystem(place)
    try:
        patiently(place, lambda: fs.pipe_file(probe.text, b""))
        patiently(place, lambda: fs.rm_file(probe.text))
    except OSError as error:
        raise OutputError(f"{place}: cannot be written: {error}") from error


def filesystem(place: Url) -> Any:  # Any: fsspec has no types
    """File system of a URL, with plain (not asynchronous) calls.

    Raises
    ------
    MissingExtraError
        Naming the extra that brings it.
    ConfigError
        If fsspec knows no such scheme.
    """
    import fsspec  # type: ignore[import-untyped]

    try:
        return fsspec.filesystem(place.scheme, use_listings_cache=False)
    except ImportError as error:
        extra = _EXTRAS.get(place.scheme)
        hint = f": pip install 'deeplense-pipeline[{extra}]'" if extra else f" ({error})"
        raise MissingExtraError(f"{place}: {place.scheme}:// needs a package{hint}") from error
    except ValueError as error:
        raise ConfigError(
            f"{place}: {place.scheme!r} is no scheme that fsspec knows; e.g. s3://, gs://"
        ) from error


def patience() -> float:
    """Seconds for which an address is tried again."""
    return float(os.environ.get("DEEPLENSE_STORAGE_PATIENCE", PATIENCE))


def pauses() -> list[float]:
    """Pauses between tries, s; together they last about ``patience()``."""
    found: list[float] = []
    pause = FIRST_PAUSE
    while sum(found) < patience():
        found.append(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    return found


def faults() -> tuple[type[Exception], ...]:
    """What a server that is down or slow makes the packages in use raise."""
    found: list[type[Exception]] = [OSError]
    for module, names in (
        ("botocore.exceptions", ("ConnectionError", "HTTPClientError")),
        ("aiohttp", ("ClientError",)),
        ("gcsfs.retry", ("HttpError",)),
    ):
        try:
            imported = __import__(module, fromlist=list(names))
        except ImportError:
            continue
        found += [getattr(imported, name) for name in names]
    return tuple(found)


def may_pass(error: Exception) -> bool:
    """Whether trying again can help: not if something is missing, there already, or forbidden."""
    return not isinstance(error, FileNotFoundError | FileExistsError | PermissionError)


def unreachable(place: object, error: Exception) -> StorageError:
    """Say that a place was tried long enough."""
    return StorageError(
        f"{place}: does not answer, tried for {patience():.0f} s: {error or type(error).__name__}"
    )


def patiently[T](place: Url, call: Callable[[], T]) -> T:
    """Call until it succeeds, waiting longer each time.

    Raises
    ------
    StorageError
        If it never does.
    """
    for pause in pauses():
        try:
            return call()
        except faults() as error:
            if not may_pass(error):
                raise
            _logger.warning("%s: %s; trying again in %.2g s", place, error, pause)
        time.sleep(pause)
    try:
        return call()
    except faults() as error:
        if not may_pass(error):
            raise
        raise unreachable(place, error) from error
