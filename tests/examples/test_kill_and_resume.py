"""The example that kills and resumes comes to its good end, on a small scale."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_killed_at_random_instants_the_dataset_is_the_same_to_the_last_byte() -> None:
    command = [sys.executable, "examples/kill_and_resume.py", "--kills", "3", "--images", "200"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("hash equal, bytes equal") == 2
