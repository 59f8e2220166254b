"""The networks that ship: small, known by name, and able to tell what they were trained to tell."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from pipeline.checkpoint.spec import find_run, shipped_runs
from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.generate import observe
from pipeline.engines.base import ENGINES
from pipeline.physics.scene import draw_scene

#: Beyond every image that the network was trained or judged on.
FIRST, N_LENSES = 10_000_000, 48


@pytest.mark.parametrize("name", shipped_runs())
def test_it_is_small_and_says_what_made_it(name: str) -> None:
    files = [path for path in find_run(name).iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 5e6
    card = (find_run(name) / "MODEL_CARD.md").read_text("utf-8")
    assert "test split" in card and "reproduce: " in card


def test_a_folder_of_the_same_name_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name, *_) = shipped_runs()
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    assert find_run(name) == Path(name)
    assert find_run("none") == Path("none")


def test_new_lenses_in_fits_files_are_told_apart_without_any_training(
    deeplense: Any, tmp_path: Path
) -> None:
    config = load_dataset_config("contrast_hst")
    module = ENGINES.load("jax")
    scenes = [draw_scene(config.scenes, config.seed, FIRST + k) for k in range(N_LENSES)]
    images = observe(config, module.build(module.Config()), scenes)
    header = fits.Header({"BUNIT": "electron/s", "PIXSCALE": config.grid.pixel_scale})
    for k, image in enumerate(images):
        fits.PrimaryHDU(image[0], header).writeto(tmp_path / f"{k:03d}.fits")
    out = tmp_path / "scores.ecsv"
    deeplense("score", "contrast_hst", tmp_path, "--out", out)
    scores = Table.read(out)
    truth = np.array([scene.class_name for scene in scenes])
    assert (np.asarray(scores["label"]) == truth).mean() > 0.7
    assert np.asarray(scores["trusted"]).mean() > 0.8
