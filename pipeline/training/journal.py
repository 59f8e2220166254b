"""Metrics of a run, one row per evaluation: metrics.jsonl, metrics.csv and TensorBoard."""

import csv
import io
import json
import math
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pipeline.checkpoint.spec import METRICS_FILE
from pipeline.core.files import atomic_write

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Row = dict[str, float | int | None]

CSV_FILE = "metrics.csv"
TENSORBOARD_FOLDER = "tensorboard"
#: Row entries that place it and are no curve of their own.
COORDINATES = ("epoch", "step", "seconds")


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

    def __init__(self, run: Path, n_epochs: int, step: int) -> None:
        self._run = run
        self._step = step
        self._rows = [row for row in read_rows(run) if (row["epoch"] or 0) <= n_epochs]
        self._writer: SummaryWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, row: Row) -> None:
        """Append one row to all three records; a value that is not finite becomes null."""
        row = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }
        self._rows.append(row)
        lines = [json.dumps(r, allow_nan=False) for r in self._rows]
        atomic_write(self._run / METRICS_FILE, "\n".join(lines) + "\n")
        atomic_write(self._run / CSV_FILE, _csv(self._rows))
        self._tensorboard(row)

    def _tensorboard(self, row: Row) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            folder = self._run / TENSORBOARD_FOLDER
            self._writer = SummaryWriter(str(folder), purge_step=self._step + 1)
        for name, value in row.items():
            if name not in COORDINATES and value is not None:
                self._writer.add_scalar(name, value, int(row["step"] or 0))
        self._writer.flush()


def _csv(rows: list[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
