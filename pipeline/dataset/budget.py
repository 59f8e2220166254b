"""What a run will cost, before it starts; and when it has cost enough.

The rate is measured on one batch of the engine in this process (compiled and warm), times the
workers; the size is that of the arrays. A budget is looked at between shards: what was begun is
finished, and the same command goes on later.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.logs import get_logger
from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.layout import StoreSpec
from pipeline.engines.base import ENGINES

#: Runs of more images are preceded by an estimate ...
PROBE_FROM = 20_000
#: ... of so many images at most.
PROBE_IMAGES = 64

_logger = get_logger("simulate")


@dataclass(frozen=True)
class Estimate:
    """What the missing images will cost.

    Attributes
    ----------
    images : int
        To be made.
    images_per_second : float
        With all workers.
    hours : float
    gigabytes : float
        That they will take.
    """

    images: int
    images_per_second: float
    hours: float
    gigabytes: float


@dataclass
class Budget:
    """How long a run may take and how large the dataset may become.

    Attributes
    ----------
    max_hours, max_gb : float, optional
    gigabytes : float
        Size of the arrays so far.
    stopped : str
        Why the run was stopped; "" if it was not.
    """

    max_hours: float | None = None
    max_gb: float | None = None
    gigabytes: float = 0.0
    stopped: str = ""
    _start: float = field(default_factory=time.monotonic)

    def count(self, n_bytes: int) -> None:
        """Add a shard that was written."""
        self.gigabytes += n_bytes / 1e9

    def is_spent(self, next_bytes: float = 0.0) -> bool:
        """Whether no further shard, of about ``next_bytes``, may be begun; notes why."""
        hours = (time.monotonic() - self._start) / 3600
        if self.max_hours is not None and hours >= self.max_hours:
            self.stopped = f"--max-hours {self.max_hours:g} is over"
        elif self.max_gb is not None and self.gigabytes + next_bytes / 1e9 > self.max_gb:
            self.stopped = f"another shard would exceed --max-gb {self.max_gb:g}"
        return bool(self.stopped)


def values_bytes(values: Mapping[str, NDArray[Any]]) -> int:
    """Bytes of a shard's arrays."""
    return sum(array.nbytes for array in values.values())


def plain_bytes(spec: StoreSpec) -> int:
    """Bytes of one image in all arrays but the ragged ones."""
    return sum(
        int(np.prod(a.item_shape)) * np.dtype(a.dtype).itemsize for a in spec.arrays if not a.ragged
    )


def estimate_cost(config: DatasetConfig, n_images: int, workers: int) -> Estimate:
    """Measure how fast images are made here, and say what ``n_images`` will cost.

    Parameters
    ----------
    config : DatasetConfig
    n_images, workers : int
    """
    from pipeline.dataset.generate import make_shard

    engine = ENGINES.load(config.engine.kind).build(config.engine)
    n_probe = min(PROBE_IMAGES, max(engine.batch, len(config.class_names)), config.n_images)
    make_shard(config, engine, slice(0, n_probe), _ignore)  # compiles
    start = time.perf_counter()
    values = make_shard(config, engine, slice(0, n_probe), _ignore)
    rate = workers * n_probe / (time.perf_counter() - start)
    found = Estimate(
        images=n_images,
        images_per_second=round(rate, 1),
        hours=n_images / rate / 3600,
        gigabytes=values_bytes(values) / n_probe * n_images / 1e9,
    )
    _logger.info(
        "%d images at about %.0f/s: %s and %.2g GB",
        n_images, rate, _duration(found.hours), found.gigabytes,
    )  # fmt: skip
    return found


def _duration(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"


def _ignore(n_done: int = 1, *, note: str = "") -> None:
    """Advance nothing."""
