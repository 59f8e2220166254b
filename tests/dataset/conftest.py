"""A small real dataset: 60 images of the demo preset at 24 pixels, shards of 9."""

from pathlib import Path

import pytest

from pipeline.dataset.config import DatasetConfig, load_dataset_config
from pipeline.dataset.simulate import simulate_dataset
from pipeline.dataset.store import Dataset, open_dataset

TINY = ["n_images=60", "shard_size=9", "n_pix=24", "supersample=1"]


@pytest.fixture(scope="session")
def tiny_config() -> DatasetConfig:
    return load_dataset_config("demo", TINY)


@pytest.fixture(scope="session")
def tiny(tiny_config: DatasetConfig, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("tiny") / "tiny.zarr"
    simulate_dataset(tiny_config, path, workers=1)
    return open_dataset(path)


def tree(path: Path) -> dict[str, bytes]:
    """Every file below ``path`` with its bytes."""
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}
