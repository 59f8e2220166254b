"""Open a dataset and read its train split once, for its time and memory: ``python -m`` this module.

Prints seconds of processor time and MB at the peak, before and after, as JSON.
"""

import json
import sys
import time
from pathlib import Path

from pipeline.dataset.store import open_dataset


def main(path: str) -> None:
    """Read the dataset at ``path``."""
    import torch  # noqa: F401  # so that its memory is told apart

    open_dataset(path).batches("train", batch_size=256, seed=0)  # imports what reading needs
    before = _peak_mb()
    start = time.process_time()
    data = open_dataset(path)
    opened = time.process_time()
    batches = data.batches("train", batch_size=256, seed=0, augment=True).epoch(0)
    next(batches)
    first = time.process_time()
    for _ in batches:
        pass
    found = {"open": opened - start, "first": first - opened}
    sys.stdout.write(json.dumps({**found, "memory": _peak_mb(), "before": before}) + "\n")


def _peak_mb() -> float:
    # Not getrusage: on Linux that remembers the process which started this one.
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


if __name__ == "__main__":
    main(sys.argv[1])
