"""The scripts about scoring run, and what they find is what the page says."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_damaged_files_neither_crash_nor_hang_a_reader(tmp_path):
    command = [sys.executable, ROOT / "examples" / "fuzz_images.py", "--files", "400"]
    done = subprocess.run(
        [*command, "--seed", "3", "--keep", tmp_path], capture_output=True, text=True, cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 crashed or hung" in done.stdout
    peak = int(done.stdout.rsplit("peak ", 1)[1].split()[0])
    assert peak < 2048


def test_junk_is_flagged_and_held_out_lenses_are_not(tmp_path):
    """The novelty of a checkpoint, on images as the script makes them."""
    import importlib.util

    from pipeline.checkpoint.load import load_run
    from pipeline.inference.catalogue import OOD_NOVELTY

    from ..checkpoint.untrained_run import lens_images, write_run

    path = ROOT / "examples" / "novelty_methods.py"
    spec = importlib.util.spec_from_file_location("novelty_methods", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    write_run(tmp_path / "run")
    run = load_run(tmp_path / "run")
    lenses = lens_images(300, 11)
    # 100 validation images set the threshold: 1 % each way, and three standard errors of it
    assert np.mean(run.predict(lenses).novelty > OOD_NOVELTY) <= 0.05
    for kind, images in script.junk(lenses[:100], np.random.default_rng(1)).items():
        assert np.mean(run.predict(images).novelty > OOD_NOVELTY) >= 0.9, kind
