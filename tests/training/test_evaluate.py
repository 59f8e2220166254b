"""Evaluation of a run: the right images, the right numbers, refusals."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score

from pipeline.checkpoint.load import load_run
from pipeline.core.errors import DatasetError, DatasetMismatchError
from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.generate import simulate_dataset
from pipeline.dataset.store import open_dataset
from pipeline.training.evaluate import evaluate_run
from pipeline.training.run import run_training

from .conftest import tiny_training


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    run_training(tiny_training(epochs=6), data, folder, device="cpu")
    return folder


def test_metrics_are_those_of_the_runs_own_predictions(trained, data):
    dataset = open_dataset(data)
    index = dataset.indices("test")
    predicted = load_run(trained).predict(dataset.read_images(index))
    labels = dataset.labels[index]
    found = evaluate_run(trained, data, device="cpu")
    assert found.n == len(index)
    probability = predicted.class_probability
    assert found.accuracy == np.mean(probability.argmax(axis=1) == labels)
    assert_allclose(
        [found.auc[name] for name in dataset.class_names],
        [roc_auc_score(labels == k, probability[:, k]) for k in range(3)],
        atol=1e-9,
    )
    assert_allclose(found.macro_auc, np.mean(list(found.auc.values())))
    assert found.macro_auc_interval[0] <= found.macro_auc <= found.macro_auc_interval[1]
    assert_array_equal(found.confusion.sum(axis=1), np.bincount(labels, minlength=3))


def test_evaluation_is_written_whole_and_enters_the_card(trained, data):
    found = evaluate_run(trained, data, device="cpu")
    stored = json.loads((trained / "evaluation.json").read_text())
    assert stored == found.to_json()
    assert stored["dataset_sha256"] == open_dataset(data).sha256 and stored["same_dataset"]
    assert len(stored["roc"]) == 3 and len(stored["curves"]) == 6
    assert f"test split, {found.n} images" in (trained / "MODEL_CARD.md").read_text()
    assert load_run(trained).sha256 == stored["checkpoint_sha256"]


def test_evaluating_twice_gives_the_same_text(trained, data):
    evaluate_run(trained, data, device="cpu")
    first = (trained / "evaluation.json").read_bytes()
    evaluate_run(trained, data, device="cpu")
    assert (trained / "evaluation.json").read_bytes() == first


def test_promised_fields_are_there(trained, data):
    summary = evaluate_run(trained, data, split="val", device="cpu").summary()
    assert {"n", "accuracy", "macro_auc", "auc", "macro_auc_interval", "ece"} <= set(summary)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_unknown_split_is_refused(trained, data):
    with pytest.raises(DatasetError, match="'tset' is no split"):
        evaluate_run(trained, data, split="tset", device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("n_pix=24", r"image size \(pixels\) 24 instead of 32"),
        ("instruments=[hst_acs_f814w]", "bands"),
    ],
)
def test_dataset_that_does_not_fit_is_refused_by_what_differs(trained, tmp_path, change, message):
    sizes = ["n_images=12", "shard_size=12", "n_pix=32", "supersample=1", change]
    config = load_dataset_config("demo", sizes)
    simulate_dataset(config, tmp_path / "other.zarr", workers=1)
    with pytest.raises(DatasetMismatchError, match=message):
        evaluate_run(trained, tmp_path / "other.zarr", device="cpu")
