"""What ``dl.open_dataset`` gives a user: arrays, a table with units, and datasets of torch."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import pipeline as dl
from pipeline.core.errors import DatasetError
from pipeline.dataset.preprocess import PreprocessConfig, fit_preprocess
from pipeline.dataset.store import Dataset


@pytest.fixture
def data(tiny: Dataset) -> Dataset:
    return dl.open_dataset(Path(tiny.path))


def test_images_index_like_an_array(data: Dataset) -> None:
    stored = data.read_images(slice(0, 60))
    assert data.images.shape == stored.shape and len(data.images) == 60
    np.testing.assert_array_equal(data.images[7], stored[7])
    np.testing.assert_array_equal(data.images[-3:], stored[-3:])
    np.testing.assert_array_equal(data.images[[5, 2, 5]], stored[[5, 2, 5]])
    np.testing.assert_array_equal(data.images[data.labels == 1], stored[data.labels == 1])
    with pytest.raises(DatasetError, match="no image 60"):
        data.images[60]
    with pytest.raises(DatasetError, match="a mask"):
        data.images[np.ones(5, bool)]


def test_the_table_has_a_unit_and_a_meaning_for_every_column(data: Dataset) -> None:
    table = data.table()
    assert len(table) == 60 and table["theta_E"].unit == "arcsec"
    assert str(table["m200"].unit) == "solMass"
    assert all(table[name].description for name in table.colnames)
    assert list(table["class"][:3]) == ["no", "subhalo", "vortex"]
    np.testing.assert_array_equal(data.table("val")["index"], data.indices("val"))
    assert set(data.table("val")["split"]) == {"val"}


def test_the_data_frame_says_the_same(data: Dataset) -> None:
    frame, table = data.to_pandas(), data.table()
    assert list(frame.columns) == table.colnames[1:]
    assert frame.attrs["units"]["theta_E"] == "arcsec"
    np.testing.assert_array_equal(frame["theta_E"], table["theta_E"])
    assert frame.groupby("class", observed=True)["theta_E"].count().to_dict() == {
        "no": 20,
        "subhalo": 20,
        "vortex": 20,
    }


def test_torch_loads_every_image_once(data: Dataset) -> None:
    split = data.torch("train", targets=("theta_E",))
    seen, labels = [], []
    for image, label, target in DataLoader(split, batch_size=8):
        assert image.shape[1:] == data.image_shape and target.shape == (len(image), 1)
        seen.append(image)
        labels.append(label)
    index = data.indices("train")
    np.testing.assert_array_equal(torch.cat(seen), data.images[index])
    np.testing.assert_array_equal(torch.cat(labels), data.labels[index])


FORK = """
import sys, torch
from torch.utils.data import DataLoader
import pipeline as dl
data = dl.open_dataset(sys.argv[1])
loader = DataLoader(data.torch("val"), 4, num_workers=2, multiprocessing_context="fork")
images = torch.cat([image for image, _ in loader])
assert (images.numpy() == data.images[data.indices("val")]).all()
"""


@pytest.mark.slow
def test_torch_loads_with_forked_workers(data: Dataset) -> None:
    """In a process of its own: one that has started JAX must not fork."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK, str(data.path)], check=True)


@pytest.mark.slow
def test_torch_loads_with_spawned_workers(data: Dataset) -> None:
    loader = DataLoader(
        data.torch("val"), batch_size=4, num_workers=2, multiprocessing_context="spawn"
    )
    images = torch.cat([image for image, _ in loader])
    np.testing.assert_array_equal(images, data.images[data.indices("val")])


def test_a_torch_dataset_travels_light_and_prepares_on_request(data: Dataset) -> None:
    prepare = fit_preprocess(data, PreprocessConfig())
    split = data.torch("val", prepare, transform=lambda image: image.flip(-1))
    index = data.indices("val")
    expected = torch.from_numpy(prepare.apply(data.images[index])).flip(-1)
    torch.testing.assert_close(torch.stack([image for image, _ in split]), expected)
    plain = data.torch("val")
    before = len(pickle.dumps(plain))
    _ = plain[0]
    assert len(pickle.dumps(plain)) == before < 20_000
