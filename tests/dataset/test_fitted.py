"""Planes of smooth-lens fits as channels of a network: stored or fitted on the spot, the same."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.config import dump, validate
from pipeline.core.errors import ConfigError, DatasetError, DatasetMismatchError
from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.fitted import SmoothFit
from pipeline.dataset.loader import BatchSource
from pipeline.dataset.preprocess import Preprocess, PreprocessConfig, fit_preprocess
from pipeline.dataset.signal import SIGNAL
from pipeline.dataset.simulate import simulate_dataset
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.fit.store import FOLDER
from pipeline.inference.target import Target
from pipeline.training.domain import dataset_domain
from pipeline.workflow.fit import run_fit

N, N_PIX = 16, 40
SMALL = [
    f"n_images={N}",
    "shard_size=8",
    f"n_pix={N_PIX}",
    "instruments=[euclid_vis]",
    "scenes.macro.slope=2.0",
    "scenes.source.magnitude=20.0",
    "splits={train: 0.5, val: 0.25, test: 0.25}",
    "keep=[noiseless]",
]
WANTED = PreprocessConfig(smooth_fit=("residual", "model", "chi2", "response", "evidence"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset without fits."""
    path = tmp_path_factory.mktemp("fitted") / "bare.zarr"
    simulate_dataset(load_dataset_config("contrast_hst", SMALL), path, workers=1)
    return path


@pytest.fixture(scope="module")
def dataset(bare: Path) -> Dataset:
    path = bare.with_name("data.zarr")
    shutil.copytree(bare, path)
    run_fit([path], None, config="sie", store=True)
    return open_dataset(path)


@pytest.fixture(scope="module")
def preprocess(dataset: Dataset) -> Preprocess:
    return fit_preprocess(dataset, WANTED)


def test_channels_are_the_bands_then_the_planes(preprocess: Preprocess) -> None:
    assert preprocess.smooth_fit is not None
    looked_for = preprocess.smooth_fit.fit.response
    n_maps, n_kinds = len(looked_for.softenings), looked_for.n_groups
    maps, evidence = ["response"] * n_maps, ["evidence"] * n_kinds
    assert preprocess.smooth_fit.kinds == ("residual", "model", "chi2", *maps, *evidence)
    n_channels = 4 + n_maps + n_kinds
    assert preprocess.out_channels == n_channels == len(preprocess.offset)


def test_stored_planes_are_those_of_a_fit_on_the_spot(
    dataset: Dataset, preprocess: Preprocess
) -> None:
    batches = BatchSource(dataset, "val", preprocess, batch_size=4, seed=0).epoch(0)
    for batch in batches:
        index = batch.index.numpy()
        on_the_spot = preprocess.apply(dataset.read_images(index))
        np.testing.assert_array_equal(batch.image.numpy(), on_the_spot)


def test_residual_channel_is_the_residual_and_chi2_is_constant(
    dataset: Dataset, preprocess: Preprocess
) -> None:
    prepared = preprocess.apply(dataset.read_images(slice(0, 6)))
    assert np.isfinite(prepared).all()
    assert (np.ptp(prepared[:, 3], axis=(1, 2)) < 1e-6).all()
    residual = prepared[:, 1] * preprocess.scale[1] + preprocess.offset[1]
    sigma = np.sinh(residual) * preprocess.softening
    smooth = dataset.labels[:6] == 0
    assert np.abs(sigma[smooth].std(axis=(1, 2)) - 1.0).max() < 0.1


def test_augmented_planes_turn_with_their_image(dataset: Dataset, preprocess: Preprocess) -> None:
    source = BatchSource(dataset, "train", preprocess, batch_size=4, seed=3, augment=True)
    for batch in source.epoch(0):
        plain = preprocess.apply(dataset.read_images(batch.index.numpy()))
        for turned, image in zip(batch.image.numpy(), plain, strict=True):
            copies = [np.rot90(a, k, (1, 2)) for a in (image, image[:, :, ::-1]) for k in range(4)]
            assert any(np.allclose(turned, copy, atol=1e-4) for copy in copies)


def test_images_that_cannot_be_fitted_give_empty_planes(preprocess: Preprocess) -> None:
    assert preprocess.smooth_fit is not None
    planes = preprocess.smooth_fit.fitted(np.full((2, 1, N_PIX, N_PIX), np.nan))
    np.testing.assert_array_equal(planes, 0.0)


