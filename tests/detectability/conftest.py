"""Scenes that the tests of detectability share: the demo preset, smaller and at the true masses."""

import pytest

from pipeline.dataset.config import DatasetConfig, load_dataset_config

SMALL = [
    "n_pix=40",
    "instruments=[hst_acs_f814w]",
    "scenes.signal_scale=1.0",
]


@pytest.fixture(scope="session")
def config() -> DatasetConfig:
    return load_dataset_config("demo", SMALL)
