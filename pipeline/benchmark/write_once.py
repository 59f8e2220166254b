"""Make or lengthen a dataset of small images in this process; print its largest memory, MB.

Run as ``python -m pipeline.benchmark.write_once PATH N_IMAGES``.
"""

import math
import sys

from pipeline.benchmark.memory import peak_memory_mb
from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.simulate import simulate_dataset

#: Small images, because their number is what memory might grow with.
_SETTINGS = ("n_pix=8", "supersample=1", "shard_size=2000")


def main() -> None:
    """Simulate, then say how large this process became."""
    path, n_images = sys.argv[1:]
    config = load_dataset_config("demo", (*_SETTINGS, f"n_images={n_images}"))
    simulate_dataset(config, path, workers=1)
    sys.stdout.write(f"{(peak_memory_mb() or math.nan) * 2**20 / 1e6}\n")


if __name__ == "__main__":
    main()
