"""Make or lengthen a dataset of small images in this process; print its largest memory, MB.

Run as ``python -m pipeline.benchmark.write_once PATH N_IMAGES``.
"""

import sys
from pathlib import Path

from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.simulate import simulate_dataset

#: Small images, because their number is what memory might grow with.
_SETTINGS = ("n_pix=8", "supersample=1", "shard_size=2000")


def main() -> None:
    """Simulate, then say how large this process became."""
    path, n_images = sys.argv[1:]
    config = load_dataset_config("demo", (*_SETTINGS, f"n_images={n_images}"))
    simulate_dataset(config, path, workers=1)
    # Not getrusage: on Linux that remembers the process which started this one.
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    kilobytes = next(float(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    sys.stdout.write(f"{kilobytes * 1024 / 1e6}\n")


if __name__ == "__main__":
    main()
