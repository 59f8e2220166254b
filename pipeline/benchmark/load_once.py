"""Open a dataset and read its train split once, for its time and memory: ``python -m`` this module.

Prints seconds of processor time and MB at the peak, before and after, as JSON.
"""

import json
import math
import sys
import time

from pipeline.benchmark.memory import peak_memory_mb
from pipeline.dataset.store import open_dataset


def main(path: str) -> None:
    """Read the dataset at ``path``."""
    import torch  # noqa: F401  # so that its memory is told apart

    open_dataset(path).batches("train", batch_size=256, seed=0)  # imports what reading needs
    before = peak_memory_mb() or math.nan
    start = time.process_time()
    data = open_dataset(path)
    opened = time.process_time()
    batches = data.batches("train", batch_size=256, seed=0, augment=True).epoch(0)
    next(batches)
    first = time.process_time()
    for _ in batches:
        pass
    found = {"open": opened - start, "first": first - opened, "before": before}
    sys.stdout.write(json.dumps({**found, "memory": peak_memory_mb() or math.nan}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
