"""Image sources: preparation of stamps, their light, their identity, and bad stamps refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from pipeline.core.config import dump, validate
from pipeline.core.errors import ConfigError
from pipeline.dataset.config import DatasetConfig, load_dataset_config
from pipeline.dataset.rebuild import rebuild
from pipeline.dataset.simulate import simulate_dataset
from pipeline.dataset.store import open_dataset
from pipeline.physics.scene import SceneConfig, draw_scene
from pipeline.physics.sources import image
from pipeline.physics.stamps import (
    load_stamps,
    prepare,
    stamp_brightness,
    stamp_coefficients,
)

from .scenes import galaxy, scene_config, source_block, stamp_folder


def test_stamp_loses_its_background_fades_and_has_unit_flux():
    found = prepare(galaxy(50, background=7.0), 0.2, "here")
    assert found.sum() == pytest.approx(1.0)
    assert not found[0].any() and not found[:, -1].any()
    np.testing.assert_allclose(
        found, prepare(100.0 * galaxy(50, background=-3.0), 0.2, "here"), atol=1e-12
    )


def test_stamps_of_a_folder_share_one_size_and_are_sorted():
    stamps = load_stamps(stamp_folder().name, 0.2)
    assert stamps.names == tuple(sorted(stamps.names)) and len(stamps.names) == 5
    assert {s.shape for s in stamps.images} == {(54, 54)}
    assert all(s.sum() == pytest.approx(1.0) for s in stamps.images)


def test_light_passes_through_the_pixels_and_integrates_to_one():
    stamp = load_stamps(stamp_folder().name, 0.2).images[0]
    n, scale = len(stamp), 0.05
    y, x = (np.mgrid[:n, :n] - (n - 1) / 2.0) * scale
    spline = stamp_coefficients(stamp)
    found = stamp_brightness(x, y, spline, scale, 0.0) * scale**2
    np.testing.assert_allclose(found[2:-2, 2:-2], stamp[2:-2, 2:-2], atol=1e-12)
    fine = (np.arange(8 * n) + 0.5) * scale / 8 - n * scale / 2.0
    light = stamp_brightness(fine[None, :], fine[:, None], spline, scale, 0.0)
    assert light.sum() * (scale / 8) ** 2 == pytest.approx(1.0, rel=1e-6)


def test_light_turns_and_moves_with_the_stamp():
    spline = stamp_coefficients(load_stamps(stamp_folder().name, 0.2).images[1])
    x, y = np.random.default_rng(3).uniform(-0.5, 0.5, (2, 200))
    c, s = np.cos(0.7), np.sin(0.7)
    turned = stamp_brightness(
        c * x - s * y + 0.1, s * x + c * y - 0.2, spline, 0.03, 0.7, 0.1, -0.2
    )
    np.testing.assert_allclose(turned, stamp_brightness(x, y, spline, 0.03, 0.0), atol=1e-9)


def test_every_galaxy_is_drawn_about_equally_often_whatever_the_class():
    config = scene_config(source=source_block("image"))
    names = config.class_names
    scenes = [draw_scene(config, 1, i, names[0]) for i in range(300)]
    assert {s.group for s in scenes} == set(load_stamps(stamp_folder().name, 0.2).names)
    counts = np.bincount([int(s.truth["source_stamp"]) for s in scenes])
    assert np.abs(counts - 60).max() < 5 * np.sqrt(60 * 0.8)
    for scene in scenes[:5]:
        twin = draw_scene(config, 1, scene.index, names[-1])
        assert (twin.group, twin.truth["source_phi"]) == (scene.group, scene.truth["source_phi"])


@pytest.fixture
def dataset_config(tmp_path):
    source = tmp_path / "mine.yaml"
    source.write_text(
        "extends: demo\nscenes:\n"
        f"  source: {{kind: image, path: {stamp_folder().name}, magnitude: 21.0, scale: 0.03}}\n"
    )
    return load_dataset_config(
        source, ["n_images=48", "shard_size=20", "n_pix=16", "supersample=1"]
    )


def test_one_galaxy_never_lands_in_two_splits(dataset_config, tmp_path):
    simulate_dataset(dataset_config, tmp_path / "d.zarr", workers=1)
    data = open_dataset(tmp_path / "d.zarr")
    galaxies = data.truth("source_stamp")
    for number in np.unique(galaxies):
        assert len(set(data.split[galaxies == number])) == 1
    assert len(set(data.split)) > 1


def test_hash_follows_the_stamps_and_not_their_place(dataset_config, tmp_path):
    copy, other = tmp_path / "copy", tmp_path / "other"
    shutil.copytree(stamp_folder().name, copy)
    shutil.copytree(stamp_folder().name, other)
    np.save(other / "galaxy_0.npy", galaxy(36, twist=0.4))

    def moved(path):
        data = dump(dataset_config)
        data["scenes"]["source"] |= {"path": str(path), "sha256": ""}
        return validate(data, DatasetConfig)

    assert moved(copy).sha256 == dataset_config.sha256 != moved(other).sha256
    assert validate(dump(dataset_config), DatasetConfig).sha256 == dataset_config.sha256


def test_stamps_that_changed_since_are_refused(tmp_path):
    shutil.copytree(stamp_folder().name, tmp_path / "s")
    block = {**source_block("image"), "path": str(tmp_path / "s")}
    stored = dump(validate(block, image.Config))
    load_stamps.cache_clear()
    (tmp_path / "s" / "galaxy_1.fits").unlink()
    with pytest.raises(ConfigError, match="not those of this configuration"):
        validate(stored, image.Config)


def _refused(path, message):
    with pytest.raises(ConfigError, match=message) as caught:
        scene_config(source={**source_block("image"), "path": str(path)})
    assert "source" in str(caught.value) and "path" in str(caught.value)
    assert path.name in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: np.where(g == g.max(), np.nan, g), "1 of 1600 pixels are not finite"),
        (np.zeros_like, "no flux is left"),
        (lambda g: np.full_like(g, 3.0), "no flux is left"),
        (np.negative, "no flux is left"),
        (lambda g: g[:5], "5 x 40 pixels are too few"),
        (lambda g: g[None], "holds no image, but 1 x 40 x 40"),
    ],
)
def test_bad_stamp_is_refused_when_read(tmp_path, change, message):
    folder = tmp_path / "stamps"
    folder.mkdir()
    np.save(folder / "good.npy", galaxy(40))
    fits.writeto(folder / "bad.fits", change(galaxy(40)))
    _refused(folder / "bad.fits", message)
    with pytest.raises(ConfigError, match=r"bad\.fits"):
        scene_config(source={**source_block("image"), "path": str(folder)})


def test_empty_or_missing_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    _refused(tmp_path, "is empty: it holds no")
    _refused(tmp_path / "missing", "neither a file nor a folder")


@pytest.mark.parametrize("taper", [0.0, 1.5])
def test_taper_is_a_share(taper):
    with pytest.raises(ConfigError, match="taper"):
        validate({**source_block("image"), "taper": taper}, image.Config)


def test_path_must_be_text():
    data = {**source_block("image"), "path": 3}
    with pytest.raises(ConfigError, match="path"):
        validate(data, image.Config)
    assert SceneConfig.model_fields["source"].is_required()


def test_example_of_the_documentation_simulates(tmp_path, monkeypatch):
    page = Path(__file__).parents[2] / "docs" / "extending.md"
    (example,) = [b for b in page.read_text().split("```") if b.startswith("yaml\nextends")]
    (tmp_path / "mine.yaml").write_text(example.removeprefix("yaml\n"))
    shutil.copytree(stamp_folder().name, tmp_path / "galaxies")
    fits.writeto(tmp_path / "psf.fits", np.outer([1, 2, 1], [1, 2, 1]).astype(float))
    monkeypatch.chdir(tmp_path)
    config = load_dataset_config("mine.yaml", ["n_images=3", "n_pix=24", "supersample=1"])
    simulate_dataset(config, tmp_path / "d.zarr", workers=1)
    data = open_dataset(tmp_path / "d.zarr")
    assert np.isfinite(data.read_images(np.arange(3))).all()
    assert set(data.truth("a_4")) == {0.01}
    assert all(rebuild(tmp_path / "d.zarr", i).identical for i in range(3))  # stamps and all
