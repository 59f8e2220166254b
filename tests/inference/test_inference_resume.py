"""A table survives a kill: what is known stays known, and the end is the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from pipeline.core.errors import OutputError
from pipeline.inference.journal import Journal
from pipeline.inference.score import run_scoring
from pipeline.inference.search import find_images

from .fits_samples import ring, sky_header


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "sky"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(30):
        pixels = (ring() + rng.normal(0, 0.1, (64, 64))).astype("f4")
        fits.PrimaryHDU(pixels, sky_header()).writeto(folder / f"{i:02d}.fits")
    (folder / "13.fits").write_bytes(b"")
    return folder


def test_a_run_that_stops_anywhere_goes_on_to_the_same_table(
    run_folder, folder, tmp_path, monkeypatch
):
    whole, out = tmp_path / "whole.ecsv", tmp_path / "out.ecsv"
    run_scoring(run_folder, [folder], whole, workers=0, batch_size=4)
    for n_allowed in (1, 2, 2):
        _stop_after(monkeypatch, n_allowed)
        with pytest.raises(KeyboardInterrupt):
            run_scoring(run_folder, [folder], out, workers=0, batch_size=4)
        monkeypatch.undo()
        assert not out.exists()
        journal = next(tmp_path.glob(".out.ecsv.journal*"))
        torn = journal.read_bytes()[:-7]  # the kill came in the middle of a line
        journal.write_bytes(torn)
    summary = run_scoring(run_folder, [folder], out, workers=0, batch_size=4)
    assert summary.resumed >= 12
    assert out.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob(".*journal*"))


def _stop_after(monkeypatch, n_allowed: int) -> None:
    add, calls = Journal.add, []

    def stopping(self, items, rows):
        calls.append(1)
        if len(calls) > n_allowed:
            raise KeyboardInterrupt
        add(self, items, rows)

    monkeypatch.setattr(Journal, "add", stopping)


def test_a_file_that_changed_meanwhile_is_scored_again(run_folder, folder, tmp_path, monkeypatch):
    out = tmp_path / "out.csv"
    _stop_after(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        run_scoring(run_folder, [folder], out, workers=0, batch_size=4)
    monkeypatch.undo()
    (folder / "00.fits").write_bytes(b"")
    run_scoring(run_folder, [folder], out, workers=0, batch_size=4)
    assert Table.read(out, format="ascii.csv")["reason"][0] == "unreadable"


def test_another_network_or_option_does_not_take_over_old_rows(
    run_folder, folder, tmp_path, monkeypatch
):
    out = tmp_path / "out.csv"
    _stop_after(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        run_scoring(run_folder, [folder], out, workers=0, batch_size=4)
    monkeypatch.undo()
    assert run_scoring(run_folder, [folder], out, workers=0, symmetries=8).resumed == 0


def test_two_processes_cannot_write_one_table(tmp_path):
    with Journal(tmp_path / "t.ecsv", {}), pytest.raises(OutputError, match="another process"):
        Journal(tmp_path / "t.ecsv", {})


def test_parts_scored_apart_make_the_table_of_one_run(run_folder, folder, tmp_path):
    whole, out = tmp_path / "whole.ecsv", tmp_path / "out.ecsv"
    run_scoring(run_folder, [folder], whole, workers=0)
    rows = [run_scoring(run_folder, [folder], out, workers=0, part=(k, 3)).rows for k in (3, 1, 2)]
    assert sum(rows) == 30 and not out.exists()
    summary = run_scoring(run_folder, [folder], out, workers=0)
    assert (summary.resumed, summary.rows) == (30, 30)
    assert out.read_bytes() == whole.read_bytes()


def test_every_step_is_explained_for_every_image(run_folder, folder, tmp_path):
    steps = tmp_path / "steps.jsonl"
    run_scoring(run_folder, [folder], tmp_path / "s.csv", workers=0, explain=steps)
    lines = [json.loads(line) for line in steps.read_text().splitlines()]
    assert [line["path"] for line in lines] == [f.name for f in find_images([folder]).files]
    names = [step["step"] for step in lines[0]["steps"]]
    assert names == [
        "read", "unit", "centre", "window", "pixel_scale", "orientation", "psf", "lens_light",
        "size", "sky", "normalise",
    ]  # fmt: skip
    assert lines[13]["steps"][0]["reason"] == "unreadable"


@pytest.mark.slow
def test_kill_nine_and_the_same_command_give_the_table_of_one_run(run_folder, folder, tmp_path):
    """The real command, killed while it works, loses no row it had written."""
    for i in range(30, 1500):
        os.link(folder / f"{i % 12:02d}.fits", folder / f"{i:04d}.fits")
    command = [sys.executable, "-m", "pipeline", "score", run_folder, folder, "--batch-size", "8"]
    whole, out = tmp_path / "whole.ecsv", tmp_path / "out.ecsv"
    subprocess.run([*command, "--out", whole], check=True, capture_output=True)
    process = subprocess.Popen([*command, "--out", out], stderr=subprocess.DEVNULL)
    journal = tmp_path / ".out.ecsv.journal.partial"
    while not (journal.exists() and journal.stat().st_size > 200_000):
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    done = subprocess.run([*command, "--out", out, "--json"], check=True, capture_output=True)
    assert json.loads(done.stdout)["resumed"] > 50
    assert out.read_bytes() == whole.read_bytes()
