"""Batches come in an order that is a pure function of (seed, epoch), each image exactly once."""

import numpy as np
import pytest
import torch

from pipeline.core.errors import DatasetError
from pipeline.dataset.augment import Augmentation, shift_images, turn_images
from pipeline.dataset.loader import PREFETCH, BatchSource, in_order
from pipeline.dataset.preprocess import Preprocess, PreprocessConfig, fit_preprocess
from pipeline.dataset.store import Dataset


@pytest.fixture(scope="module")
def preprocess(tiny: Dataset) -> Preprocess:
    return fit_preprocess(tiny, PreprocessConfig())


def source(tiny: Dataset, preprocess: Preprocess, split: str = "train", **options) -> BatchSource:
    return BatchSource(tiny, split, preprocess, **{"batch_size": 8, "seed": 3, **options})


#: One shard in memory at a time: the order then depends on several windows.
ONE_SHARD = 9 * 24 * 24 * 4


@pytest.mark.parametrize("window_bytes", [ONE_SHARD, 2 * ONE_SHARD, 2**30])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_every_image_of_the_split_comes_once(tiny, preprocess, split, window_bytes) -> None:
    batches = source(tiny, preprocess, split, window_bytes=window_bytes)
    seen = [b.index.numpy() for b in batches.epoch(0)]
    assert len(seen) == batches.n_steps
    assert {len(b) for b in seen[:-1]} <= {8}
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), tiny.indices(split))
    np.testing.assert_array_equal(np.concatenate(seen), batches.order(0))


@pytest.mark.parametrize("window_bytes", [ONE_SHARD, 2**30])
def test_restart_in_mid_epoch_gives_the_rest(tiny, preprocess, window_bytes) -> None:
    def fresh() -> BatchSource:
        return source(
            tiny, preprocess, window_bytes=window_bytes, augment=True, max_shift=2, n_threads=2
        )

    whole = list(fresh().epoch(4))
    for step in range(len(whole)):
        rest = list(fresh().epoch(4, start_step=step))
        assert len(rest) == len(whole) - step
        for one, other in zip(rest, whole[step:], strict=True):
            assert torch.equal(one.image, other.image)
            assert torch.equal(one.index, other.index)


def test_epochs_and_seeds_differ_and_repeat(tiny, preprocess) -> None:
    order = source(tiny, preprocess).order(0)
    assert (order != source(tiny, preprocess).order(1)).any()
    assert (order != source(tiny, preprocess, seed=4).order(0)).any()
    np.testing.assert_array_equal(order, source(tiny, preprocess).order(0))


def test_drop_last_leaves_out_the_short_batch(tiny, preprocess) -> None:
    batches = source(tiny, preprocess, drop_last=True)
    assert {len(b.index) for b in batches.epoch(0)} == {8}


def test_labels_and_targets_belong_to_their_images(tiny, preprocess) -> None:
    batches = source(tiny, preprocess, target_names=("theta_E",))
    for batch in batches.epoch(0):
        np.testing.assert_array_equal(batch.label, tiny.labels[batch.index.numpy()])
        theta_E = tiny.truth("theta_E")[batch.index.numpy()]
        np.testing.assert_allclose(batch.target[:, 0], theta_E, rtol=1e-6)


def test_unknown_split_and_target_are_named(tiny, preprocess) -> None:
    with pytest.raises(DatasetError, match="train, val, test"):
        source(tiny, preprocess, "training")
    with pytest.raises(DatasetError, match="no truth column 'mass_of_nothing'"):
        source(tiny, preprocess, target_names=("mass_of_nothing",))


def test_the_eight_symmetries_are_distinct_and_keep_every_pixel() -> None:
    image = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    turned = turn_images(np.repeat(image, 8, axis=0), np.arange(8))
    assert len({t.tobytes() for t in turned}) == 8
    for t in turned:
        np.testing.assert_array_equal(np.sort(t.ravel()), image.ravel())


