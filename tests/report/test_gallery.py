"""The gallery is one bounded file that shows every row and runs nothing that a file name says."""

import json
import re
from pathlib import Path

import pytest
from astropy.io import fits

from pipeline.inference.score import run_scoring
from pipeline.report import gallery

from ..checkpoint.untrained_run import lens_images, write_run

HOSTILE = "<script>alert(1)<"


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Run folder, folder of images and table of scores."""
    root = tmp_path_factory.mktemp("gallery")
    write_run(root / "run")
    (root / "sky").mkdir()
    for i, image in enumerate(lens_images(6, 5)):
        header = fits.Header({"PIXSCALE": 0.05})
        fits.PrimaryHDU(image[0], header).writeto(root / "sky" / f"{i}{HOSTILE}.fits")
    (root / "sky" / "broken.fits").touch()
    run_scoring(root / "run", [root / "sky"], root / "scores.ecsv", workers=0)
    return root / "run", root / "sky", root / "scores.ecsv"


def build(scored: tuple[Path, Path, Path], out: Path) -> tuple[str, dict]:
    run, sky, table = scored
    gallery.build_gallery(out, table, run, [sky], workers=0)
    page = out.read_text(encoding="utf-8")
    found = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert found is not None
    return page, json.loads(found[1])


def test_every_row_is_on_the_page_with_its_picture_and_saliency(scored, tmp_path):
    page, data = build(scored, tmp_path / "g.html")
    assert len(data["columns"]["path"]) == 7
    assert sum(bool(code) for code in data["thumbs"]) == 6
    assert sum(bool(code) for code in data["heat"]) == 6
    assert {"novelty", "snr", "flags", "reason", "p_no"} <= data["columns"].keys()
    assert data["columns"]["reason"].count("unreadable") == 1
    assert "No real image carries a true substructure label" in page


def test_a_file_name_cannot_become_markup(scored, tmp_path):
    page, data = build(scored, tmp_path / "g.html")
    assert any(HOSTILE in name for name in data["columns"]["path"])
    assert HOSTILE not in page
    assert "innerHTML" not in page and "http" not in page.replace("https://", "")


def test_pictures_stop_where_the_page_would_grow_too_large(scored, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "MAX_PICTURE_BYTES", 6000)
    page, data = build(scored, tmp_path / "g.html")
    n_pictures = sum(bool(code) for code in data["thumbs"])
    assert 0 < n_pictures < 6
    assert f"{6 - n_pictures} scored images have no picture" in page
