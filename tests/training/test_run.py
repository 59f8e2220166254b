"""Training begins, goes on, stops and refuses; what it keeps is what an unbroken run keeps."""

import csv
import json
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.checkpoint.load import load_run
from pipeline.checkpoint.yaml_text import yaml_text
from pipeline.core.errors import (
    CheckpointError,
    ConfigError,
    DatasetNotFoundError,
    OutputError,
    TrainingError,
)
from pipeline.dataset.store import open_dataset
from pipeline.training import loop as loop_module
from pipeline.training import run as run_module
from pipeline.training.evaluate import evaluate_run
from pipeline.training.run import run_training
from pipeline.training.state import read_state, save_state

from .conftest import MODEL, SGD, tiny_training


class Killed(BaseException):
    """Stands for the end of the process."""


def kill_after_saves(monkeypatch, n: int) -> None:
    """End the session right after the n-th save of its state."""
    n_left = n

    def save_and_die(*arguments) -> None:
        nonlocal n_left
        save_state(*arguments)
        n_left -= 1
        if n_left == 0:
            raise Killed

    monkeypatch.setattr(run_module, "save_state", save_and_die)


def assert_same_run(first: Path, second: Path) -> None:
    """Equal weights, novelty reference, optimiser, average and metrics (but for the seconds)."""
    for name in ("weights.safetensors", "reference.safetensors", "last/weights.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    one, two = read_state(first), read_state(second)
    torch.testing.assert_close(one["optimiser"], two["optimiser"], rtol=0, atol=0)
    torch.testing.assert_close(one["average"], two["average"], rtol=0, atol=0)
    assert rows(first) == rows(second)


def rows(run: Path, *times: str) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if "seconds" not in k or k in times} for line in lines]


