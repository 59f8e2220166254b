"""How fast a training loop gets its images: ``deeplense bench load``.

Reading is processor time on one core of shuffled images of 64 x 64 pixels that lie in the page
cache, in turns with the same gathers from ``np.memmap`` and from HDF5, the best of several. A
million small images are opened and read once in a process of their own. Then the small network is
trained on images simulated meanwhile, and the time counted in which it waits for them.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.benchmark.dataset import write_dataset, write_hdf5, write_memmap
from pipeline.benchmark.rows import Row, Rows
from pipeline.checkpoint.network import build_network
from pipeline.core.errors import DatasetError
from pipeline.core.logs import progress
from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.online import OnlineConfig, OnlineData
from pipeline.dataset.preprocess import PreprocessConfig, fit_preprocess
from pipeline.dataset.store import open_dataset
from pipeline.training.accelerator import Accelerator
from pipeline.training.config import load_training_config
from pipeline.training.objective import Objective
from pipeline.training.optimiser import make_optimiser

#: Steps of training before the clock starts: producers start and compile meanwhile.
WARM = 3
_TURNS = 5
_N_PIX = 64
_BATCHES = (64, 256)
#: Preset and network of the images simulated on the fly.
PRESET, MODEL = "contrast_hst", "lens_hybrid"


def run(*, quick: bool) -> Rows:
    """Measure reading.

    Parameters
    ----------
    quick : bool
        Few images, for a smoke test.
    """
    with tempfile.TemporaryDirectory() as folder, progress("bench load", 3) as advance:
        with _one_core():
            rows = _reading(Path(folder), 1000 if quick else 20_000)
        advance()
        rows += _million(Path(folder), 10_000 if quick else 1_000_000)
        advance()
        rows += _on_the_fly(n_steps=3 if quick else 60, n_pix=32 if quick else None)
        advance()
    notes = (
        "read: processor time on one core, images in the page cache, in turns, best of several",
        "batches: the same with augmentation and preprocessing, ready for the network",
        f"waiting: share of the time of training in which {MODEL} has no batch of {PRESET} yet",
    )
    return Rows(tuple(rows), notes)


@contextmanager
def _one_core() -> Iterator[None]:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _reading(folder: Path, n: int) -> list[Row]:
    """Images/s from a dataset, a mapped file and HDF5, and of batches ready for the network."""
    images = np.random.default_rng(0).standard_normal((n, 1, _N_PIX, _N_PIX), np.float32)
    write_dataset(folder / "d.zarr", images)
    write_memmap(folder / "memmap.npy", images)
    write_hdf5(folder / "hdf5.h5", images)
    del images
    readers = {"dataset": _read_dataset, "memmap": _read_memmap, "HDF5": _read_hdf5}
    rows = []
    for size in _BATCHES:
        best = dict.fromkeys(readers, 0.0)
        for _ in range(_TURNS):
            for name, read in readers.items():
                best[name] = max(best[name], _rate(read(folder, n, size)))
        ours, what = best["dataset"], f"read, batches of {size}"
        rows += [
            Row(f"{what}, dataset", ours, "images/s", ours / best[other], other)
            for other in ("memmap", "HDF5")
        ]
        rows += [Row(f"{what}, {other}", best[other], "images/s") for other in ("memmap", "HDF5")]
    prepared = max(_rate(_prepare(folder, 64)) for _ in range(3))
    return [*rows, Row("batches ready for the network", prepared, "images/s")]


def _rate(batches: Iterator[int]) -> float:
    """Images/s of processor time, all threads together, after the first batch."""
    next(batches)
    start = time.process_time()
    n = sum(batches)
    return n / (time.process_time() - start)


def _read_dataset(folder: Path, n: int, size: int) -> Iterator[int]:
    data = open_dataset(folder / "d.zarr")
    source = data.batches("train", batch_size=size, seed=0)
    out = np.empty((size, *data.image_shape), np.float32)
    source.images.gather(data.indices("train")[:: max(1, n // 500)][:size], out)  # warm
    for index, _ in source.plan.batches(0):
        images = np.empty((len(index), *data.image_shape), np.float32)
        source.images.gather(index, images)
        yield len(images)


def _read_memmap(folder: Path, n: int, size: int) -> Iterator[int]:
    mapped = np.load(folder / "memmap.npy", mmap_mode="r")
    for index in _shuffled(n, size):
        yield len(np.asarray(mapped[index]))


def _read_hdf5(folder: Path, n: int, size: int) -> Iterator[int]:
    import h5py  # type: ignore[import-untyped]

    with h5py.File(folder / "hdf5.h5", "r") as file:
        for index in _shuffled(n, size)[:6]:  # slow: a few batches tell
            yield len(file["images"][np.sort(index)])


def _shuffled(n: int, size: int) -> list[NDArray[np.int64]]:
    order = np.random.default_rng(1).permutation(n)
    return [order[first : first + size] for first in range(0, n, size)]


def _prepare(folder: Path, size: int) -> Iterator[int]:
    data = open_dataset(folder / "d.zarr")
    preprocess = fit_preprocess(data, PreprocessConfig())
    source = data.batches("train", preprocess, batch_size=size, seed=0, augment=True, n_threads=1)
    for batch in source.epoch(0):
        yield len(batch.index)


def _million(folder: Path, n: int) -> list[Row]:
    """Open many small images and read them once, in a process of their own."""
    pattern = np.random.default_rng(0).standard_normal((5000, 1, 8, 8), np.float32)
    write_dataset(folder / "many.zarr", np.resize(pattern, (n, 1, 8, 8)), shard_size=5000)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.benchmark.load_once", str(folder / "many.zarr")],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DatasetError(f"bench load: the reading process failed: {done.stderr.strip()[-400:]}")
    found = json.loads(done.stdout)
    return [
        Row(f"open {n} images", found["open"], "s"),
        Row("first batch", found["first"], "s"),
        Row(f"memory to read {n} images, torch included", found["memory"], "MB"),
        Row("of which torch and packages", found["before"], "MB"),
    ]


def _on_the_fly(n_steps: int, n_pix: int | None) -> list[Row]:
    """Share of the time of training in which the small network waits for simulated images."""
    import torch

    config = load_dataset_config(PRESET, () if n_pix is None else (f"n_pix={n_pix}",))
    data = OnlineData(config, OnlineConfig(images=64 * (n_steps + WARM), val_images=1))
    training = load_training_config(MODEL, ("batch_size=64",))
    preprocess = fit_preprocess(data, training.preprocess)
    network, task = build_network(
        training.model,
        training.task,
        in_channels=preprocess.out_channels,
        image_size=config.n_pix,
        class_names=config.class_names,
        targets=(),
    )
    optimiser = make_optimiser(network, training.optimiser)
    accelerator = Accelerator("auto", training.precision)
    accelerator.setup(Objective(network, task), optimiser)
    batches = data.batches("train", preprocess, batch_size=64, seed=0, augment=True).epoch(0)
    waited = trained = 0.0
    for step in range(WARM + n_steps):
        start = time.perf_counter()
        batch = next(batches)
        ready = time.perf_counter()
        accelerator.step([batch], training.optimiser.clip)
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        if step >= WARM:
            waited, trained = waited + ready - start, trained + time.perf_counter() - ready
    data.close()
    total = waited + trained
    name = f"on the fly, {PRESET}, {MODEL}"
    return [
        Row(f"{name}: waiting", 100 * waited / total, "%", waited / total, "training"),
        Row(f"{name}: trained", 64 * n_steps / total, "images/s"),
    ]
