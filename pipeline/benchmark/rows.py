"""What the benchmarks of single parts answer: rows of a number and its ratio to something else.

``deeplense bench NAME`` calls ``run(quick=...)`` of ``pipeline.benchmark.NAME`` and prints
its rows. To add one: that module, and NAME in the ``Literal`` of ``cli/bench.py``.
"""

import math
import platform
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes
    ----------
    name : str
        What was measured.
    value : float
    unit : str
    ratio : float
        Over the same measurement of ``against``, both of this run; NaN where there is none.
    against : str
    """

    name: str
    value: float
    unit: str
    ratio: float = math.nan
    against: str = ""


@dataclass(frozen=True)
class Rows:
    """All rows of a benchmark; ``notes`` say how they were measured and what was left out."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    machine: str = field(default_factory=lambda: f"{platform.machine()}, {platform.system()}")
