"""A small real dataset and small configurations of training."""

from pathlib import Path

import pytest

from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.simulate import simulate_dataset
from pipeline.training.config import TrainingConfig

MODEL = {"kind": "lens_hybrid", "channels": (8, 16), "blocks": (0, 0), "depth": 1, "heads": 2}
#: Adam turns rounding into steps of its own size where a gradient vanishes; this does not.
SGD = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9}


def tiny_training(**changes) -> TrainingConfig:
    """Three epochs of a few steps with dropout, augmentation and weight averaging."""
    settings = {
        "model": {**MODEL, "dropout": 0.2},
        "epochs": 3,
        "batch_size": 16,
        "ema": 0.9,
        "augment": {"max_shift": 1},
    }
    return TrainingConfig.model_validate({**settings, **changes})


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 images of the demo preset at 32 pixels."""
    path = tmp_path_factory.mktemp("training") / "tiny.zarr"
    sizes = ["n_images=96", "shard_size=32", "n_pix=32", "supersample=1"]
    split = ["splits.train=0.6", "splits.val=0.2", "splits.test=0.2"]
    simulate_dataset(load_dataset_config("demo", sizes + split), path, workers=1)
    return path
