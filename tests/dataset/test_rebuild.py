"""An image comes back from its row: every component round-trips, and so does every pixel."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from astropy.io import fits

from pipeline.core.errors import ConfigError, DatasetError
from pipeline.core.resources import sim_params
from pipeline.dataset.components import CODE, COUNT, PARAMETERS, ROLES, VALUE, decode, encode
from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.rebuild import _plain, rebuild, write_rebuilt
from pipeline.dataset.simulate import simulate_dataset
from pipeline.dataset.single import simulate
from pipeline.dataset.store import Dataset, damaged_shards, open_dataset
from pipeline.physics.scene import draw_scene
from tests.dataset.conftest import TINY

PRESETS = sorted(p.stem for p in sim_params().glob("*.yaml"))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_component_of_a_scene_comes_back_bit_for_bit(preset: str) -> None:
    config = load_dataset_config(preset)
    scenes = [draw_scene(config.scenes, config.seed, i) for i in range(len(config.class_names))]
    rows = encode(scenes, len(config.bands))
    ends = np.cumsum(rows[COUNT])
    for scene, n, end in zip(scenes, rows[COUNT], ends, strict=True):
        found = decode(rows[CODE][end - n : end], rows[VALUE][end - n : end])
        for role in ROLES:
            expected = [
                dataclasses.replace(c, stamp=None) if hasattr(c, "stamp") else c
                for c in getattr(scene, role)
            ]  # stamps are no numbers of a row
            assert _plain(found[role]) == _plain(tuple(expected)), role


@pytest.mark.parametrize("index", [0, 17, 59])
def test_an_image_is_rebuilt_bit_for_bit_from_its_row(tiny: Dataset, index: int) -> None:
    found = rebuild(tiny.path, index)
    assert found.identical
    assert found.row_is_drawn
    assert found.is_sound
    assert (found.max_difference, found.max_difference_noiseless) == (0.0, 0.0)
    np.testing.assert_array_equal(found.image, tiny.read_images(slice(index, index + 1))[0])


def test_the_row_decides_and_not_the_configuration(tiny: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "moved.zarr"
    shutil.copytree(tiny.path, path)
    group = zarr.open_group(path, mode="r+")
    first = int(group["components/offset"][7])
    theta = group["components/value"][first]
    theta[2] *= 1.1  # p0 of the macro lens: its Einstein radius
    assert next(iter(PARAMETERS["sie"])) == "theta_E"
    group["components/value"][first] = theta
    found = rebuild(path, 7)
    assert not found.row_is_drawn
    assert not found.identical
    assert not found.is_sound
    assert damaged_shards(open_dataset(path)) == (0,)  # the digest covers the components


def test_another_engine_agrees_to_a_fraction_of_the_noise(tiny: Dataset) -> None:
    assert tiny.simulation is not None
    other = "lenstronomy" if tiny.simulation.engine.kind == "jax" else "jax"
    found = rebuild(tiny.path, 4, engine=other)
    assert (found.engine, found.is_sound) == (other, True)
    assert 0 < found.max_sigma < 0.05
    assert "sigma" in found.text()


def test_what_was_rebuilt_is_written_as_npz_and_fits(tiny: Dataset, tmp_path: Path) -> None:
    found = rebuild(tiny.path, 3)
    write_rebuilt(found, tmp_path / "a.npz")
    write_rebuilt(found, tmp_path / "a.fits")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["image"], found.image)
    with fits.open(tmp_path / "a.fits", memmap=False) as hdus:
        np.testing.assert_array_equal(hdus["STORED"].data, found.stored)
    with pytest.raises(ConfigError, match=r"\.npz or \.fits"):
        write_rebuilt(found, tmp_path / "a.txt")


def test_an_image_that_is_not_there_is_named(tiny: Dataset) -> None:
    with pytest.raises(DatasetError, match="no image 60; it has 0 to 59"):
        rebuild(tiny.path, 60)


def test_noise_free_images_and_variances_are_kept_on_request(tmp_path: Path) -> None:
    config = load_dataset_config("demo", [*TINY, "n_images=12", "keep=[noiseless,variance]"])
    simulate_dataset(config, tmp_path / "k.zarr", workers=1)
    data = open_dataset(tmp_path / "k.zarr")
    noiseless, variance = (data.read(n, slice(0, 12)) for n in ("noiseless", "variance"))
    alone = simulate(config, 5)
    np.testing.assert_array_equal(noiseless[5], alone.noiseless.astype(np.float32))
    np.testing.assert_array_equal(data.read_images(slice(5, 6))[0], alone.image)
    assert (variance > 0).all()
    pull = (data.read_images(slice(0, 12)) - noiseless) / np.sqrt(variance)
    assert abs(pull.std() - 1.0) < 5 / np.sqrt(2 * pull.size) + 0.02
    group = zarr.open_group(tmp_path / "k.zarr", mode="r")
    assert group["variance"].attrs["unit"] == "(electron/s)^2"
