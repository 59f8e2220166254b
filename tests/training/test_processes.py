"""Several processes share every batch and come to what one process comes to."""

import json

import pytest
from numpy.testing import assert_allclose
from safetensors.numpy import load_file

from pipeline.core.errors import ConfigError, DatasetNotFoundError, TrainingError
from pipeline.training.processes import Group, run_in_processes
from pipeline.training.run import run_training

from .conftest import SGD, tiny_training


def answer(group: Group, word: str) -> str:
    return f"{word} {group.rank} of {group.size}"


def fail_in_second(group: Group) -> None:
    import time

    if group.rank == 1:
        raise TrainingError("images 3, 5")
    time.sleep(60)


def die_in_second(group: Group) -> None:
    import os
    import time

    if group.rank == 1:
        os._exit(9)
    time.sleep(60)


def test_batch_that_cannot_be_shared_evenly_is_refused(data, tmp_path):
    with pytest.raises(ConfigError, match="batch_size 16 cannot be shared by 3 processes"):
        run_training(tiny_training(), data, tmp_path / "run", device="cpu", devices=3)
    with pytest.raises(ConfigError, match="at least one device, found 0"):
        run_training(tiny_training(), data, tmp_path / "run", device="cpu", devices=0)


@pytest.mark.slow
def test_first_processs_answer_comes_back():
    assert run_in_processes(2, answer, "rank") == "rank 0 of 2"


@pytest.mark.slow
def test_failure_of_any_process_ends_all_and_is_told():
    with pytest.raises(TrainingError, match="images 3, 5"):
        run_in_processes(2, fail_in_second)
    with pytest.raises(TrainingError, match=r"died \(exit code 9\)"):
        run_in_processes(2, die_in_second)


@pytest.mark.slow
def test_two_processes_train_to_the_weights_of_one(data, tmp_path):
    # No batch norm and no dropout: the gradient of a batch is the mean of those of its halves.
    settings = {
        "model": {"kind": "vit", "patch": 8, "dim": 32, "depth": 2, "heads": 2, "dropout": 0.0},
        "ema": 0.9,
        "epochs": 3,
        "optimiser": SGD,
        "loggers": (),
    }
    config = tiny_training(**settings)
    one = run_training(config, data, tmp_path / "one", device="cpu")
    two = run_training(config, data, tmp_path / "two", device="cpu", devices=2)
    assert two.epochs == one.epochs == 3
    first, second = (
        load_file(tmp_path / n / "last" / "weights.safetensors") for n in ("one", "two")
    )
    for name, value in first.items():
        assert_allclose(second[name], value, atol=2e-5, err_msg=name)
    rows = [
        [json.loads(line) for line in (tmp_path / n / "metrics.jsonl").read_text().splitlines()]
        for n in ("one", "two")
    ]
    for here, there in zip(*rows, strict=True):
        assert_allclose(there["train_loss"], here["train_loss"], rtol=1e-4)
        assert_allclose(there["val_loss"], here["val_loss"], rtol=1e-3)
    # A run that several processes began is one that a single process recognises, and vice versa.
    assert run_training(config, data, tmp_path / "two", device="cpu").already_done


@pytest.mark.slow
def test_error_inside_a_process_is_that_of_one_process(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"none\.zarr"):
        run_training(tiny_training(), tmp_path / "none.zarr", tmp_path / "run", devices=2)
