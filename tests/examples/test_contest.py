"""The contest with and without residuals, from nothing to its table, by the script itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "contest.py"
SMALL = """\
extends: contrast_hst
shard_size: 12
n_pix: 40
instruments: [euclid_vis]
scenes: {macro: {slope: 2.0}, source: {magnitude: 20.0}}
"""


@pytest.mark.slow
def test_contest_trains_both_networks_and_counts_every_stage(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    command = [sys.executable, SCRIPT, "--preset", "small.yaml", "--out", "out", "--images", "72"]
    command += ["--core-minutes", "0.05", "--plain-core-minutes", "0.05"]
    command += ["--set", "batch_size=16", "--set", "model={kind: lens_hybrid, variant: mini}"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    found = json.loads((tmp_path / "out" / "contest.json").read_text())
    stages = {"simulation", "fits", "residual", "plain"}
    assert found["seconds"].keys() == stages and min(found["seconds"].values()) > 0.0
    assert found["total_with_residual"] < sum(found["seconds"].values())
    for name in ("residual", "plain"):
        low, high = found[name]["interval"]
        assert low <= found[name]["macro_auc"] <= high
        assert found["curves"][name][-1]["core_seconds"] > 0.0
    assert (tmp_path / "out" / "contest.png").stat().st_size > 5000
