"""What the network sees is blind to the unit of the image, and fitted on the train split alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.preprocess import (
    Preprocess,
    PreprocessConfig,
    border_statistics,
    fit_preprocess,
)
from pipeline.dataset.store import Dataset


@pytest.fixture(scope="module")
def noise(tiny: Dataset) -> Preprocess:
    return fit_preprocess(tiny, PreprocessConfig(stretch=("asinh", "sqrt", "log", "linear")))


@given(scale=st.floats(1e-9, 1e9), offset=st.floats(-1e3, 1e3))
def test_affine_changes_of_unit_do_not_show(tiny, noise, scale, offset) -> None:
    images = tiny.read_images(slice(0, 6)).astype(np.float64)
    changed = noise.apply(scale * (images + offset))
    np.testing.assert_allclose(changed, noise.apply(images), atol=2e-3)


def test_channels_are_standardised_on_train(tiny, noise) -> None:
    x = noise.apply(tiny.read_images(slice(0, 60))[tiny.indices("train")])
    assert x.shape == (len(tiny.indices("train")), 4, 24, 24)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x[:, :3].mean(axis=(0, 2, 3)), 0.0, atol=0.02)
    np.testing.assert_allclose(x[:, :3].std(axis=(0, 2, 3)), 1.0, atol=0.05)


def test_only_train_images_decide_the_constants(tiny: Dataset, monkeypatch) -> None:
    expected = fit_preprocess(tiny, PreprocessConfig())
    held_out = np.concatenate([tiny.indices("val"), tiny.indices("test")])
    original = Dataset.read_images

    def poisoned(self: Dataset, indices: slice) -> np.ndarray:
        images = original(self, indices).copy()
        images[np.isin(np.arange(self.n_images)[indices], held_out)] = 1e6
        return images

    monkeypatch.setattr(Dataset, "read_images", poisoned)
    assert fit_preprocess(tiny, PreprocessConfig()) == expected


def test_fixed_constants_keep_brightness(tiny: Dataset) -> None:
    fixed = fit_preprocess(tiny, PreprocessConfig(normalise="fixed", stretch=("linear",)))
    images = tiny.read_images(slice(0, 3))
    assert np.abs(fixed.apply(2.0 * images) - fixed.apply(images)).max() > 0.1


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_constant_image_stays_finite(noise: Preprocess, value: float) -> None:
    assert np.isfinite(noise.apply(np.full((1, 1, 24, 24), value, np.float32))).all()


def test_border_statistics_recover_sky_and_noise() -> None:
    rng = np.random.Generator(np.random.Philox(1))
    sky = rng.normal(3.0, 0.2, (200, 1, 64, 64)).astype(np.float32)
    background, sigma = border_statistics(sky)
    n = 64 * 64 - 56 * 56
    # The median of n Gaussians scatters by 1.2533 sigma/sqrt(n); the MAD's error is 1.17/sqrt(n).
    assert np.abs(background - 3.0).max() < 5 * 1.2533 * 0.2 / np.sqrt(n)
    assert np.abs(sigma / 0.2 - 1.0).max() < 5 * 1.17 / np.sqrt(n)
