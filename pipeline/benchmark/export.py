"""Every model exported: agreement with its run, and the time of torch and ONNX Runtime.

Each pair of times is measured in turns in one process, one thread each; a time is processor time,
the shortest of its turns, from images to answers, novelty included. Weights are untrained: speed
does not depend on them. The first row is the network that ships, at 64 pixels.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.benchmark.score import rings, write_run
from pipeline.core.errors import ExportError
from pipeline.core.logs import get_logger

if TYPE_CHECKING:
    from pipeline.checkpoint.any_run import AnyRun
    from pipeline.checkpoint.load import Run
    from pipeline.checkpoint.onnx_run import OnnxRun

#: Batch sizes that are timed, and the turns of each.
BATCHES = {1: 30, 64: 5}
#: Models, as ``NAME:VARIANT``; of the others the smallest variant there is.
SHIPPED = "lens_hybrid:tiny"

_LOGGER = get_logger("bench")


@dataclass(frozen=True)
class ExportRow:
    """One model: differences as ``Agreement`` has them, times in ms a batch."""

    model: str
    parameters: int
    seconds: float = float("nan")
    megabytes: float = float("nan")
    values: float = float("nan")
    distance: float = float("nan")
    answer: float = float("nan")
    same_label: float = float("nan")
    torch_1: float = float("nan")
    onnx_1: float = float("nan")
    torch_64: float = float("nan")
    onnx_64: float = float("nan")
    problem: str = ""


@dataclass(frozen=True)
class ExportRows:
    """All rows of ``deeplense bench export``."""

    rows: tuple[ExportRow, ...]

    @property
    def text(self) -> str:
        """A table in Markdown."""
        lines = [
            "| model | parameters | export | file | largest difference: outputs | distance | "
            "probability | same label | batch 1: torch | ONNX | times | batch 64: torch | ONNX | "
            "times |",
            "| --- " * 14 + "|",
            *(self._line(row) for row in self.rows),
        ]
        return "\n".join([*lines, "", "Times in ms a batch, of one processor core."])

    def _line(self, row: ExportRow) -> str:
        if row.problem:
            return f"| `{row.model}` | {row.parameters:,} | {row.problem} |" + " |" * 11
        cells = (
            f"`{row.model}`", f"{row.parameters:,}", f"{row.seconds:.0f} s",
            f"{row.megabytes:.2f} MB", f"{row.values:.0e}", f"{row.distance:.0e}",
            f"{row.answer:.0e}", f"{row.same_label:.0%}",
            f"{row.torch_1:.2f}", f"{row.onnx_1:.2f}", f"{row.torch_1 / row.onnx_1:.1f}",
            f"{row.torch_64:.1f}", f"{row.onnx_64:.1f}", f"{row.torch_64 / row.onnx_64:.1f}",
        )  # fmt: skip
        return "| " + " | ".join(cells) + " |"


def run(*, quick: bool = False) -> ExportRows:
    """Export and time the network that ships, then every model in its smallest variant.

    Parameters
    ----------
    quick : bool
        Only the first, in its smallest variant.
    """
    import torch

    from pipeline.models.base import MODELS

    names = ["lens_hybrid:mini"] if quick else [SHIPPED, *map(_smallest, MODELS.kinds())]
    rows = []
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name in names:
            rows.append(measure(name))
            _LOGGER.info("%s", rows[-1])
    finally:
        torch.set_num_threads(n_threads)
    return ExportRows(tuple(rows))


def _smallest(kind: str) -> str:
    from pipeline.models.base import MODELS

    variants = getattr(MODELS.load(kind), "VARIANTS", {})
    return f"{kind}:mini" if "mini" in variants else kind


def measure(name: str) -> ExportRow:
    """Export one model, ``NAME`` or ``NAME:VARIANT``, and time both forms of it."""
    from pipeline.checkpoint.load import load_run
    from pipeline.export.onnx import write_onnx

    with tempfile.TemporaryDirectory() as folder:
        loaded = load_run(write_run(Path(folder) / "run", name))
        n = loaded.spec.n_parameters
        rng = np.random.Generator(np.random.Philox(4))
        images = rings(32, rng)[:, None]
        try:
            made = write_onnx(loaded, Path(folder) / "m.onnx", images)
        except ExportError as error:
            return ExportRow(name, n, problem=str(error).partition(": ")[2])
        from pipeline.checkpoint.onnx_run import open_onnx

        times = _times(loaded, open_onnx(Path(folder) / "m.onnx", n_threads=1))
    found = made.agreement
    return ExportRow(
        name, n, made.seconds, made.megabytes, found.values, found.distance, found.answer,
        found.same_label, times["torch_1"], times["onnx_1"], times["torch_64"], times["onnx_64"],
    )  # fmt: skip


def _times(run: "Run", exported: "OnnxRun") -> dict[str, float]:
    rng = np.random.Generator(np.random.Philox(5))
    found: dict[str, float] = {}
    for batch, n_turns in BATCHES.items():
        images = rings(batch, rng)[:, None]
        pair: dict[str, AnyRun] = {f"torch_{batch}": run, f"onnx_{batch}": exported}
        best = dict.fromkeys(pair, float("inf"))
        for _ in range(n_turns):
            for what, one in pair.items():
                start = time.process_time()
                one.predict(images)
                best[what] = min(best[what], 1e3 * (time.process_time() - start))
        found |= best
    return found
