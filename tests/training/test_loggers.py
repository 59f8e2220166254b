"""Rows go to every logger, offline, and a resumed run goes on in the same place."""

import importlib.util
import sqlite3

import pytest

from pipeline.core.errors import ConfigError, MissingExtraError
from pipeline.training.config import load_training_config
from pipeline.training.journal import Journal
from pipeline.training.loggers import require_loggers
from pipeline.training.run import run_training

from .conftest import tiny_training


def rows(n: int) -> list[dict[str, float | int | None]]:
    return [
        {"epoch": k, "step": 10 * k, "seconds": 1.0, "train_loss": 1.0 / k, "val_auc": None}
        for k in range(1, n + 1)
    ]


def write(config, folder, n_before: int, n: int) -> None:
    with Journal(config, folder, n_before, 10 * n_before) as journal:
        for row in rows(n)[n_before:]:
            journal.add(row)


def test_missing_package_is_named_with_its_extra_before_training(data, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "wandb" else found(name, *a)
    )
    with pytest.raises(MissingExtraError, match=r"deeplense-pipeline\[wandb\]"):
        run_training(tiny_training(loggers=("wandb",)), data, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    require_loggers(())


def test_unknown_logger_is_refused():
    with pytest.raises(ConfigError, match="loggers"):
        load_training_config("demo", ["loggers=[neptune]"])


@pytest.mark.slow
def test_mlflow_holds_configuration_and_curve_in_one_run(tmp_path):
    config = tiny_training(loggers=("mlflow",))
    write(config, tmp_path, 0, 2)
    write(config, tmp_path, 2, 3)  # resumed
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        runs = store.execute("select run_uuid, status from runs").fetchall()
        curve = store.execute(
            "select step, value from metrics where key='train_loss' order by step"
        ).fetchall()
        keys = {key for (key,) in store.execute("select key from params")}
    store.close()
    assert len(runs) == 1 and runs[0][1] == "FINISHED"
    assert curve == [(10, 1.0), (20, 0.5), (30, pytest.approx(1 / 3))]
    assert {"optimiser.learning_rate", "epochs", "model.kind"} <= keys


@pytest.mark.slow
def test_wandb_writes_offline_below_the_run(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    write(tiny_training(loggers=("wandb",)), tmp_path, 0, 2)
    records = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(records) == 1 and records[0].stat().st_size > 0
