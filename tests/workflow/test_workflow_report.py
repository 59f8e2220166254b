"""Reports of real runs and tables: complete, bounded, and readable without a network."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core.errors import CheckpointError, ConfigError, ScoringError
from pipeline.report import scores_section
from pipeline.report.build import build_report
from pipeline.report.scores_section import read_scores
from pipeline.workflow import steps

SECTIONS = ("The images", "Training", "How well it does", "Scored images", "What to try next")


def test_report_of_the_chain_has_every_chapter(chain: Any) -> None:
    html = chain.folder.report.read_text()
    for title in SECTIONS:
        assert f"<h2>{title}</h2>" in html
    assert html.count("<svg") == 5  # two or three training curves, ROC, reliability
    assert html.count("<article") == chain.summary.scored
    assert "truth: vortex" in html


def test_report_stands_beside_its_subject(chain: Any, tmp_path: Path) -> None:
    scores = tmp_path / "table.ecsv"
    scores.write_bytes(chain.folder.scores.read_bytes())
    page = steps.report_on(scores, images=chain.folder.images)
    assert page == tmp_path / "table.html"
    html = page.read_text()
    assert html.count("<article") == chain.summary.scored
    assert html.count('class="nopicture"') == 0
    without = steps.report_on(scores, out=tmp_path / "without.html").read_text()
    assert without.count('class="nopicture"') == chain.summary.scored
    run_page = steps.report_on(chain.folder.run, out=tmp_path / "run.html").read_text()
    assert "<h2>How well it does</h2>" in run_page
    assert "<h2>Scored images</h2>" not in run_page


def test_picture_of_another_file_is_not_shown(chain: Any, tmp_path: Path) -> None:
    images = tmp_path / "fits"
    shutil.copytree(chain.folder.images, images)
    shutil.copy(images / "lens_02.fits", images / "lens_01.fits")
    page = build_report(tmp_path / "r.html", scores=chain.folder.scores, images=images)
    assert page.read_text().count('class="nopicture"') == 1


def test_hostile_file_names_are_shown_as_text(chain: Any, tmp_path: Path) -> None:
    images = tmp_path / "fits"
    images.mkdir()
    shutil.copy(chain.folder.images / "lens_01.fits", images / "<img src=x onerror=alert(1)>.fits")
    steps.score(chain.folder.run, [images], tmp_path / "s.ecsv", device="cpu")
    html = build_report(tmp_path / "r.html", scores=tmp_path / "s.ecsv", images=images).read_text()
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;.fits" in html


@pytest.mark.parametrize("suffix", [".csv", ".fits", ".parquet"])
def test_every_format_of_the_table_reads_alike(chain: Any, suffix: str, tmp_path: Path) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    out = tmp_path / f"scores{suffix}"
    steps.score(chain.folder.run, [chain.folder.images], out, device="cpu")
    expected, found = read_scores(chain.folder.scores), read_scores(out)
    assert found.class_names == expected.class_names
    assert found.checkpoint_sha256 == expected.checkpoint_sha256
    for a, b in zip(expected.rows, found.rows, strict=True):
        for name in ("path", "status", "reason", "label", "flags", "input_sha256"):
            assert (b[name] or None) == a[name], name
        if a["status"] == "scored":
            assert bool(b["trusted"]) is bool(a["trusted"])
            assert float(b["p_no"]) == pytest.approx(float(a["p_no"]))


def test_long_tables_are_cut_and_counted(
    chain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores_section, "MAX_CARDS", 3)
    monkeypatch.setattr(scores_section, "MAX_REJECTED", 2)
    html = build_report(tmp_path / "r.html", scores=chain.folder.scores).read_text()
    assert html.count("<article") == 3
    assert f"{chain.summary.scored - 3} more are in scores.ecsv" in html
    assert f"{chain.summary.rejected - 2} more files are not listed here" in html


def test_nothing_to_report_on_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run folder or a table"):
        build_report(tmp_path / "r.html")
    with pytest.raises(ScoringError, match="no such table"):
        build_report(tmp_path / "r.html", scores=tmp_path / "none.ecsv")
    with pytest.raises(CheckpointError):
        build_report(tmp_path / "r.html", run=tmp_path)
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ScoringError, match="path, status and reason"):
        build_report(tmp_path / "r.html", scores=tmp_path / "x.csv")
    assert not (tmp_path / "r.html").exists()


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def _screenshot(page: Path, picture: Path, width: int, *flags: str) -> str:
    """Render ``page`` without a network; return what the browser said."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND",
        "--enable-logging=stderr", f"--user-data-dir={picture.with_suffix('')}",
        f"--window-size={width},6000", f"--screenshot={picture}", *flags, page.as_uri(),
    ]  # fmt: skip
    browser = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        return browser.communicate(timeout=60)[0]
    finally:
        if browser.poll() is None:
            os.killpg(browser.pid, signal.SIGKILL)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 500])
def test_report_renders_in_a_browser(chain: Any, theme: str, width: int, tmp_path: Path) -> None:
    from matplotlib.image import imread

    picture = tmp_path / "page.png"
    flags = ["--blink-settings=preferredColorScheme=0"] if theme == "dark" else []
    said = _screenshot(chain.folder.report, picture, width, *flags)
    assert not re.search(r"CONSOLE|Refused to|ERR_", said), said
    pixels = imread(picture)[..., :3]
    assert pixels.shape[1] == width
    background = np.median(pixels.reshape(-1, 3), axis=0)
    assert (background.mean() < 0.3) == (theme == "dark")
    is_ink = np.abs(pixels - background).max(axis=2) > 0.1
    assert 0.05 < is_ink[:4000].mean() < 0.9
    assert not is_ink[:, -3:].any(), "something sticks out at the right edge"
