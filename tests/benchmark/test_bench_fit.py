"""``deeplense bench fit`` answers with what it promises."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_bench_fit_measures_fits_and_their_parts() -> None:
    command = [sys.executable, "-m", "pipeline", "bench", "fit", "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    total = rows["32 x 32: fit"]
    assert total["unit"] == "ms/image" and total["ratio"] > 0
    parts = [rows[f"32 x 32: {stage}"]["value"] for stage in ("start", "coarse", "fine", "result")]
    assert 0 < sum(parts) <= total["value"] * 1.05
