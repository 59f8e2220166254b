"""Small images as other people store them, and a small simulated dataset."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.simulate import simulate_dataset
from pipeline.dataset.store import Dataset, open_dataset

CLASSES = ("no_sub", "cdm", "axion")


def pictures(n: int, size: int = 16, seed: int = 0) -> np.ndarray:
    """Noise with a bright spot, float64, (n, size, size): never two alike."""
    images = np.random.default_rng(seed).normal(size=(n, size, size))
    images[:, size // 2, size // 2] += 30.0
    return images


def pair(image: np.ndarray, mass: float) -> np.ndarray:
    """What DeepLense stores for one axion lens."""
    both = np.empty(2, object)
    both[0], both[1] = image, mass
    return both


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=True)
    return path


def deeplense_folder(root: Path, n: int = 12, *, prefix: str = "", seed: int = 0) -> np.ndarray:
    """Write a folder per class; return the images, (3, n, 16, 16)."""
    images = pictures(3 * n, seed=seed).reshape(3, n, 16, 16)
    for name, stack in zip(CLASSES, images, strict=True):
        for i, image in enumerate(stack):
            whole = pair(image, 10.0 ** -(23.0 + i / 10)) if name == "axion" else image
            save(root / prefix / name / f"{name}_sim_{i}.npy", whole)
    return images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    deeplense_folder(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Sixty images of the demo preset at 24 pixels."""
    config = load_dataset_config("demo", ["n_images=60", "shard_size=9", "n_pix=24"])
    path = tmp_path_factory.mktemp("simulated") / "demo.zarr"
    simulate_dataset(config, path, workers=1)
    return open_dataset(path)
