"""Detectability inside a dataset: which images have it, that a shard stays pure, and ceilings."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset.config import DatasetConfig, load_dataset_config
from pipeline.dataset.detectability import SUBSET, dataset_ceilings, dataset_columns
from pipeline.dataset.simulate import simulate_dataset
from pipeline.dataset.store import Dataset, damaged_shards, open_dataset
from pipeline.detectability.measure import Survey, detectability

TINY = ["n_images=36", "shard_size=12", "n_pix=24", "supersample=1", "scenes.signal_scale=1.0"]


@pytest.fixture(scope="module")
def config() -> DatasetConfig:
    return load_dataset_config("demo", [*TINY, "detectability=subset"])


@pytest.fixture(scope="module")
def dataset(config: DatasetConfig, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("measured") / "measured.zarr"
    simulate_dataset(config, path, workers=1)
    return open_dataset(path)


def test_fixed_subset_and_test_split_have_values(dataset: Dataset) -> None:
    counter = np.arange(dataset.n_images) // 3
    with_substructure = dataset.labels != dataset.class_names.index("no")
    chosen = with_substructure & ((counter % SUBSET == 0) | (dataset.split == 2))
    for name in ("d_raw", "d_prior", "d_refit"):
        assert np.array_equal(np.isfinite(dataset.truth(name)), chosen)
    assert 2 < chosen.sum() < with_substructure.sum()


def test_values_are_those_of_the_image(dataset: Dataset, config: DatasetConfig) -> None:
    survey = Survey(config.scenes, config.seed, config.grid, config.instruments)
    index = int(np.flatnonzero(np.isfinite(dataset.truth("d_prior")))[0])
    name = dataset.class_names[dataset.labels[index]]
    other = "vortex" if name == "subhalo" else "subhalo"
    found = detectability(survey, [index], name, (None, other))
    np.testing.assert_allclose(dataset.truth("d_prior")[index], found.prior[0, 0], rtol=1e-9)
    stored = dataset.truth(f"d_raw_vs_{other}")[index]
    np.testing.assert_allclose(stored, found.raw[0, 1], rtol=1e-9)
    assert np.isnan(dataset.truth(f"d_raw_vs_{name}")[index])


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_number_of_workers(
    dataset: Dataset, config: DatasetConfig, tmp_path: Path
) -> None:
    summary = simulate_dataset(config, tmp_path / "two.zarr", workers=2)
    assert summary.dataset_sha256 == dataset.sha256
    assert damaged_shards(dataset) == ()


def test_ceilings_count_the_images_of_each_pair(dataset: Dataset) -> None:
    pairs = {c.classes: c for c in dataset_ceilings(dataset)}
    measured = np.isfinite(dataset.truth("d_prior"))
    n = {k: int(np.sum(measured & (dataset.labels == k))) for k in (1, 2)}
    assert pairs["no", "subhalo"].n_images == n[1]
    assert pairs["no", "vortex"].n_images == n[2]
    assert pairs["subhalo", "vortex"].n_images == n[1] + n[2]
    raw = {c.classes: c for c in dataset_ceilings(dataset, "raw")}
    for pair, found in pairs.items():
        assert 0.5 <= found.auc <= raw[pair].auc <= 1.0
        assert 0.5 <= found.accuracy <= raw[pair].accuracy <= 1.0
    test_only = {c.classes: c.n_images for c in dataset_ceilings(dataset, split="test")}
    assert test_only["no", "vortex"] == int(np.sum((dataset.split == 2) & (dataset.labels == 2)))


def test_by_default_nothing_is_measured() -> None:
    plain = load_dataset_config("demo", TINY)
    assert plain.detectability == "none"
    assert not [name for name in dataset_columns(plain) if name.startswith("d_")]
    chosen = load_dataset_config("demo", [*TINY, "detectability=all"])
    assert chosen.sha256 != plain.sha256
    assert len(dataset_columns(chosen)) == len(dataset_columns(plain)) + 9


def test_a_dataset_without_noise_has_counts_of_zero(tmp_path: Path) -> None:
    config = load_dataset_config(
        "legacy_model_ii", ["n_images=6", "shard_size=6", "n_pix=24", "detectability=all"]
    )
    simulate_dataset(config, tmp_path / "legacy.zarr", workers=1)
    for found in dataset_ceilings(open_dataset(tmp_path / "legacy.zarr")):
        assert found.n_images == 0
        assert np.isnan(found.auc)
