"""The gallery is one bounded file that shows every row and runs nothing that a file name says."""

import json
import re
from pathlib import Path

import pytest
from astropy.io import fits
from astropy.table import Table

from pipeline.inference.score import run_scoring
from pipeline.report import gallery

from ..app.browser import CHROMIUM, Browser
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


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_flags_that_a_card_has_no_room_for_are_counted(scored, tmp_path):
    run, sky, scores = scored
    table = Table.read(scores)
    every = ["ood", "companion", "pixel_scale_unknown", "unit_unknown", "coarse_pixels", "cropped"]
    table["flags"] = [",".join(every[: 1 + i]) for i in range(len(table))]
    table.write(tmp_path / "s.ecsv")
    gallery.build_gallery(tmp_path / "g.html", tmp_path / "s.ecsv", run, [sky], workers=0)
    browser = Browser(tmp_path)
    try:
        browser.open(f"file://{tmp_path / 'g.html'}")
        browser.wait("document.querySelectorAll('.card').length === 7")
        shown = "[...document.querySelectorAll('.card:not(.rejected) .flags')]"
        told = browser.js(f"{shown}.map(f => f.textContent)")
        assert browser.js(f"{shown}.every(f => f.scrollHeight <= f.clientHeight)")
        hovering = browser.js(f"{shown}.map(f => f.title.split('\\n').length)")
    finally:
        browser.close()
    assert sorted(hovering) == [1, 2, 3, 4, 5, 6]
    for text, n in zip(told, hovering, strict=True):
        words, _, more = text.partition(", and ")
        n_more = int(more.removesuffix(" more") or 0)
        assert words.split(", ") == every[: n - n_more]
    assert any("more" in text for text in told)
