"""``deeplense audit`` and ``deeplense preview`` as a user runs them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PRESET = """\
extends: demo
n_images: 30
shard_size: 15
n_pix: 20
supersample: 1
"""
PNG = b"\x89PNG\r\n\x1a\n"


def deeplense(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("preset") / "mine.yaml"
    path.write_text(PRESET)
    return path


def test_preview_draws_a_png_of_every_class(preset: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    done = deeplense("preview", preset, "--out", out, "--n", 2, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["lenses"] == 2
    assert found["class_names"] == ["no", "subhalo", "vortex"]
    assert found["largest_change"]["no"] == 0.0
    assert min(found["largest_change"][c] for c in ("subhalo", "vortex")) > 0.0
    assert out.read_bytes().startswith(PNG)
    assert out.stat().st_size > 10_000


def test_preview_refuses_another_format_and_a_sheet_too_large(preset: Path, tmp_path: Path) -> None:
    for arguments, word in (
        (("--out", tmp_path / "x.jpg"), ".png"),
        (("--n", 1000), "from 1 to 24"),
    ):
        done = deeplense("preview", preset, *arguments)
        assert done.returncode == 2
        assert word in done.stderr
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_simulate_audits_what_it_wrote_and_audit_exits_1_on_damage(
    preset: Path, tmp_path: Path
) -> None:
    data, page = tmp_path / "d.zarr", tmp_path / "a.html"
    done = deeplense("simulate", preset, "--out", data, "--workers", 1, "--json")
    assert done.returncode == 0, done.stderr
    short = json.loads(done.stdout)["audit"]
    assert short["passed"] is short["short"] is True
    assert short["not_judged"] == ["leaks"]

    bad = tmp_path / "bad.zarr"
    shutil.copytree(data, bad)
    chunk = bad / "images" / "c" / "1" / "0" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[777] ^= 1
    chunk.write_bytes(bytes(content))
    done = deeplense("audit", bad, "--sample", 0, "--out", page)
    assert done.returncode == 1
    assert "FAILED: 1 of 2 shards are damaged: 1" in done.stdout
    assert "Not sound" in page.read_text()


def test_simulate_without_audit_has_none(preset: Path, tmp_path: Path) -> None:
    out = tmp_path / "d.zarr"
    done = deeplense("simulate", preset, "--out", out, "--workers", 1, "--no-audit", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["audit"] is None


def test_audit_of_nothing_is_one_line(tmp_path: Path) -> None:
    done = deeplense("audit", tmp_path / "none.zarr")
    assert done.returncode == 1
    assert "no dataset lies there" in done.stderr
    assert "Traceback" not in done.stderr
