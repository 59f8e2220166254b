"""What a command returns, as one JSON object or as text for a person."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_REJECTED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


@dataclasses.dataclass(frozen=True)
class Result:
    """A command's answer.

    Parameters
    ----------
    data : dataclass instance, mapping, or sequence of mappings
        Printed by ``--json``.
    text : str
        Printed otherwise.
    exit_code : int
    """

    data: Any  # Any: a summary of whichever command ran
    text: str
    exit_code: int = 0

    def as_json(self) -> str:
        """One line of strict JSON; numbers that are not finite become null."""
        return json.dumps(_plain(self.data), ensure_ascii=False, allow_nan=False) + "\n"

    def as_text(self) -> str:
        """The text, ending in one newline (or nothing at all)."""
        return self.text.rstrip("\n") + "\n" if self.text else ""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, left-aligned, two spaces apart; never cut, so a pipe gets all of it."""
    cells = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ("  ".join(t.ljust(w) for t, w in zip(r, widths, strict=True)).rstrip() for r in cells)
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    """Dataclasses, mappings, paths and numpy scalars as what JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
