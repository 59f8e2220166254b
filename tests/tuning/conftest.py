"""A small dataset, a small network, and a search space over it."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main as cli
from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.simulate import simulate_dataset
from pipeline.tuning.space import Recipe, load_recipe
from pipeline.tuning.study import Study

CONFIG = """\
model: {kind: lens_hybrid, channels: [8, 16], blocks: [0, 0], depth: 1, heads: 2}
epochs: 2
batch_size: 16
loggers: []
"""
SPACE = """\
parameters:
  optimiser.learning_rate: {kind: log_uniform, low: 1.0e-4, high: 3.0e-2}
  batch_size: [8, 16]
pruner: none
trials: 3
"""


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 images of the demo preset at 24 pixels."""
    path = tmp_path_factory.mktemp("data") / "tiny.zarr"
    sizes = ["n_images=96", "shard_size=96", "n_pix=24", "supersample=1"]
    split = ["splits.train=0.6", "splits.val=0.2", "splits.test=0.2"]
    simulate_dataset(load_dataset_config("demo", sizes + split), path, workers=1)
    return path


@pytest.fixture(scope="session")
def make_files() -> Callable[[Path], tuple[Path, Path]]:
    """Write the small configuration and the small space into a folder."""

    def make(folder: Path) -> tuple[Path, Path]:
        config, space = folder / "config.yaml", folder / "space.yaml"
        config.write_text(CONFIG)
        space.write_text(SPACE)
        return config, space

    return make


@pytest.fixture
def config(tmp_path: Path, make_files: Callable[[Path], tuple[Path, Path]]) -> Path:
    """A training configuration of two short epochs."""
    return make_files(tmp_path)[0]


@pytest.fixture
def write_space(tmp_path: Path) -> Callable[[str], Path]:
    """Write a search space."""

    def write(text: str = SPACE) -> Path:
        path = tmp_path / "space.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def make_recipe(config: Path, write_space: Callable[[str], Path]) -> Callable[..., Recipe]:
    """A search space over the small configuration."""

    def make(text: str = SPACE, *changes: str, overrides: tuple[str, ...] = ()) -> Recipe:
        return load_recipe(config, write_space(text), overrides, changes)

    return make


@pytest.fixture
def make_study(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> Callable[..., Study]:
    """A study that no data are needed for: its trials are told, not trained."""

    def make(text: str = SPACE, *changes: str, **options: Any) -> Study:
        recipe = make_recipe(text, *changes, **options)
        return Study(tmp_path / "study", recipe, "0" * 64, "macro_auc", True)

    return make


@pytest.fixture
def deeplense(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run ``deeplense ARGUMENTS`` in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    return run


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Environment of a command in a process of its own."""
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def command() -> list[str]:
    """``deeplense`` as a process of its own."""
    return [sys.executable, "-m", "pipeline"]
