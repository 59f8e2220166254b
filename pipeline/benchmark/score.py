"""How fast files are scored, against reading them with astropy alone and the network alone.

Every number is wall time of the same machine in the same call, in turns, the median of the turns.
The network has untrained weights: its speed does not depend on them.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.benchmark.rows import Row, Rows

SIZE, SCALE = 64, 0.05
#: Files, many enough that the start of the readers counts little, and turns that measure each.
N_FILES, N_TURNS = 12000, 3
N_QUICK = 64


def run(*, quick: bool = False) -> Rows:
    """Measure scoring, its parts, and the start of the command.

    Parameters
    ----------
    quick : bool
        A smoke test: few files, one turn.
    """
    n_files, n_turns = (N_QUICK, 1) if quick else (N_FILES, N_TURNS)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder = write_run(root / "run")
        files = _write_files(root / "sky", n_files)
        seconds = _measure(folder, files, root, n_turns)
        start = _seconds(lambda: _command(folder, files[:1], root / "one.csv"))
    rates = {what: n_files / value for what, value in seconds.items()}
    slower = min(("astropy", "network"), key=rates.__getitem__)
    rows = [
        Row("reading with astropy alone", rates["astropy"], "files/s"),
        Row("the network alone", rates["network"], "files/s"),
        Row("reading and preparing", rates["prepare"], "files/s",
            rates["prepare"] / rates["astropy"], "astropy alone"),
        Row("scoring", rates["score"], "files/s", rates["score"] / rates[slower],
            f"the slower of both, {slower}"),
        Row("start of the command, one file", start, "s", start / 8.0, "8 s"),
    ]  # fmt: skip
    notes = (
        f"{n_files} FITS files of {SIZE} x {SIZE} pixels, small lens_hybrid, no symmetric copies, "
        f"median of {n_turns} turn(s)",
    )
    return Rows(tuple(rows), notes)


def _measure(folder: Path, files: Sequence[Path], root: Path, n_turns: int) -> dict[str, float]:
    from pipeline.inference.ensemble import load_ensemble
    from pipeline.inference.readers import default_workers, read_all
    from pipeline.inference.score import run_scoring
    from pipeline.inference.target import Target

    ensemble = load_ensemble([folder], symmetries=1)
    images = np.zeros((ensemble.n_images, 1, SIZE, SIZE), np.float32)
    images += np.random.Generator(np.random.Philox(1)).standard_normal(images.shape)
    target = Target.of_run(ensemble.runs[0])
    n_workers = default_workers()
    tasks: dict[str, Callable[[], object]] = {
        "astropy": lambda: _read_with_astropy(files),
        "network": lambda: [
            ensemble.predict(images) for _ in range(-(-len(files) // ensemble.n_images))
        ],
        "prepare": lambda: list(read_all(files, target, workers=n_workers)),
        "score": lambda: run_scoring(folder, files, root / "s.csv", symmetries=1),
    }
    ensemble.predict(images)  # whatever happens once only
    times: dict[str, list[float]] = {what: [] for what in tasks}
    for _ in range(n_turns):
        for what, task in tasks.items():
            times[what].append(_seconds(task))
    return {what: statistics.median(values) for what, values in times.items()}


def _seconds(task: Callable[[], object]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def _read_with_astropy(files: Sequence[Path]) -> None:
    from astropy.io import fits  # type: ignore[import-untyped]

    for path in files:
        with fits.open(path, memmap=False) as opened:
            opened[0].data.astype(np.float32)


def _command(folder: Path, files: Sequence[Path], out: Path) -> None:
    command = [sys.executable, "-m", "pipeline", "score", folder, *files, "--out", out]
    root = Path(__file__).resolve().parents[2]
    subprocess.run([str(part) for part in command], check=True, capture_output=True, cwd=root)


def _write_files(folder: Path, n_files: int) -> list[Path]:
    """Rings in noise, a file each."""
    from astropy.io import fits

    folder.mkdir()
    rng = np.random.Generator(np.random.Philox(2))
    paths = [folder / f"{i:05d}.fits" for i in range(n_files)]
    for path, image in zip(paths, rings(n_files, rng), strict=True):
        header = fits.Header({"PIXSCALE": SCALE, "BUNIT": "electron/s"})
        fits.PrimaryHDU(image, header).writeto(path)
    return paths


def rings(n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Rings of varied radius in noise (n, SIZE, SIZE)."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    radius = rng.uniform(16, 22, n)[:, None, None]
    ring = 20 * np.exp(-0.5 * ((np.hypot(x, y) - radius) / 2) ** 2)
    return np.asarray(ring + rng.standard_normal(ring.shape), np.float32)


def write_run(folder: Path, model: str = "lens_hybrid") -> Path:
    """A run folder of a network (``NAME`` or ``NAME:VARIANT``) with untrained weights."""
    import torch

    from pipeline.checkpoint.load import network_outputs
    from pipeline.checkpoint.network import build_network
    from pipeline.checkpoint.novelty import fit_novelty
    from pipeline.checkpoint.save import save_run
    from pipeline.checkpoint.spec import CheckpointSpec
    from pipeline.core.provenance import package_versions
    from pipeline.dataset.preprocess import Preprocess
    from pipeline.models.base import MODELS
    from pipeline.tasks.base import TASKS

    preprocess = Preprocess(
        bands=("f814w",), pixel_scale=SCALE, size=SIZE, normalise="noise", stretch=("asinh",),
        softening=3.0, background=(0.0,), sigma=(1.0,), offset=(0.0,), scale=(1.0,), clip=20.0,
    )  # fmt: skip
    kind, _, variant = model.partition(":")
    block = MODELS.variant(kind, variant) if variant else MODELS.config(kind)
    chosen = block.with_changes(fit="resample")
    task = TASKS.config("classification")
    classes = ("no", "subhalo", "vortex")
    network, _ = build_network(
        chosen, task, in_channels=1, image_size=SIZE, class_names=classes, targets=()
    )
    network.eval()
    images = preprocess.apply(rings(256, np.random.Generator(np.random.Philox(3)))[:, None])
    _, description = network_outputs(network, torch.from_numpy(images), torch.device("cpu"))
    spec = CheckpointSpec(
        task=task, model=chosen, class_names=classes, targets=(), preprocess=preprocess,
        calibration={"temperature": 1.0}, n_parameters=network.n_parameters, n_train=128,
        n_val=128, seed=0, epoch=0, step=0, metrics={}, dataset_sha256="0" * 64,
        config_sha256="0" * 64, weights_sha256="", reference_sha256="",
        versions=package_versions(), in_channels=1, image_size=SIZE,
    )  # fmt: skip
    n_features = network.backbone.n_features
    novelty = fit_novelty(description[:128], description[128:], n_features)
    save_run(folder, spec, network.state_dict(), novelty)
    return folder
