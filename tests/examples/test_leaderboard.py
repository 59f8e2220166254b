"""The leaderboard is one command: it trains, goes on where it stood, and writes the page."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..cli.conftest import PRESET

ROOT = Path(__file__).resolve().parents[2]


def run(tmp_path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "docs").mkdir(exist_ok=True)
    (tmp_path / "tiny.yaml").write_text(PRESET)
    command = [sys.executable, str(ROOT / "examples" / "leaderboard.py")]
    command += ["--preset", str(tmp_path / "tiny.yaml"), "--model", "lens_hybrid/mini"]
    command += [
        "--images",
        "60",
        "--out",
        str(tmp_path / "board"),
        "--docs",
        str(tmp_path / "docs"),
    ]
    command += ["--set", "epochs=1", "--config", "demo", "--core-minutes", "2", *more]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )


@pytest.mark.slow
def test_a_tiny_leaderboard_is_written_kept_and_never_mixed(tmp_path: Path) -> None:
    done = run(tmp_path, "--seeds", "2")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "docs" / "leaderboard.json").read_text("utf-8"))["tiny"]
    assert {row["model"] for row in found["rows"]} == {"lens_hybrid/mini", "shortcut"}
    assert all(row["seeds"] == 2 and row["macro_auc_interval"] for row in found["rows"])
    assert found["core_minutes"] == 1.0  # two minutes for two trainings
    page = (tmp_path / "docs" / "leaderboard.md").read_text("utf-8")
    assert found["dataset_sha256"][:16] in page and "lens_hybrid/mini" in page
    theirs = page.partition("## DeepLense's published figures")[2]
    assert "Theirs, not ours" in theirs and re.search(
        r"\| CvT \| legacy_model_i \|.*theirs", theirs
    )

    weights = sorted((tmp_path / "board").rglob("weights.safetensors"))
    times = [path.stat().st_mtime_ns for path in weights]
    assert run(tmp_path, "--seeds", "2").returncode == 0
    assert [path.stat().st_mtime_ns for path in weights] == times  # nothing was trained again

    other = run(tmp_path, "--seeds", "3")
    assert other.returncode != 0 and "holds another plan (seeds 2 instead of 3" in other.stderr
    content = json.loads((tmp_path / "docs" / "leaderboard.json").read_text("utf-8"))
    content["tiny"]["dataset_sha256"] = "0" * 64
    (tmp_path / "docs" / "leaderboard.json").write_text(json.dumps(content))
    mixed = run(tmp_path, "--seeds", "2")
    assert mixed.returncode != 0 and "not comparable" in mixed.stderr
