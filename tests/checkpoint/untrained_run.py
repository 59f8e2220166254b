"""A run folder with an untrained network: what matters here is what is kept, not what is learnt."""

from pathlib import Path

import numpy as np
import torch

from pipeline.checkpoint.load import network_outputs, resolve_device
from pipeline.checkpoint.network import build_network
from pipeline.checkpoint.novelty import fit_novelty
from pipeline.checkpoint.save import save_run
from pipeline.checkpoint.spec import CheckpointSpec
from pipeline.dataset.preprocess import Preprocess
from pipeline.models.base import MODELS
from pipeline.tasks.base import TASKS, fit_target

SIZE = 40
CLASSES = ("no", "subhalo", "vortex")
PREPROCESS = Preprocess(
    bands=("f814w",),
    pixel_scale=0.05,
    size=SIZE,
    normalise="noise",
    stretch=("asinh",),
    softening=3.0,
    background=(0.0,),
    sigma=(1.0,),
    offset=(0.4,),
    scale=(0.9,),
    clip=20.0,
)


def lens_images(n: int, seed: int = 0) -> np.ndarray:
    """Rings of varied radius in noise, shape (n, 1, SIZE, SIZE), electron/s."""
    rng = np.random.default_rng(seed)
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    radius = np.hypot(axis[:, None], axis[None, :])
    size = rng.uniform(8.0, 9.0, n)[:, None, None]
    ring = 40.0 * np.exp(-0.5 * ((radius - size) / 1.5) ** 2)
    return (ring + rng.normal(size=ring.shape)).astype(np.float32)[:, None]


def write_run(
    folder: Path, kind: str = "lens_hybrid", seed: int = 0, task: object = "classification"
) -> CheckpointSpec:
    """Write a checkpoint of an untrained mini network."""
    module, asked = MODELS.load(kind), TASKS.config(task)
    masses = 10.0 ** np.linspace(-24.0, -22.0, 101)
    targets = () if task == "classification" else (fit_target("axion_mass", "eV", "log10", masses),)
    model = module.VARIANTS.get("mini", module.Config()).with_changes(fit="resample")
    network, built = build_network(
        model,
        asked,
        in_channels=1,
        image_size=SIZE,
        class_names=CLASSES,
        targets=targets,
        seed=seed,
    )
    network.eval()

    def described(images: np.ndarray) -> np.ndarray:
        prepared = torch.from_numpy(PREPROCESS.apply(images))
        return network_outputs(network, prepared, resolve_device("cpu"))[1]

    spec = CheckpointSpec(
        task=asked,
        model=model,
        in_channels=1,
        image_size=SIZE,
        class_names=CLASSES,
        targets=targets,
        preprocess=PREPROCESS,
        calibration={**built.uncalibrated, "temperature": 1.5},
        n_parameters=network.n_parameters,
        n_train=200,
        n_val=100,
        seed=seed,
        epoch=1,
        step=10,
        metrics={"macro_auc": 0.5},
        dataset_sha256="d" * 64,
        config_sha256="c" * 64,
        weights_sha256="",
        reference_sha256="",
        versions={"torch": "2"},
    )
    train, val = described(lens_images(200, 1)), described(lens_images(100, 2))
    novelty = fit_novelty(train, val, network.backbone.n_features)
    return save_run(folder, spec, network.state_dict(), novelty)
