"""Batches come in an order that is a pure function of (seed, epoch), each image exactly once."""

import numpy as np
import pytest
import torch

from pipeline.core.errors import DatasetError
from pipeline.dataset.loader import BatchSource, shift_images, turn_images
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
        return source(tiny, preprocess, window_bytes=window_bytes, augment=True, max_shift=2)

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
