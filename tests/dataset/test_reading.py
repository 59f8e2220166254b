"""A dataset reads the same from mapped files and through zarr, here and in another process."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr

from pipeline.core.errors import DatasetError, DatasetIntegrityError
from pipeline.dataset import reading
from pipeline.dataset.loader import BatchSource
from pipeline.dataset.shards import ShardCache
from pipeline.dataset.store import Dataset, open_dataset
from tests.dataset.conftest import tree


@pytest.fixture
def slow(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """The same dataset, read by zarr alone."""
    monkeypatch.setattr(reading, "raw_of", lambda dataset, name: None)
    return open_dataset(tiny.path)


@pytest.mark.parametrize(
    "indices",
    [slice(0, 60), slice(5, 31), slice(40, 3, -4), np.array([59, 3, 3, -1, 17]), np.array([], int)],
)
def test_images_are_those_that_zarr_reads(tiny: Dataset, slow: Dataset, indices) -> None:
    stored = zarr.open_group(tiny.path, mode="r")["images"][:]
    np.testing.assert_array_equal(slow.read_images(indices), stored[indices])
    np.testing.assert_array_equal(tiny.read_images(indices), stored[indices])


def test_columns_are_those_that_zarr_reads(tiny: Dataset, slow: Dataset) -> None:
    np.testing.assert_array_equal(open_dataset(tiny.path).labels, slow.labels)
    for name in tiny.truth_info():
        np.testing.assert_array_equal(tiny.truth(name), slow.truth(name))


def test_batches_do_not_depend_on_how_they_are_read(tiny: Dataset, slow: Dataset) -> None:
    options = {"batch_size": 7, "seed": 1, "window_bytes": 20 * 24 * 24 * 4, "augment": True}
    fast = list(BatchSource(tiny, "train", None, **options).epoch(0))
    for one, other in zip(fast, BatchSource(slow, "train", None, **options).epoch(0), strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_a_number_outside_is_refused(tiny: Dataset) -> None:
    with pytest.raises(DatasetError, match="no image 60; there are 60"):
        tiny.read_images(np.array([3, 60]))


def test_an_open_dataset_travels_to_another_process(tiny: Dataset) -> None:
    tiny.read_images(slice(0, 3))
    again = pickle.loads(pickle.dumps(tiny))  # noqa: S301  # our own, a line ago
    assert again.sha256 == tiny.sha256
    np.testing.assert_array_equal(again.read_images(slice(0, 3)), tiny.read_images(slice(0, 3)))


def test_a_missing_shard_is_named(tiny: Dataset, tmp_path: Path) -> None:
    for name, content in tree(tiny.path).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "images/c/2/0/0/0").unlink()
    damaged = open_dataset(tmp_path)
    damaged.read_images(slice(0, 18))
    with pytest.raises(DatasetIntegrityError, match="shard 2 is gone"):
        damaged.read_images(slice(0, 19))


def test_each_shard_is_loaded_once_while_there_is_room() -> None:
    loaded: list[int] = []

    def load(shard: int) -> np.ndarray:
        loaded.append(shard)
        return np.full((4, 2), shard, np.float32)

    cache = ShardCache(load, shard_size=4, max_bytes=3 * 32)
    out = np.empty((6, 2), np.float32)
    cache.gather(np.array([0, 1, 4, 9, 2, 11]), out)
    np.testing.assert_array_equal(out[:, 0], [0, 0, 1, 2, 0, 2])
    assert loaded == [0, 1, 2]
    cache.gather(np.array([12]), out[:1])  # the one longest unused, 1, makes room
    cache.gather(np.array([0, 8, 12]), out[:3])
    assert loaded == [0, 1, 2, 3]
    assert cache.held_bytes == 3 * 32
    cache.gather(np.array([5]), out[:1])
    assert loaded == [0, 1, 2, 3, 1]


def test_a_shard_that_failed_is_tried_again() -> None:
    answers = iter([DatasetError("gone"), np.ones((2, 1), np.float32)])

    def load(shard: int) -> np.ndarray:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    cache, out = ShardCache(load, 2, 100), np.zeros((1, 1), np.float32)
    with pytest.raises(DatasetError):
        cache.gather(np.array([0]), out)
    cache.gather(np.array([0]), out)
    assert out == 1.0