def files(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """Run folder of an unbroken run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run_training(tiny_training(), data, folder, device="cpu")
    return folder


@pytest.mark.parametrize("n_saves", [2, 5, 7])
def test_resumed_run_equals_an_unbroken_one(data, whole, tmp_path, monkeypatch, n_saves):
    # One save at the start and one a step: the kills fall inside the first, second, third epoch.
    with monkeypatch.context() as patch:
        kill_after_saves(patch, n_saves)
        with pytest.raises(Killed):
            run_training(tiny_training(), data, tmp_path / "run", device="cpu", save_every=0.0)
    summary = run_training(tiny_training(), data, tmp_path / "run", device="cpu")
    assert summary.resumed and summary.epochs == 3
    assert_same_run(whole, tmp_path / "run")


def test_resumed_run_equals_an_unbroken_one_with_every_part_of_the_recipe(
    data, tmp_path, monkeypatch
):
    config = tiny_training(
        batch_size=8,
        accumulate=2,
        optimiser={"name": "sgd", "learning_rate": 0.05},
        schedule={"name": "step", "every": 1, "factor": 0.5},
        loggers=(),
    )
    run_training(config, data, tmp_path / "whole", device="cpu")
    with monkeypatch.context() as patch:
        kill_after_saves(patch, 7)
        with pytest.raises(Killed):
            run_training(config, data, tmp_path / "run", device="cpu", save_every=0.0)
    position = read_state(tmp_path / "run")["position"]
    assert 0 < position["epoch_step"] < 7 and position["epoch_step"] == 2 * (position["step"] - 4)
    assert run_training(config, data, tmp_path / "run", device="cpu").resumed
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_accumulated_batches_are_one_large_batch(data, tmp_path):
    # No batch norm and no dropout: the mean of the gradients of the halves is that of the whole.
    plain = {"kind": "vit", "patch": 8, "dim": 16, "depth": 1, "heads": 2, "dropout": 0.0}
    settings = {"model": plain, "epochs": 2, "optimiser": SGD, "loggers": ()}
    whole = tiny_training(**settings, batch_size=24)
    halves = tiny_training(**settings, batch_size=12, accumulate=2)
    run_training(whole, data, tmp_path / "whole", device="cpu")
    run_training(halves, data, tmp_path / "halves", device="cpu")
    one, two = read_state(tmp_path / "whole"), read_state(tmp_path / "halves")
    assert one["position"]["step"] == two["position"]["step"] == 4
    torch.testing.assert_close(one["network"], two["network"], rtol=0, atol=1e-6)


def test_run_folder_holds_what_the_architecture_promises(whole):
    names = set(files(whole))
    assert names >= {
        "checkpoint.json",
        "weights.safetensors",
        "reference.safetensors",
        "config.yaml",
        "metrics.jsonl",
        "metrics.csv",
        "MODEL_CARD.md",
        "last/weights.safetensors",
        "last/state.pt",
    }
    assert any(name.startswith("tensorboard/events") for name in names)
    assert not any(".partial" in name for name in names)


def test_metrics_are_the_same_in_both_files_and_the_best_is_kept(whole):
    with (whole / "metrics.csv").open(newline="") as stream:
        table = [float(row["val_macro_auc"]) for row in csv.DictReader(stream)]
    found = [row["val_macro_auc"] for row in rows(whole)]
    assert table == found and len(found) == 3
    spec = load_run(whole).spec
    assert spec.metrics["macro_auc"] == max(found)
    assert spec.epoch == 1 + int(np.argmax(found))


def test_finished_run_is_left_untouched(data, whole):
    before = files(whole)
    summary = run_training(tiny_training(), data, whole, device="cpu")
    assert summary.already_done and not summary.resumed
    assert files(whole) == before


def test_another_configuration_is_refused_with_the_key_that_differs(data, whole):
    before = files(whole)
    with pytest.raises(CheckpointError, match=r"batch_size was 16, is 8"):
        run_training(tiny_training(batch_size=8), data, whole)
    assert files(whole) == before


def test_other_prose_is_no_other_configuration(data, whole):
    summary = run_training(tiny_training(description="words"), data, whole, device="cpu")
    assert summary.already_done


def test_folder_with_other_things_is_refused_and_left_alone(data, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"found thesis\.tex"):
        run_training(tiny_training(), data, tmp_path)
    assert set(files(tmp_path)) == {"thesis.tex"}


def test_output_below_a_file_and_missing_data_are_named(data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((CheckpointError, OutputError), match="file"):
        run_training(tiny_training(), data, tmp_path / "file" / "run")
    with pytest.raises(DatasetNotFoundError, match=r"none\.zarr"):
        run_training(tiny_training(), tmp_path / "none.zarr", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_full_disk_is_named_and_harms_no_earlier_run(full_disk, data, whole, tmp_path):
    before = files(whole)
    with full_disk(), pytest.raises(OutputError, match="cannot be written"):
        run_training(tiny_training(), data, tmp_path / "run", device="cpu")
    assert files(whole) == before
    assert run_training(tiny_training(), data, tmp_path / "run", device="cpu").epochs == 3


def test_image_size_that_the_model_cannot_take_is_refused(data, tmp_path):
    config = tiny_training(model={"kind": "vit", "patch": 5, "fit": "exact"})
    with pytest.raises(ConfigError, match=r"32x32 pixels: it takes multiples of 5"):
        run_training(config, data, tmp_path / "run", device="cpu")


def test_lost_loss_stops_and_keeps_the_last_good_weights(data, tmp_path):
    # Learning rate 0 in the first step, absurd in the next: the second epoch cannot be finite.
    config = tiny_training(
        batch_size=64,
        epochs=8,
        augment={"enabled": False},
        optimiser={"learning_rate": 1e30, "clip": None},
        schedule={"warmup": 0.9, "floor": 0.0},
    )
    with pytest.raises(TrainingError, match=r"no longer finite; the best weights so far"):
        run_training(config, data, tmp_path / "run", device="cpu", save_every=0.0)
    assert load_run(tmp_path / "run").spec.epoch == 1
    state = read_state(tmp_path / "run")
    assert all(torch.isfinite(v).all() for v in state["network"].values())


def test_lost_loss_names_the_images_of_its_batch(data, tmp_path):
    config = tiny_training(
        ema=None, optimiser={"learning_rate": 1e30, "clip": None}, schedule={"warmup": 0.0}
    )
    with pytest.raises(TrainingError, match=r"loss became \w+ at step \d.* of images \d+, \d+"):
        run_training(config, data, tmp_path / "run", device="cpu")


def test_time_budget_ends_the_run_with_a_checkpoint(data, tmp_path):
    config = tiny_training(epochs=10_000, max_minutes=0.02)
    summary = run_training(config, data, tmp_path / "run", device="cpu")
    assert "time budget of 0.02 minutes" in summary.stopped
    assert summary.seconds < 10.0
    assert load_run(tmp_path / "run").spec.metrics["macro_auc"] == summary.best_metric


def test_budget_of_processor_time_ends_the_run_and_its_cosine(data, tmp_path, monkeypatch):
    readings = count()  # a processor clock on which every reading takes ten milliseconds
    clock = SimpleNamespace(monotonic=time.monotonic, process_time=lambda: 0.01 * next(readings))
    monkeypatch.setattr(loop_module, "time", clock)
    config = tiny_training(epochs=10_000, max_core_minutes=0.02)
    summary = run_training(config, data, tmp_path / "run", device="cpu")
    assert "time budget of 0.02 minutes of one core" in summary.stopped
    last = rows(tmp_path / "run", "core_seconds")[-1]
    assert last["core_seconds"] >= 1.2
    peak = config.optimiser.learning_rate
    assert last["learning_rate"] < 0.2 * peak


def test_novelty_is_measured_on_as_many_images_as_the_network_was_shown(
    data, tmp_path, monkeypatch
):
    described = []
    measure = run_module.fit_novelty

    def counted(train, val, n_features):
        described.append(len(train))
        return measure(train, val, n_features)

    monkeypatch.setattr(run_module, "fit_novelty", counted)
    monkeypatch.setattr(run_module, "REFERENCE_LEAST", 8)
    short = tiny_training(epochs=5, batch_size=16, max_minutes=1e-6, loggers=())
    run_training(short, data, tmp_path / "short", device="cpu")
    assert described == [8]  # over before the first batch
    n_batches = len(open_dataset(data).indices("train")) // 16
    whole = tiny_training(epochs=1, batch_size=16, loggers=())
    run_training(whole, data, tmp_path / "whole", device="cpu")
    assert described[1:] == [16 * n_batches]


def test_patience_ends_a_run_that_gets_no_better(data, tmp_path):
    frozen = tiny_training(epochs=50, patience=2, ema=None, optimiser={"learning_rate": 1e-30})
    summary = run_training(frozen, data, tmp_path / "run", device="cpu")
    assert summary.stopped == "no better macro_auc for 2 epochs"
    assert summary.epochs < 20


@pytest.mark.slow
def test_network_learns_the_images_by_heart(data, tmp_path):
    config = tiny_training(
        model={**MODEL, "channels": (16, 32)},
        epochs=70,
        batch_size=8,
        ema=None,
        augment={"enabled": False},
        optimiser={"learning_rate": 5e-3},
    )
    run_training(config, data, tmp_path / "run", device="cpu")
    losses = [row["train_loss"] for row in rows(tmp_path / "run")]
    assert losses[0] > 0.9
    assert losses[-1] < 0.2


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from pipeline.training.config import load_training_config
from pipeline.training.evaluate import evaluate_run
from pipeline.training.run import run_training
config = load_training_config({config!r})
run_training(config, Path({data!r}), Path({out!r}), device="cpu", save_every=0.0)
"""


@pytest.mark.slow
def test_kill_minus_nine_and_resume_give_the_bits_of_an_unbroken_run(data, tmp_path):
    config = tiny_training(epochs=12)
    (tmp_path / "config.yaml").write_text(yaml_text(config))
    script = SCRIPT.format(
        root=str(Path(__file__).resolve().parents[2]),
        config=str(tmp_path / "config.yaml"),
        data=str(data),
        out=str(tmp_path / "killed"),
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    journal = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not journal.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not read_state(tmp_path / "killed")["position"]["finished"]
    assert run_training(config, data, tmp_path / "killed", device="cpu").resumed
    run_training(config, data, tmp_path / "whole", device="cpu")
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_axion_mass_is_learnt_from_the_images_that_have_one(data, tmp_path):
    config = tiny_training(task="regression", epochs=2)
    summary = run_training(config, data, tmp_path / "run", device="cpu")
    assert summary.metric == "mae_dex" and 0.0 < summary.best_metric < 2.0
    run = load_run(tmp_path / "run", task="regression")
    dataset = open_dataset(data)
    predicted = run.predict(dataset.read_images(dataset.indices("test")[:4]))
    assert predicted.class_probability is None
    assert predicted.target_mean.shape == predicted.target_std.shape == (4, 1)
    assert ((predicted.target_mean > -26) & (predicted.target_mean < -20)).all()  # log10 of eV
    found = evaluate_run(tmp_path / "run", data, device="cpu")
    assert found.n == len(dataset.indices("test")) and found.confusion is None
    with pytest.raises(CheckpointError, match="for 'regression', needed is 'classification'"):
        load_run(tmp_path / "run", task="classification")
