"""Anomaly runs see the classes they are told to and nothing else; what they find is judged."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score

from pipeline.checkpoint.load import load_run
from pipeline.core.errors import ConfigError
from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.open import restricted
from pipeline.dataset.store import open_dataset
from pipeline.dataset.stream import block, first_of_split
from pipeline.inference.score import score_table
from pipeline.training.evaluate import evaluate_run
from pipeline.training.run import run_training

from .conftest import tiny_training
from .test_run import Killed, assert_same_run, kill_after_saves

SMALL = {"kind": "anomaly", "latent": 4, "width": 4, "neighbours": 3}
METHODS = ("vae", "adversarial", "mahalanobis", "knn")


def anomaly(method: str, **changes):
    settings = {"epochs": 1, "batch_size": 8, "loggers": ()} | changes
    return tiny_training(task={**SMALL, "method": method}, **settings)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Run folder of each method, made when it is asked for."""
    folder = tmp_path_factory.mktemp("anomaly")

    def run(method: str) -> Path:
        run_training(anomaly(method), data, folder / method, device="cpu")
        return folder / method

    return run


def test_splits_hold_the_chosen_classes_alone(data):
    whole = open_dataset(data)
    part = restricted(whole, ("no", "vortex"))
    for split in ("train", "val", "test"):
        index = part.indices(split)
        assert set(whole.labels[index]) == {0, 2}
        assert set(whole.indices(split)) - set(index) == {
            i for i in whole.indices(split) if whole.labels[i] == 1
        }
    assert part.sha256 == whole.sha256 and part.class_names == whole.class_names


def test_simulated_streams_hold_the_chosen_classes_alone():
    config = load_dataset_config("demo")
    numbers = first_of_split(config, "val", 20, ("subhalo",))
    assert (numbers % 3 == 1).all()
    assert set(numbers) <= set(first_of_split(config, "val", 200))
    batch = block(config, 16, 3, ("subhalo",))
    assert (batch % 3 == 1).all() and len(batch) >= len(block(config, 16, 3)) - 1


@pytest.mark.parametrize("method", ["adversarial", "mahalanobis"])
def test_other_classes_change_no_bit_of_a_run(data, trained, tmp_path, method):
    other = tmp_path / "other.zarr"
    shutil.copytree(data, other)
    is_other = open_dataset(data).labels != 0
    images = zarr.open_array(other / "images", mode="r+")
    values = images[:]
    values[is_other] = np.random.default_rng(0).normal(size=values[is_other].shape)
    images[:] = values
    run_training(anomaly(method), other, tmp_path / "run", device="cpu")
    for name in ("weights.safetensors", "reference.safetensors", "checkpoint.json"):
        assert (trained(method) / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


@pytest.mark.parametrize("method", ["adversarial", "knn"])
def test_resumed_run_equals_an_unbroken_one(data, tmp_path, monkeypatch, method):
    config = anomaly(method, epochs=2)
    run_training(config, data, tmp_path / "whole", device="cpu")
    with monkeypatch.context() as patch:
        kill_after_saves(patch, 5)
        with pytest.raises(Killed):
            run_training(config, data, tmp_path / "run", device="cpu", save_every=0.0)
    assert run_training(config, data, tmp_path / "run", device="cpu").resumed
    assert_same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize("method", METHODS)
def test_every_class_is_ranked_against_the_inliers(data, trained, method):
    run = trained(method)
    found = evaluate_run(run, data, device="cpu")
    dataset = open_dataset(data)
    index = dataset.indices("test")
    score = load_run(run).predict(dataset.read_images(index)).anomaly
    labels = dataset.labels[index]
    for name, chosen in {"all": labels >= 0, "vortex": labels != 1, "subhalo": labels != 2}.items():
        expected = roc_auc_score(labels[chosen] != 0, score[chosen])
        assert_allclose(found.metrics[f"auc_{name}"], expected, atol=1e-9)
        low, high = found.intervals[f"auc_{name}"]
        assert low <= expected <= high
    assert set(found.floor) == {"all", "subhalo", "vortex"}
    assert json.loads((run / "evaluation.json").read_text()) == found.to_json()
    assert set(found.summary()["auc"]) == {"all", "subhalo", "vortex"}
    card = (run / "MODEL_CARD.md").read_text()
    assert "how unlike no an image is" in card and "| auc_vortex |" in card


def test_scores_are_in_robust_deviations_of_validation_inliers(data, trained):
    run = load_run(trained("vae"))
    dataset = restricted(open_dataset(data), ("no",))
    score = run.predict(dataset.read_images(dataset.indices("val"))).anomaly
    assert_allclose(np.median(score), 0.0, atol=1e-3)
    assert_allclose(np.median(np.abs(score)), 1 / 1.4826, rtol=1e-3)


def test_scores_table_has_an_anomaly_and_no_class(data, trained):
    run = load_run(trained("knn"))
    table = score_table(run, [data])
    assert "label" not in table.colnames and not any(c[:2] == "p_" for c in table.colnames)
    # eight symmetric copies are averaged, so the values are not those of one copy
    assert np.isfinite(table["anomaly"]).all() and table["anomaly"].std() > 0
    assert ((table["novelty"] >= 0) & (table["novelty"] <= 1)).all()


def test_what_cannot_be_trained_on_is_refused_by_name(data, tmp_path):
    unknown = {**SMALL, "inliers": ("smoth", "no")}
    with pytest.raises(ConfigError, match="no class 'smoth' to train on"):
        run_training(tiny_training(task=unknown), data, tmp_path / "run", device="cpu")
    with pytest.raises(ConfigError, match="learns by gradients, which model 'shortcut' has none"):
        run_training(
            anomaly("vae", model={"kind": "shortcut"}), data, tmp_path / "run", device="cpu"
        )
