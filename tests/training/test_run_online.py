"""Training on a preset, simulated on the fly: it goes on exactly, and the checkpoint says so."""

from pathlib import Path

import pytest

from pipeline.checkpoint.spec import read_spec
from pipeline.core.errors import CheckpointError
from pipeline.dataset import online
from pipeline.training.evaluate import evaluate_run
from pipeline.training.run import run_training

from .conftest import tiny_training
from .test_run import Killed, assert_same_run, kill_after_saves

ONLINE = {
    "images": 48,
    "val_images": 24,
    "test_images": 24,
    "curriculum": {"start": 2.0, "steps": 4},
}


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate in this process: a new one takes seconds to start."""
    monkeypatch.setattr(online, "_kind", lambda config: "thread")


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("preset") / "mine.yaml"
    path.write_text("extends: demo\nn_pix: 32\nsupersample: 1\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("n_saves", [3])
def test_a_resumed_run_equals_an_unbroken_one(preset, tmp_path, monkeypatch, n_saves) -> None:
    config = tiny_training(online=ONLINE, epochs=2)
    run_training(config, preset, tmp_path / "whole", device="cpu")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after_saves(patch, n_saves)
        run_training(config, preset, tmp_path / "run", device="cpu", save_every=0.0)
    assert run_training(config, preset, tmp_path / "run", device="cpu").resumed
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_the_checkpoint_says_how_its_images_came_to_be(preset, data, tmp_path) -> None:
    run = tmp_path / "run"
    config = tiny_training(online=ONLINE, epochs=2)
    run_training(config, preset, run, device="cpu")
    spec = read_spec(run)
    assert spec.simulated_on_the_fly
    assert spec.n_train == 48 * spec.epoch
    assert "simulated on the fly and seen once each" in (run / "MODEL_CARD.md").read_text()
    assert not evaluate_run(run, data, device="cpu").same_dataset
    with pytest.raises(CheckpointError, match="another dataset"):
        run_training(config, data, run, device="cpu")
