"""Bad input: a paragraph that says where and what, the right exit code, and nothing damaged."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest


def _tree(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def _refused(done: Any, code: int, *words: str) -> None:
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def _yaml(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(f"extends: demo\n{text}\n")
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("n_image: 10", ("mine.yaml:2", "n_image", "did you mean 'n_images'?")),
        ("n_pix: big", ("mine.yaml:2", "n_pix", "integer", "'big'")),
        ("n_pix: -64", ("mine.yaml:2", "n_pix", "greater than 0", "-64")),
        ("seed: 1\nseed: 2", ("mine.yaml:3", "'seed' is given twice")),
        ("splits: [", ("mine.yaml", "not YAML")),
        ("engine: lenstronmy", ("mine.yaml:2", "did you mean 'lenstronomy'?")),
    ],
    ids=["misspelt", "type", "negative", "twice", "syntax", "engine"],
)
def test_faults_of_a_configuration_are_placed(
    deeplense: Any, text: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "a.zarr"
    _refused(deeplense("simulate", _yaml(tmp_path, text), "--out", out), 2, *words)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("dmeo",), ("'dmeo' is not a preset", "did you mean 'demo'?")),
        (("none.yaml",), ("none.yaml: no such file",)),
        (("demo", "--images", "-5"), ("n_images", "greater than 0", "-5")),
        (("demo", "--images", "many"), ("--images", "many")),
        (("demo", "--set", "n_pxi=3"), ("n_pxi", "did you mean 'n_pix'?")),
        (("demo", "--set", "n_pix"), ("--set n_pix", "KEY.KEY=VALUE")),
        (("demo", "--workers", "0"), ("--workers", "at least 1")),
        (("demo", "--wrokers", "2"), ("--wrokers", "deeplense simulate --help")),
    ],
    ids=["preset", "file", "negative", "type", "key", "no value", "workers", "flag"],
)
def test_faults_of_a_command_line_are_named(
    deeplense: Any, arguments: tuple[str, ...], words: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "a.zarr"
    _refused(deeplense("simulate", *arguments, "--out", out), 2, *words)
    assert not out.exists()


def test_missing_argument_is_named(deeplense: Any) -> None:
    _refused(deeplense("simulate", "demo"), 2, "--out", "deeplense simulate --help")


def test_another_configuration_is_refused_and_damages_nothing(
    deeplense: Any, preset: Path, data: Path
) -> None:
    before = _tree(data)
    done = deeplense("simulate", preset, "--out", data, "--seed", 5)
    _refused(done, 1, "another simulation", "seed (1, asked 5)")
    assert _tree(data) == before


def test_place_that_takes_no_files_is_named(deeplense: Any, preset: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    out = tmp_path / "file" / "a.zarr"
    _refused(deeplense("simulate", preset, "--out", out), 1, "is a file, not a folder")
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.slow
def test_full_disk_is_said_and_the_same_call_goes_on_later(
    full_disk: Any, deeplense_process: Any, preset: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / data.name
    call = ("simulate", preset, "--out", out, "--workers", 1)
    with full_disk():
        done = deeplense_process(*call)
    _refused(done, 1, str(out), "cannot be written")
    assert deeplense_process(*call).returncode == 0
    assert _tree(out) == _tree(data)


def test_unfinished_dataset_does_not_train(
    deeplense: Any, preset: Path, training: Path, data: Path, tmp_path: Path
) -> None:
    import shutil

    partial = tmp_path / "part.zarr"
    shutil.copytree(data, partial)
    meta = json.loads((partial / "zarr.json").read_text())
    del meta["attributes"]["dataset_sha256"]
    (partial / "zarr.json").write_text(json.dumps(meta))
    out = tmp_path / "run"
    done = deeplense("train", training, "--data", partial, "--out", out)
    _refused(done, 1, str(partial), "deeplense simulate")
    assert not out.exists()


@pytest.mark.parametrize("what", ["nothing", "a folder", "a dataset"])
def test_run_that_is_none_is_refused(deeplense: Any, data: Path, what: str, tmp_path: Path) -> None:
    run = {"nothing": tmp_path / "none", "a folder": tmp_path, "a dataset": data}[what]
    _refused(deeplense("evaluate", run, "--data", data), 1, str(run))
    _refused(deeplense("score", run, tmp_path, "--out", tmp_path / "s.ecsv"), 1)
    _refused(deeplense("report", run, "--out", tmp_path / "r.html"), 1, str(run))
    assert not (tmp_path / "s.ecsv").exists()
    assert not (tmp_path / "r.html").exists()


def test_checkpoint_of_another_task_is_judged_by_its_own_figures(
    deeplense: Any, training: Path, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "mass"
    call = ("train", training, "--data", data, "--out", run, "--device", "cpu")
    assert deeplense(*call, "--set", "task=regression").returncode == 0
    done = deeplense("evaluate", run, "--data", data, "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["mae_dex"] > 0.0
    assert "macro_auc" not in found
    before = _tree(run)
    _refused(deeplense(*call), 1, "task.kind was 'regression'")
    assert _tree(run) == before
    page = tmp_path / "mass.html"
    assert deeplense("report", run, "--data", data, "--out", page).returncode == 0
    assert "Validation error (dex)" in page.read_text()


def test_folder_without_images_is_said(deeplense: Any, run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    out = tmp_path / "s.ecsv"
    _refused(deeplense("score", run_folder, tmp_path, "--out", out), 1, str(tmp_path))
    _refused(deeplense("score", run_folder, tmp_path / "none", "--out", out), 1, "none")
    _refused(deeplense("score", run_folder, tmp_path, "--out", tmp_path / "s.doc"), 2, ".ecsv")
    assert not out.exists()


def test_unavailable_device_is_named(deeplense: Any, run_folder: Path, data: Path) -> None:
    done = deeplense("evaluate", run_folder, "--data", data, "--device", "tpu")
    _refused(done, 2, "'tpu'", "known here")


def _begun(preset: Path, out: Path) -> subprocess.Popen[str]:
    """A simulation that has written its first shard."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "simulate", str(preset), "--out", str(out),
         "--images", "3000", "--workers", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(out.glob("shard_digest/c/*/0")):
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 130, "terminated"),
        (signal.SIGKILL, -signal.SIGKILL, ""),
    ],
    ids=lambda v: getattr(v, "name", None),
)
def test_stopped_simulation_goes_on_to_the_same_bytes(
    deeplense_process: Any, preset: Path, number: int, code: int, word: str, tmp_path: Path
) -> None:
    out, whole = tmp_path / "a.zarr", tmp_path / "b" / "a.zarr"
    process = _begun(preset, out)
    os.kill(process.pid, number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert stdout == ""
    assert word in stderr
    assert "Traceback" not in stderr
    digests = len(list(out.glob("shard_digest/c/*/0")))
    assert 0 < digests < 150
    again = deeplense_process("simulate", preset, "--out", out, "--images", 300, "--workers", 1)
    assert again.returncode == 1, "a dataset of 3000 images must not shrink"
    for path, workers in ((out, 1), (whole, 2)):
        call = ("simulate", preset, "--out", path, "--images", 3000, "--workers", workers)
        assert deeplense_process(*call).returncode == 0
    assert _tree(out) == _tree(whole)
