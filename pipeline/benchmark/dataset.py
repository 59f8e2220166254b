"""What writing costs: ``deeplense bench dataset``.

The time that writing adds is processor time of one process, beside that of drawing, rendering and
exposing the same images. Writing alone is processor time, the kernel's included, of the same bytes
into a file of ``np.memmap``, into HDF5 and into a dataset, taking turns, the best of several; none
of them waits for the disk, and other work on the machine does not count. Memory is the largest of
a process that lets one dataset of small images grow, simulated by the engine like any others, from
size to size.
"""

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.benchmark.rows import Row, Rows
from pipeline.core.errors import EngineError
from pipeline.core.logs import progress
from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.generate import make_shard, simulation_spec
from pipeline.dataset.layout import StoreSpec, describe, image_arrays
from pipeline.dataset.writer import ShardStore
from pipeline.engines.base import ENGINES

#: Presets whose making the writing is compared with.
PRESETS = ("demo", "contrast_hst")
_TURNS = 5
#: Images of the datasets whose writers' memory is measured.
SIZES = (10_000, 100_000, 1_000_000)
#: Shard of the comparison with other formats, images of 64 x 64 pixels.
_SHARD, _N_PIX = 500, 64


def run(*, quick: bool) -> Rows:
    """Measure writing.

    Parameters
    ----------
    quick : bool
        Few images, for a smoke test.
    """
    with tempfile.TemporaryDirectory() as folder, progress("bench dataset", 3, "parts") as advance:
        rows = []
        for preset in PRESETS[:1] if quick else PRESETS:
            rows.append(_overhead(Path(folder), preset, 48 if quick else _SHARD))
        advance()
        rows += _formats(Path(folder), 2 if quick else 8)
        advance()
        rows += _memory(Path(folder), (600,) if quick else SIZES)
        advance()
    notes = (
        "time added by writing: processor time of one process, images of the preset's own size",
        "write: processor time, the kernel's included; the same bytes, in turns, best; no fsync",
        "memory: largest resident size of the writing process, images of 8 x 8 pixels",
    )
    return Rows(tuple(rows), notes)


def _overhead(folder: Path, preset: str, n_images: int) -> Row:
    """Share that writing a shard adds to making it."""
    changes = (f"n_images={n_images}", f"shard_size={n_images}")
    config = load_dataset_config(preset, changes)
    engine = ENGINES.load(config.engine.kind).build(config.engine)
    store = ShardStore.prepare(folder / f"{preset}.zarr", simulation_spec(config))
    make_shard(config, engine, store.rows(0), _ignore)  # compiles
    start = time.process_time()
    values = make_shard(config, engine, store.rows(0), _ignore)
    making = time.process_time() - start
    writing = []
    for _ in range(_TURNS):
        start = time.process_time()
        store.write(0, values)
        writing.append(time.process_time() - start)
    share = min(writing) / making
    return Row(f"time added by writing, {preset}", 100 * share, "%", share, "making the images")


def _formats(folder: Path, n_shards: int) -> list[Row]:
    """GB/s of images into a dataset, a memory-mapped file and HDF5."""
    shape = (n_shards * _SHARD, 1, _N_PIX, _N_PIX)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    writers: dict[str, Callable[[Path, NDArray[np.float32]], None]] = {
        "dataset": write_dataset, "memmap": write_memmap, "HDF5": write_hdf5,
    }  # fmt: skip
    best = dict.fromkeys(writers, np.inf)
    for turn in range(_TURNS):
        for name, write in writers.items():
            start = time.process_time()
            write(folder / f"{name}-{turn}", images)
            best[name] = min(best[name], time.process_time() - start)
    speed = {name: images.nbytes / 1e9 / seconds for name, seconds in best.items()}
    return [
        Row("write, dataset", speed["dataset"], "GB/s", speed["dataset"] / speed[other], other)
        for other in ("memmap", "HDF5")
    ] + [Row(f"write, {other}", speed[other], "GB/s") for other in ("memmap", "HDF5")]


def write_dataset(path: Path, images: NDArray[np.float32], shard_size: int = _SHARD) -> None:
    """Store images as a dataset of one class, all of them to train on."""
    n_images, *shape = images.shape
    spec = StoreSpec(
        arrays=image_arrays(("a",), (shape[0], shape[1], shape[2]), {}),
        n_images=n_images,
        shard_size=shard_size,
        attributes=describe(("a",), ("x",), 1.0),
        origin="import",
        origin_sha256="0" * 64,
    )
    store = ShardStore.prepare(path, spec)
    for shard in store.missing():
        values: dict[str, NDArray[Any]] = {"images": images[store.rows(shard)]}
        n = len(values["images"])
        values |= {"label": np.zeros(n, np.int16), "split": np.zeros(n, np.int8)}
        store.write(shard, values)
    store.seal()


def write_memmap(path: Path, images: NDArray[np.float32]) -> None:
    """Store images as one array that numpy maps."""
    out = np.lib.format.open_memmap(path, mode="w+", dtype=images.dtype, shape=images.shape)
    for first in range(0, len(images), _SHARD):
        out[first : first + _SHARD] = images[first : first + _SHARD]
    del out


def write_hdf5(path: Path, images: NDArray[np.float32]) -> None:
    """Store images in HDF5, in chunks as large as those of a dataset."""
    import h5py  # type: ignore[import-untyped]

    with h5py.File(path, "w") as file:
        out = file.create_dataset(
            "images", images.shape, images.dtype, chunks=(16, *images.shape[1:])
        )
        for first in range(0, len(images), _SHARD):
            out[first : first + _SHARD] = images[first : first + _SHARD]


def _memory(folder: Path, sizes: tuple[int, ...]) -> list[Row]:
    """Largest memory of a process that makes, or makes longer, a dataset."""
    command = [sys.executable, "-m", "pipeline.benchmark.write_once", str(folder / "many.zarr")]
    rows: list[Row] = []
    for n_images in sizes:
        done = subprocess.run(
            [*command, str(n_images)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise EngineError(f"simulating {n_images} images failed: {done.stderr.strip()[-500:]}")
        megabytes = float(done.stdout)
        first = rows[0].value if rows else math.nan
        against = rows[0].name if rows else ""
        rows.append(Row(f"memory, {n_images} images", megabytes, "MB", megabytes / first, against))
    return rows


def _ignore(n_done: int = 1, *, note: str = "") -> None:
    """Advance nothing."""
