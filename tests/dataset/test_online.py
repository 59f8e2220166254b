"""The stream is the dataset that never ends: the same images, splits and order, whoever asks."""

import dataclasses
import os
import signal

import numpy as np
import pytest
import torch

from pipeline.core.errors import DatasetError, DatasetNotFoundError, EngineError
from pipeline.dataset import online
from pipeline.dataset.online import Curriculum, OnlineConfig, OnlineData
from pipeline.dataset.open import open_data
from pipeline.dataset.preprocess import Preprocess, PreprocessConfig, fit_preprocess
from pipeline.dataset.splits import SPLITS, split_codes
from pipeline.dataset.store import Dataset

SMALL = OnlineConfig(images=30, val_images=7, test_images=6)


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate in this process: a new one takes seconds to start."""
    monkeypatch.setattr(online, "_kind", lambda config: "thread")


@pytest.fixture
def data(tiny: Dataset) -> OnlineData:
    return OnlineData(tiny.require_simulation("this test"), SMALL, producers=2)


@pytest.fixture(scope="module")
def preprocess(tiny: Dataset) -> Preprocess:
    return fit_preprocess(tiny, PreprocessConfig())


def source(data: OnlineData, split: str = "train", **options) -> online.OnlineSource:
    preprocess = options.pop("preprocess", None)
    return data.batches(split, preprocess, **{"batch_size": 5, "seed": 3, **options})


def numbers(batches) -> list[int]:
    return [i for batch in batches for i in batch.index.tolist()]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_images_are_those_of_a_stored_dataset(tiny: Dataset, data: OnlineData, split) -> None:
    compared = 0
    for batch in source(data, split, target_names=("theta_E",)).epoch(0):
        index = batch.index.numpy()
        inside = index < tiny.n_images
        compared += inside.sum()
        stored = tiny.read_images(index[inside])
        np.testing.assert_array_equal(batch.image[torch.from_numpy(inside)], stored)
        np.testing.assert_array_equal(batch.label[inside], tiny.labels[index[inside]])
        truth = tiny.truth("theta_E")[index[inside]].astype(np.float32)
        np.testing.assert_array_equal(batch.target[inside, 0], truth)
    assert compared >= 6


def test_no_held_out_image_is_ever_trained_on(data: OnlineData) -> None:
    config = data.config
    train = source(data)
    seen = numbers(b for epoch in range(3) for b in train.epoch(epoch))
    assert len(set(seen)) == len(seen) == 3 * train.n_images == 90  # each image once
    codes = split_codes(
        np.array(seen), len(config.class_names), config.splits.train, config.splits.val
    )
    assert set(codes) == {SPLITS.index("train")}
    held_out = [numbers(source(data, split).epoch(0)) for split in ("val", "test")]
    assert [len(h) for h in held_out] == [7, 6]
    assert not set(seen) & {*held_out[0], *held_out[1]}
    assert not set(held_out[0]) & set(held_out[1])
    assert held_out[0] == numbers(source(data, "val").epoch(5))


def test_classes_come_evenly(data: OnlineData) -> None:
    counts = np.bincount(np.array(numbers(source(data).epoch(0))) % 3, minlength=3)
    assert np.ptp(counts) <= 2 * source(data).n_steps


def test_a_restart_at_any_step_gives_the_rest(data: OnlineData, preprocess: Preprocess) -> None:
    options = {"augment": True, "max_shift": 1, "preprocess": preprocess}
    whole = list(source(data, **options).epoch(1))
    for start in (0, 2, 5):
        rest = list(source(data, **options).epoch(1, start))
        assert len(rest) == 6 - start
        for one, other in zip(rest, whole[start:], strict=True):
            assert torch.equal(one.image, other.image)
    stopped = source(data, **options)
    next(stopped.epoch(0))  # what was begun ahead is given up
    assert torch.equal(next(stopped.epoch(1, 2)).image, whole[2].image)


def test_ranks_share_each_batch_of_one(data: OnlineData) -> None:
    alone = list(source(data).epoch(0))
    for rank in range(2):
        part = list(source(data, rank=rank, n_ranks=2).epoch(0))
        for one, other in zip(part, alone, strict=True):
            assert torch.equal(one.image, other.image[rank::2])


def test_maps_show_what_substructure_changes(data: OnlineData) -> None:
    names = ("twin", "difference", "kappa", "noiseless")
    for batch in source(data, maps=names).epoch(0):
        extra = batch.extra
        assert tuple(extra) == names
        np.testing.assert_allclose(
            extra["twin"] + extra["difference"], extra["noiseless"], atol=1e-5
        )
        plain = batch.label == 0
        assert (extra["difference"][plain] == 0).all() and (extra["kappa"][plain] == 0).all()
        assert (extra["difference"][~plain].abs().amax((1, 2, 3)) > 0).all()
        assert (extra["kappa"][~plain].amax((1, 2, 3)) > 0).all()
        noise = batch.image - extra["noiseless"]
        assert noise.std() > 0


def test_maps_turn_with_their_image(data: OnlineData) -> None:
    options = {"maps": ("noiseless",), "augment": True, "max_shift": 2}
    turned = next(source(data, **options).epoch(0))
    # Whatever moved the image moved its map: the remainder is noise, of the same spread.
    straight = next(source(data, maps=("noiseless",)).epoch(0))
    spread = (straight.image - straight.extra["noiseless"]).std()
    assert not torch.equal(turned.image, straight.image)
    assert float((turned.image - turned.extra["noiseless"]).std()) == pytest.approx(
        float(spread), rel=1e-3
    )


def test_a_curriculum_changes_the_substructure_alone(tiny: Dataset, data: OnlineData) -> None:
    course = Curriculum(start=4.0, steps=10)
    assert [course.factor(step) for step in (0, 5, 10, 99)] == pytest.approx([4, 2, 1, 1])
    taught = dataclasses.replace(data, online=SMALL.with_changes(curriculum=course))
    options = {"maps": ("difference", "noiseless")}
    one, other = next(source(taught, **options).epoch(0)), next(source(data, **options).epoch(0))
    assert torch.equal(one.index, other.index)
    plain = one.label == 0
    assert torch.equal(one.image[plain], other.image[plain])
    heavier = one.extra["difference"].abs().sum((1, 2, 3)) > other.extra["difference"].abs().sum(
        (1, 2, 3)
    )
    assert heavier[~plain].all()
    late = source(taught), source(data)
    assert torch.equal(next(late[0].epoch(2)).image, next(late[1].epoch(2)).image)
    val = source(taught, "val"), source(data, "val")
    assert torch.equal(next(val[0].epoch(0)).image, next(val[1].epoch(0)).image)


def test_a_curriculum_can_begin_with_lenses_that_are_alike(tiny: Dataset, data: OnlineData) -> None:
    course = Curriculum(width=0.01, steps=10)
    assert [course.prior_width(step) for step in (0, 5, 10, 99)] == pytest.approx([0.01, 0.1, 1, 1])
    taught = dataclasses.replace(data, online=SMALL.with_changes(curriculum=course))
    names = ("theta_E", "source_r_eff", "source_x")
    spread = [next(source(d, target_names=names).epoch(0)).target.std(0) for d in (taught, data)]
    assert (spread[0] < 0.02 * spread[1]).all()
    late = source(taught), source(data)
    assert torch.equal(next(late[0].epoch(2)).image, next(late[1].epoch(2)).image)
    val = source(taught, "val"), source(data, "val")
    assert torch.equal(next(val[0].epoch(0)).image, next(val[1].epoch(0)).image)


def test_twins_are_one_lens_with_other_substructure(data: OnlineData) -> None:
    paired = dataclasses.replace(data, online=SMALL.with_changes(twins=True))
    options = {"maps": ("difference", "noiseless"), "augment": True}
    for batch in source(paired, batch_size=7, **options).epoch(0):
        assert batch.label.tolist() == [0, 1, 2, 0, 1, 2, 0]
        assert torch.equal(batch.index, batch.index[[0, 0, 0, 3, 3, 3, 6]])
        assert len(set(batch.index.tolist())) == 3
        smooth = batch.extra["noiseless"] - batch.extra["difference"]
        for one, other in ((0, 1), (0, 2), (3, 5)):
            torch.testing.assert_close(smooth[one], smooth[other], rtol=1e-3, atol=1e-3)
    inliers = dataclasses.replace(paired, only=("no", "vortex"))
    assert set(next(source(inliers).epoch(0)).label.tolist()) == {0, 2}
    plain = source(paired, "test"), source(data, "test")  # only training shows twins
    assert torch.equal(next(plain[0].epoch(0)).image, next(plain[1].epoch(0)).image)
    shared = [next(source(paired, rank=r, n_ranks=2).epoch(0)).image for r in range(2)]
    whole = next(source(paired).epoch(0)).image
    assert all(torch.equal(part, whole[r::2]) for r, part in enumerate(shared))


def test_identity_is_the_configuration_and_not_who_simulates(data: OnlineData) -> None:
    assert data.sha256 == dataclasses.replace(data, producers=7).sha256
    longer = dataclasses.replace(data, online=SMALL.with_changes(images=31))
    seeded = dataclasses.replace(data, config=data.config.with_changes(seed=data.config.seed + 1))
    assert len({data.sha256, longer.sha256, seeded.sha256}) == 3


def test_constants_are_fitted_on_the_first_training_images(tiny, data) -> None:
    index = tiny.indices("train")[:20]
    np.testing.assert_array_equal(data.first_images(20), tiny.read_images(index))
    np.testing.assert_array_equal(data.first_truth("theta_E", 20), tiny.truth("theta_E")[index])


def test_what_is_not_there_is_named(data: OnlineData) -> None:
    with pytest.raises(DatasetError, match=r"no truth column 'mass_of_nothing'; known: .*theta_E"):
        source(data, target_names=("mass_of_nothing",))
    with pytest.raises(DatasetError, match="expected one of train, val, test"):
        source(data, "training").n_steps  # noqa: B018  # what a loop asks first
    with pytest.raises(
        DatasetNotFoundError, match=r"no preset has that name; presets: .*contrast_hst"
    ):
        open_data("contrast_hts")


def test_a_preset_opens_as_a_stream_and_a_folder_as_a_dataset(tiny: Dataset, tmp_path) -> None:
    assert isinstance(open_data(tiny.path), Dataset)
    stream = open_data("contrast_hst", SMALL)
    assert isinstance(stream, OnlineData) and stream.image_shape == (1, 80, 80)
    with pytest.raises(DatasetNotFoundError, match="no dataset lies there"):
        open_data(tmp_path / "none.zarr")


@pytest.mark.slow
def test_processes_simulate_what_a_thread_does(data: OnlineData, monkeypatch) -> None:
    expected = list(source(data, maps=("kappa",)).epoch(0))
    monkeypatch.setattr(online, "_kind", lambda config: "process")
    spread = dataclasses.replace(data, producers=2)
    for one, other in zip(source(spread, maps=("kappa",)).epoch(0), expected, strict=True):
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.extra["kappa"], other.extra["kappa"])
    batches = source(spread).epoch(1)
    next(batches)
    for process in list(spread.workers._pool._processes.values()):
        os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match="a process that simulates training images died"):
        list(batches)
    spread.close()
