"""Metrics of a run, one row per evaluation: metrics.jsonl, metrics.csv and the loggers."""

import csv
import io
import json
import math
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.checkpoint.spec import METRICS_FILE
from pipeline.core.files import atomic_write
from pipeline.training.config import TrainingConfig
from pipeline.training.loggers import RunLogger, open_loggers

Row = dict[str, float | int | None]

CSV_FILE = "metrics.csv"
#: Row entries that place it and are no curve of their own.
COORDINATES = ("epoch", "step", "seconds", "core_seconds")


def read_rows(run: Path) -> list[Row]:
    """Rows of ``metrics.jsonl``; none if training has not been evaluated yet."""
    path = run / METRICS_FILE
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


class Journal:
    """Writes the rows of a run that has finished ``n_epochs`` epochs in ``step`` steps.

    Rows of later epochs were written by a session that was killed before it saved its state; they
    are dropped, since those epochs are trained again.
    """

    def __init__(self, config: TrainingConfig, run: Path, n_epochs: int, step: int) -> None:
        self._config = config
        self._run = run
        self._step = step
        self._rows = [row for row in read_rows(run) if (row["epoch"] or 0) <= n_epochs]
        self._loggers: list[RunLogger] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for logger in self._loggers or []:
            logger.close()

    def add(self, row: Row) -> None:
        """Append one row to all records; a value that is not finite becomes null."""
        row = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }
        self._rows.append(row)
        lines = [json.dumps(r, allow_nan=False) for r in self._rows]
        atomic_write(self._run / METRICS_FILE, "\n".join(lines) + "\n")
        atomic_write(self._run / CSV_FILE, _csv(self._rows))
        if self._loggers is None:
            self._loggers = open_loggers(self._config, self._run, self._step)
        values = {n: v for n, v in row.items() if n not in COORDINATES and v is not None}
        for logger in self._loggers:
            logger.add(values, int(row["step"] or 0))


def _csv(rows: list[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
