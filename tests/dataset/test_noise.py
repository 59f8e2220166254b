"""Noise drawn anew has the statistics of the exposure, and is new in every epoch."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import DatasetError
from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.loader import BatchSource
from pipeline.dataset.noise import NewNoise
from pipeline.dataset.simulate import simulate_dataset
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.physics.detector import variance
from tests.dataset.conftest import TINY


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("kept") / "kept.zarr"
    config = load_dataset_config("demo", [*TINY, "n_images=30", "keep=[noiseless]"])
    simulate_dataset(config, path, workers=1)
    return open_dataset(path)


def batches(data: Dataset, epoch: int, start: int = 0, **options) -> list:
    source = BatchSource(
        data, "train", None, redraw_noise=True, **{"batch_size": 4, "seed": 1, **options}
    )
    return list(source.epoch(epoch, start))


def test_moments_are_those_of_an_exposure(kept: Dataset) -> None:
    config = kept.require_simulation("this test")
    noiseless = kept.read("noiseless", slice(0, 1))
    n = 400
    drawn = np.stack(
        [NewNoise(config, 3, epoch).apply(noiseless, np.array([0]))[0] for epoch in range(n)]
    ).astype(np.float64)
    expected = variance(noiseless[0].astype(np.float64), config.instruments)
    score = (drawn.mean(0) - noiseless[0]) / np.sqrt(expected / n)
    assert np.abs(score).max() < 5.0 and abs(score.mean()) < 5.0 / np.sqrt(score.size)
    ratio = drawn.var(0, ddof=1) / expected
    assert np.abs(ratio.mean() - 1.0) < 5.0 * np.sqrt(2.0 / n / ratio.size)


def test_noise_is_new_in_every_epoch_and_the_same_for_whoever_asks(kept: Dataset) -> None:
    first = {int(i): x for b in batches(kept, 0) for i, x in zip(b.index, b.image, strict=True)}
    for batch in batches(kept, 0, batch_size=7):
        for i, image in zip(batch.index.tolist(), batch.image, strict=True):
            np.testing.assert_array_equal(image, first[i])
    for batch in batches(kept, 1):
        for i, image in zip(batch.index.tolist(), batch.image, strict=True):
            assert (image != first[i]).any()
            assert (image.numpy() != kept.images[i]).any()
    np.testing.assert_array_equal(batches(kept, 2)[3].image, batches(kept, 2, 3)[0].image)


def test_a_dataset_without_noise_free_images_is_refused(tiny: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"keep=\[noiseless\]"):
        batches(tiny, 0)