def test_shift_moves_rows_then_columns() -> None:
    image = np.zeros((2, 1, 4, 4), np.float32)
    image[:, 0, 1, 1] = 1.0
    moved = shift_images(image, np.array([[0, 0], [1, -1]]))
    assert moved[0, 0, 1, 1] == 1.0
    assert moved[1, 0, 2, 0] == 1.0


def test_augmentation_belongs_to_the_image_not_to_its_batch(tiny, preprocess) -> None:
    options = {"augment": True, "max_shift": 2, "split": "val"}
    small = source(tiny, preprocess, batch_size=1, **options)
    alone = {int(b.index[0]): b.image[0] for b in small.epoch(2)}
    for batch in source(tiny, preprocess, batch_size=5, **options).epoch(2):
        for index, image in zip(batch.index.tolist(), batch.image, strict=True):
            assert torch.equal(image, alone[index])


@pytest.mark.parametrize(
    ("allowed", "codes"),
    [
        ({}, {0, 1, 2, 3, 4, 5, 6, 7}),
        ({"flip": False}, {0, 1, 2, 3}),
        ({"rotate": False}, {0, 4}),
        ({"rotate": False, "flip": False}, {0}),
    ],
)
def test_symmetries_and_shifts_are_drawn_evenly(allowed, codes) -> None:
    n = 40_000
    turn, shift = Augmentation(seed=1, epoch=2, max_shift=2, **allowed).draw(np.arange(n))
    counts = np.bincount(turn, minlength=8)[sorted(codes)]
    assert set(np.unique(turn)) == codes
    expected = n / len(codes)
    assert np.abs(counts - expected).max() <= 5 * np.sqrt(expected)
    for axis in shift.T:
        assert np.abs(np.bincount(axis + 2) - n / 5).max() < 5 * np.sqrt(n / 5)
    assert abs(np.corrcoef(shift.T)[0, 1]) < 5 / np.sqrt(n)
    other, _ = Augmentation(seed=1, epoch=3, max_shift=2, **allowed).draw(np.arange(n))
    assert len(codes) == 1 or 0 < np.mean(other == turn) < 1


@pytest.mark.parametrize("n_ranks", [2, 3])
def test_ranks_together_see_the_batches_of_one(tiny, preprocess, n_ranks: int) -> None:
    options = {"augment": True, "max_shift": 1, "window_bytes": ONE_SHARD}
    alone = list(source(tiny, preprocess, **options).epoch(1))
    ranks = [
        list(source(tiny, preprocess, rank=r, n_ranks=n_ranks, **options).epoch(1))
        for r in range(n_ranks)
    ]
    for step, batch in enumerate(alone):
        for r, batches in enumerate(ranks):
            if step < len(batches):
                assert torch.equal(batches[step].image, batch.image[r::n_ranks])


def test_without_preprocessing_images_come_as_stored(tiny) -> None:
    for batch in source(tiny, None, "val").epoch(0):
        np.testing.assert_array_equal(batch.image, tiny.read_images(batch.index.numpy()))


def test_memory_is_bounded_by_two_windows(tiny, preprocess) -> None:
    batches = source(tiny, preprocess, window_bytes=ONE_SHARD, batch_size=3)
    for _ in batches.epoch(0):
        assert batches.images.held_bytes <= 2 * ONE_SHARD


def test_work_is_done_ahead_but_not_far_and_in_order() -> None:
    done: list[int] = []

    def tasks():
        for k in range(40):
            yield lambda k=k: done.append(k) or k

    results = in_order(tasks(), n_threads=2)
    assert next(results) == 0
    assert len(done) <= 2 + PREFETCH
    assert list(results) == list(range(1, 40))
    assert sorted(done) == list(range(40))


def test_an_error_in_the_background_surfaces_where_batches_are_used() -> None:
    def fail() -> int:
        raise DatasetError("shard 3 is gone")

    results = in_order(iter([lambda: 1, fail, lambda: 2]), n_threads=1)
    assert next(results) == 1
    with pytest.raises(DatasetError, match="shard 3"):
        next(results)
