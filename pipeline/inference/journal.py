"""Rows on disk as soon as they are known, so that a run that was killed goes on where it was.

A journal is a file of JSON lines beside the table it becomes: a header that says what decides the
rows, then a line for each row with the size and time of its file. A torn last line is dropped. The
journals of partitions (``part 2 of 8``) lie beside one another and are read together.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from pipeline.core.errors import OutputError
from pipeline.core.files import PARTIAL
from pipeline.core.logs import get_logger
from pipeline.core.provenance import canonical_json, sha256_hex
from pipeline.inference.search import Found

FORMAT = "deeplense-scores-journal"
_LOGGER = get_logger("score")

Row = dict[str, Any]  # Any: JSON values by column


class Journal:
    """The journal of one table, or of one part of it, open for writing.

    Parameters
    ----------
    out : Path
        The table.
    identity : mapping
        What decides the rows; another one starts the journal anew.
    part : str
        Which part of the table, empty for all of it.

    Raises
    ------
    OutputError
        If it cannot be written, or another process is writing the same table.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any], part: str = "") -> None:
        self._out = Path(out)
        self._header = {"format": FORMAT, "identity": sha256_hex(canonical_json(dict(identity)))}
        self.path = _path(self._out, part)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream: IO[bytes] = self.path.open("ab+")
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror or error}") from error
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._begin()
        except OSError as error:
            self._stream.close()
            is_locked = isinstance(error, BlockingIOError)
            fault = "another process is writing this table" if is_locked else error.strerror
            raise OutputError(f"{self._out}: {fault}") from error

    def __enter__(self) -> "Journal":
        """Return the journal."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it; it stays on disk."""
        self._stream.close()

    def finished(self, items: Sequence[Found]) -> Iterator[tuple[int, Row]]:
        """Position and row of every item that a journal of this table knows.

        A file that has changed since, by size or time, is read again.
        """
        position = {item.name: k for k, item in enumerate(items)}
        for path in sorted(self._out.parent.glob(f"{_stem(self._out)}*{PARTIAL}")):
            for line in _lines(path, self._header):
                k = position.pop(line["name"], None)
                if k is not None and line["file"] == _signature(items[k]):
                    yield k, line["row"]

    def add(self, items: Sequence[Found], rows: Sequence[Row]) -> None:
        """Append rows; they survive a kill of the process from here on."""
        lines = (
            json.dumps(
                {"name": item.name, "file": _signature(item), "row": row}, ensure_ascii=False
            )
            for item, row in zip(items, rows, strict=True)
        )
        try:
            self._stream.write("".join(f"{line}\n" for line in lines).encode())
            self._stream.flush()
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror or error}") from error

    def discard_all(self) -> None:
        """Delete the journals of the table, once it is written."""
        for path in self._out.parent.glob(f"{_stem(self._out)}*{PARTIAL}"):
            path.unlink(missing_ok=True)

    def _begin(self) -> None:
        """Keep a journal of the same identity up to its last whole line; else start anew."""
        self._stream.seek(0)
        content_end = 0
        first = self._stream.readline()
        if first and _parse(first) == self._header:
            content_end = len(first)
            for line in self._stream:
                if not line.endswith(b"\n"):
                    break
                content_end += len(line)
            _LOGGER.info("going on with %s", self.path.name)
        self._stream.truncate(content_end)
        self._stream.seek(0, os.SEEK_END)
        if content_end == 0:
            self._stream.write(json.dumps(self._header).encode() + b"\n")
            self._stream.flush()


def _stem(out: Path) -> str:
    # brackets in a name must not become a pattern
    text = "".join(f"[{c}]" if c in "*?[" else c for c in out.name)
    return f".{text}.journal"


def _path(out: Path, part: str) -> Path:
    return out.with_name(f".{out.name}.journal{'-' + part if part else ''}{PARTIAL}")


def _lines(path: Path, header: Row) -> Iterator[Row]:
    with path.open("rb") as stream:
        if _parse(stream.readline()) != header:
            return
        for line in stream:
            parsed = _parse(line)
            if parsed is not None and {"name", "file", "row"} <= parsed.keys():
                yield parsed


def _parse(line: bytes) -> Row | None:
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _signature(item: Found) -> list[int] | None:
    """Size and time of a file; None where there is none."""
    try:
        status = os.stat(item.path)  # noqa: PTH116 - a hundred thousand of them
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]
