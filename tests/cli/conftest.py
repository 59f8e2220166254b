"""The command as a user runs it, and small things to run it on."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.cli import main as cli

PRESET = """\
extends: demo
n_images: 60
shard_size: 20
n_pix: 24
supersample: 1
"""
TRAINING = """\
model: {kind: lens_hybrid, channels: [8, 16, 16], blocks: [0, 1, 0], depth: 1, heads: 2}
epochs: 1
batch_size: 16
"""


class Done(NamedTuple):
    """How a command ended and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def deeplense(capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run ``deeplense ARGUMENTS`` in this process: the same code, without its imports' seconds."""

    def run(*arguments: object) -> Done:
        capfd.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        return Done(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def deeplense_process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``deeplense ARGUMENTS`` in a process of its own."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
        environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)

    return run


@pytest.fixture(scope="session")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset configuration of 60 small images."""
    path = tmp_path_factory.mktemp("preset") / "small.yaml"
    path.write_text(PRESET)
    return path


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training configuration of one epoch."""
    path = tmp_path_factory.mktemp("training") / "small.yaml"
    path.write_text(TRAINING)
    return path


@pytest.fixture(scope="session")
def data(preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished dataset."""
    path = tmp_path_factory.mktemp("data") / "small.zarr"
    assert cli.run(["simulate", str(preset), "--out", str(path), "--workers", "1"]) == 0
    return path


@pytest.fixture(scope="session")
def run_folder(training: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    path = tmp_path_factory.mktemp("run") / "small"
    call = ["train", str(training), "--data", str(data), "--out", str(path), "--device", "cpu"]
    assert cli.run(call) == 0
    return path