def test_the_fit_travels_with_the_preprocessing(dataset: Dataset, preprocess: Preprocess) -> None:
    again = validate(dump(preprocess), Preprocess)
    images = dataset.read_images(slice(0, 2))
    np.testing.assert_array_equal(again.apply(images), preprocess.apply(images))
    assert again.smooth_fit is not None
    assert again.smooth_fit.fit.priors["theta_E"].sigma == pytest.approx(0.115, rel=0.1)


def test_a_fit_needs_images_in_electrons(preprocess: Preprocess, dataset: Dataset) -> None:
    assert not Target.of(preprocess).is_unit_free
    assert Target.of(fit_preprocess(dataset, PreprocessConfig())).is_unit_free


def test_a_dataset_without_fits_is_refused_with_the_command(bare: Path) -> None:
    with pytest.raises(DatasetError, match=r"run: deeplense fit .*bare\.zarr --store"):
        fit_preprocess(open_dataset(bare), WANTED)


def test_fits_without_the_maps_that_are_wanted_are_refused(bare: Path, tmp_path: Path) -> None:
    path = tmp_path / "mapless.zarr"
    shutil.copytree(bare, path)
    run_fit([path], None, config="sie", store=True, overrides=["response.softenings=[]"])
    with pytest.raises(DatasetError, match="without response "):
        fit_preprocess(open_dataset(path), WANTED)
    residual = PreprocessConfig(smooth_fit=("residual",))
    assert fit_preprocess(open_dataset(path), residual).out_channels == 2


def test_unfinished_fits_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "part.zarr"
    shutil.copytree(dataset.path, path)
    (path / FOLDER / "shard-000001.json").unlink()
    with pytest.raises(DatasetError, match="1 of 2 shards are not fitted"):
        fit_preprocess(open_dataset(path), WANTED)


def test_fits_of_other_images_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "other.zarr"
    simulate_dataset(load_dataset_config("contrast_hst", [*SMALL, "seed=9"]), path, workers=1)
    shutil.copytree(Path(dataset.path) / FOLDER, path / FOLDER)
    with pytest.raises(DatasetMismatchError, match="fits of other images"):
        fit_preprocess(open_dataset(path), WANTED)


def test_signal_is_the_residual_without_its_noise_and_turns_with_it(
    dataset: Dataset, preprocess: Preprocess
) -> None:
    source = BatchSource(
        dataset, "train", preprocess, batch_size=8, seed=3, augment=True, signal=True
    )
    (batch,) = source.epoch(0)
    residual = batch.image.numpy()[:, 1] * preprocess.scale[1] + preprocess.offset[1]
    signal = np.sinh(batch.extra[SIGNAL].numpy()[:, 0])
    noise = np.sinh(residual) * preprocess.softening - signal
    assert np.abs(noise.std(axis=(1, 2)) - 1.0).max() < 0.1
    size = np.sqrt((signal**2).mean(axis=(1, 2)))
    smooth = batch.label.numpy() == 0
    assert size[smooth].max() < 0.2 < size[~smooth].max()


def test_signal_without_a_fit_is_refused(dataset: Dataset) -> None:
    plain = fit_preprocess(dataset, PreprocessConfig())
    source = BatchSource(dataset, "train", plain, batch_size=8, seed=3, signal=True)
    with pytest.raises(ConfigError, match=r"needs preprocess\.smooth_fit"):
        next(source.epoch(0))


def test_a_second_domain_has_its_planes_from_the_store_or_fitted_once(
    dataset: Dataset, bare: Path, preprocess: Preprocess, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, like = np.array([1, 3, 4]), Target.of(preprocess)
    stored = dataset_domain(dataset, numbers, like)
    fitted = dataset_domain(open_dataset(bare), numbers, like)
    assert stored.sha256 == fitted.sha256
    fitted = fitted.with_planes(preprocess.smooth_fit)
    monkeypatch.setattr(SmoothFit, "fitted", None)  # nothing is fitted from here on
    stored = stored.with_planes(preprocess.smooth_fit)
    np.testing.assert_array_equal(stored.images, fitted.images)
    prepared = preprocess.apply(stored.images)
    assert prepared.shape == (3, preprocess.out_channels, N_PIX, N_PIX)
    assert stored.with_planes(None) is stored
