"""Adaptation sees images of the target and never its labels; both domains are judged."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from astropy.io import fits

from pipeline.checkpoint.load import load_run
from pipeline.core.errors import CheckpointError, ConfigError, DatasetError, DatasetMismatchError
from pipeline.dataset.preprocess import PreprocessConfig, fit_preprocess
from pipeline.dataset.store import open_dataset
from pipeline.tasks._adaptation import coral
from pipeline.training.domain import Domain, Paired, training_domain
from pipeline.training.evaluate import evaluate_run
from pipeline.training.processes import ALONE
from pipeline.training.run import run_training

from .conftest import tiny_training
from .test_run import Killed, assert_same_run, kill_after_saves

FILES = ("weights.safetensors", "reference.safetensors")


def adaptation(target, method: str = "dann", **changes):
    task = {"kind": "adaptation", "target": str(target), "method": method}
    settings = {"epochs": 1, "batch_size": 16, "loggers": ()} | changes
    return tiny_training(task=task, **settings)


def changed_copy(data: Path, path: Path, factor: float = 1.0, **attributes) -> Path:
    """A dataset whose images are of another brightness, and which says other things of itself."""
    shutil.copytree(data, path)
    images = zarr.open_array(path / "images", mode="r+")
    noise = np.random.default_rng(7).normal(scale=images[:].std(), size=images.shape)
    images[:] = factor * images[:] + 0.2 * noise
    group = json.loads((path / "zarr.json").read_text())
    group["attributes"] |= attributes
    (path / "zarr.json").write_text(json.dumps(group))
    return path


@pytest.fixture(scope="module")
def target(data, tmp_path_factory):
    return changed_copy(data, tmp_path_factory.mktemp("target") / "target.zarr", 2.0)


@pytest.fixture(scope="module")
def coarse(data, tmp_path_factory):
    """Another telescope: pixels a quarter larger, another band."""
    scale = 1.25 * open_dataset(data).pixel_scale
    path = tmp_path_factory.mktemp("coarse") / "coarse.zarr"
    return changed_copy(data, path, pixel_scale=scale, bands=["r"])


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    """FITS files of those pixels, and one that is no lens of any use."""
    dataset = open_dataset(data)
    path = tmp_path_factory.mktemp("fits")
    for k, image in enumerate(dataset.read_images(slice(0, 12))):
        header = fits.Header({"PIXSCALE": 1.25 * dataset.pixel_scale})
        fits.writeto(path / f"{k:02d}.fits", image[0], header)
    fits.writeto(path / "99.fits", np.zeros((32, 32), np.float32))
    return path


def test_coral_compares_covariances_and_rewards_no_small_features():
    generator = torch.Generator().manual_seed(1)
    here, there = (torch.randn((40, 6), generator=generator) * k for k in (1.0, 2.0))
    size = torch.ones((), requires_grad=True)
    loss = coral(here * size, there * size)
    loss.backward()
    assert loss.item() > 0.1
    assert abs(size.grad.item()) < 1e-5
    assert coral(here, here.flip(0) + 3.0).item() < 1e-6  # neither order nor mean counts


@pytest.mark.parametrize("method", ["coral", "dann", "adamatch"])
def test_labels_of_the_target_change_no_bit_whatever_they_are(data, target, tmp_path, method):
    blind = tmp_path / "blind.zarr"
    shutil.copytree(target, blind)
    shutil.rmtree(blind / "label" / "c")  # every stored label
    assert (open_dataset(blind).labels == -1).all()
    shuffled = tmp_path / "shuffled.zarr"
    shutil.copytree(target, shuffled)
    zarr.open_array(shuffled / "label", mode="r+")[:] = 1
    runs = {"true": target, "none": blind, "false": shuffled}
    for name, path in runs.items():
        run_training(adaptation(path, method), data, tmp_path / name, device="cpu")
    run_training(adaptation("", "source_only"), data, tmp_path / "alone", device="cpu")
    for name in FILES:
        kept = {run: (tmp_path / run / name).read_bytes() for run in (*runs, "alone")}
        assert kept["true"] == kept["none"] == kept["false"] != kept["alone"]


def test_resumed_run_equals_an_unbroken_one_and_needs_the_same_images(
    data, target, tmp_path, monkeypatch
):
    place = tmp_path / "target.zarr"
    shutil.copytree(target, place)
    config = adaptation(place, epochs=2)
    run_training(config, data, tmp_path / "whole", device="cpu")
    with monkeypatch.context() as patch:
        kill_after_saves(patch, 5)
        with pytest.raises(Killed):
            run_training(config, data, tmp_path / "run", device="cpu", save_every=0.0)
    images = zarr.open_array(place / "images", mode="r+")
    images[:] = images[:] + 1.0
    with pytest.raises(CheckpointError, match=r"task\.target had other images"):
        run_training(config, data, tmp_path / "run", device="cpu")
    shutil.rmtree(place)
    shutil.copytree(target, place)
    assert run_training(config, data, tmp_path / "run", device="cpu").resumed
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_both_domains_are_judged_with_intervals(data, coarse, tmp_path):
    run = tmp_path / "run"
    run_training(adaptation(coarse), data, run, device="cpu")
    here = evaluate_run(run, data, device="cpu")
    there = evaluate_run(run, coarse, device="cpu")
    assert here.same_dataset or open_dataset(coarse).sha256 == open_dataset(data).sha256
    for found in (here, there):
        low, high = found.intervals["accuracy"]
        assert low <= found.accuracy <= high and found.n == here.n
    assert there.metrics != here.metrics
    card = (run / "MODEL_CARD.md").read_text()
    assert f"adapted to images without labels, {coarse}" in card
    assert load_run(run).tells == {"class_probability"}
    plain = tmp_path / "plain"
    run_training(tiny_training(epochs=1, loggers=()), data, plain, device="cpu")
    with pytest.raises(DatasetMismatchError, match="pixel scale"):
        evaluate_run(plain, coarse, device="cpu")


def test_fits_files_are_prepared_as_for_scoring_and_bad_ones_left_out(data, folder, caplog):
    source = open_dataset(data)
    with caplog.at_level("INFO", logger="deeplense"):
        domain = training_domain(adaptation(folder), source)
    assert domain.images.shape == (12, *source.image_shape)
    assert domain.taken.tolist() == list(range(12))
    assert "1 images left out (1 blank)" in caplog.text
    assert f"12 images brought to {source.pixel_scale:g} arcsec" in caplog.text


def test_target_that_cannot_be_used_is_named_with_the_reason(data, tmp_path):
    source = open_dataset(data)
    image = source.read_images(slice(0, 1))[0, 0]
    header = fits.Header({"PIXSCALE": 20 * source.pixel_scale})
    fits.writeto(tmp_path / "far.fits", image, header)
    with pytest.raises(DatasetError, match=r"none of 1 images.*more than 8 times coarser"):
        training_domain(adaptation(tmp_path / "far.fits"), source)
    with pytest.raises(ConfigError, match=r"task\.target: names no images"):
        training_domain(adaptation(""), source)
    with pytest.raises(ConfigError, match="deeplense simulate hard_clumpy --out"):
        training_domain(adaptation("hard_clumpy"), source)


def test_every_target_image_is_dealt_once_a_round_by_position_alone(data):
    source = open_dataset(data)
    config = adaptation("")
    preprocess = fit_preprocess(source, PreprocessConfig())
    images = source.read_images(slice(0, 24))
    train = source.batches("train", preprocess, batch_size=16, seed=0)
    paired = Paired(train, Domain(images, np.arange(24)), preprocess, config, ALONE)
    dealt = np.concatenate([paired.order(k) for k in range(3)])
    assert sorted(dealt[:24]) == sorted(dealt[24:]) == list(range(24))
    again = Paired(train, Domain(images, np.arange(24)), preprocess, config, ALONE)
    assert (again.order(2) == paired.order(2)).all()
    first = next(iter(paired.epoch(0)))
    assert first.extra["other_domain"].shape == first.image.shape
