"""Evaluation of a run: the right images, the right numbers, refusals."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score

from pipeline.checkpoint.load import load_run
from pipeline.core.errors import ConfigError, DatasetError, DatasetMismatchError
from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.simulate import simulate_dataset
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


def test_plain_statistics_stand_beside_the_network(trained, data):
    found = evaluate_run(trained, data, device="cpu")
    assert set(found.floor) == {*open_dataset(data).class_names, "macro_auc"}
    assert 0.3 < found.floor["macro_auc"] <= 1.0
    assert found.ceiling == {}  # this dataset does not know its detectability


def test_detectability_bins_hold_the_images_and_their_ceilings(trained, data, tmp_path):
    sizes = ["n_images=60", "shard_size=60", "n_pix=32", "supersample=1", "detectability=all"]
    split = ["splits.train=0.2", "splits.val=0.2", "splits.test=0.6", "seed=5"]
    config = load_dataset_config("demo", sizes + split)
    simulate_dataset(config, tmp_path / "known.zarr", workers=1)
    dataset = open_dataset(tmp_path / "known.zarr")
    found = evaluate_run(trained, tmp_path / "known.zarr", device="cpu")
    labels = dataset.labels[dataset.indices("test")]
    assert sum(line.n for line in found.by_detectability) == np.sum(labels != 0)
    for line in found.by_detectability:
        d = dataset.truth("d_prior")[dataset.indices("test")]
        is_class = labels == dataset.class_names.index(line.class_name)
        assert line.n == np.sum(is_class & (d >= line.low) & (d < line.high))
        assert line.auc_interval.low <= line.auc <= line.auc_interval.high
        assert 0.5 <= line.ceiling <= 1.0
    assert 0.5 < found.ceiling["macro_auc"] <= 1.0
    assert not found.same_dataset


@pytest.mark.parametrize("kind", ["regression", "joint"])
def test_regression_is_judged_by_value_and_beside_knowing_nothing(data, tmp_path, kind):
    run_training(tiny_training(task=kind, epochs=2), data, tmp_path / "run", device="cpu")
    found = evaluate_run(tmp_path / "run", data, device="cpu")
    dataset = open_dataset(data)
    index = dataset.indices("test")
    mass = np.log10(dataset.truth("axion_mass")[index])
    predicted = load_run(tmp_path / "run").predict(dataset.read_images(index))
    error = np.abs(predicted.target_quantile[:, 0, 3] - mass)
    assert_allclose(found.metrics["mae_dex"], np.nanmean(error), rtol=1e-6)
    low, high = found.intervals["mae_dex"]
    assert low <= found.metrics["mae_dex"] <= high
    (report,) = found.targets
    assert report.n == sum(line.n for line in report.bins) == sum(report.readings.values())
    assert report.n == np.isfinite(mass).sum() > 0
    train = np.log10(dataset.truth("axion_mass")[dataset.indices("train")])
    constant = np.nanmean(np.abs(mass - np.nanmedian(train)))
    assert_allclose(found.metrics["mae_constant_dex"], constant, rtol=1e-6)
    summary = found.summary()
    assert {"mae_dex", "mae_dex_interval", "coverage_90", "targets"} <= set(summary)
    assert ("macro_auc" in summary) == (kind == "joint")
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text()) == found.to_json()
    assert "mae_dex" in (tmp_path / "run" / "MODEL_CARD.md").read_text()


@pytest.mark.slow
def test_the_floor_of_the_axion_mass_stands_beside_the_error(data, tmp_path):
    run_training(tiny_training(task="regression", epochs=1), data, tmp_path / "run", device="cpu")
    found = evaluate_run(tmp_path / "run", data, device="cpu", floor_lenses=4)
    assert found.mass_floor.class_name == "vortex" and found.mass_floor.n == 4
    assert 0.0 < found.mass_floor.mae < found.metrics["mae_constant_dex"]
    assert found.summary()["mass_floor"] == found.to_json()["mass_floor"]


def test_a_floor_is_refused_where_no_axion_mass_is_estimated(trained, data):
    with pytest.raises(ConfigError, match="--floor is that of axion_mass"):
        evaluate_run(trained, data, device="cpu", floor_lenses=4)


def test_dataset_without_the_target_is_refused_by_name(data, tmp_path):
    with pytest.raises(
        ConfigError, match=r"no truth column 'axion_mas'.*did you mean 'axion_mass'"
    ):
        task = {"kind": "regression", "targets": ("axion_mas",)}
        run_training(tiny_training(task=task), data, tmp_path / "run", device="cpu")


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
