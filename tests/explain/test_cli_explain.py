"""``deeplense explain``: maps, pointing scores, a page; and what it refuses."""

import json
import re
from pathlib import Path

import numpy as np
import pytest


def test_explain_scores_and_draws(deeplense, run_folder: Path, data: Path, tmp_path: Path):
    out = tmp_path / "explained.html"
    done = deeplense(
        "explain", run_folder, "--data", data, "--split", "train", "--images", 12, "--min-d", 0.1,
        "--method", "gradient", "--method", "attention", "--out", out, "--device", "cpu", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["methods"] == ["gradient", "attention"] and found["images"] == 12
    assert found["scored"] + found["faint"] == 8  # 12 images, a third without substructure
    rows = {(row["map"], row["class_name"]): row for row in found["pointing"]}
    assert rows["d' per pixel", "all"]["change"]["value"] == 1.0
    assert {"all", "subhalo", "vortex"} == {name for _, name in rows}
    assert 0 <= rows["gradient", "all"]["change"]["value"] <= 1
    page = out.read_text("utf-8")
    assert "peak on the change" in page and "Maps of class vortex" in page
    assert len(re.findall("gradient of image", page)) == 12
    assert "://" not in page.replace("http://www.w3.org", "")


def test_methods_that_do_not_apply_are_left_out_or_refused(
    deeplense, data: Path, tmp_path: Path, training: Path
):
    run = tmp_path / "shortcut"
    call = ("train", "shortcut", "--data", data, "--out", run, "--device", "cpu")
    assert deeplense(*call).returncode == 0
    shared = ("explain", run, "--data", data, "--images", 3)
    done = deeplense(*shared, "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["methods"] == ["occlusion"]
    assert "has no gradient" in found["refused"]["gradient"]
    done = deeplense(*shared, "--method", "gradient")
    assert done.returncode == 1 and "gradient does not apply" in done.stderr


def test_without_truth_there_are_maps_and_a_reason(
    deeplense, run_folder: Path, data: Path, tmp_path: Path
):
    parts, out = tmp_path / "parts", tmp_path / "page.html"
    assert deeplense("split", data, "--out", parts).returncode == 0
    call = ("explain", run_folder, "--data", parts / "test.zarr", "--method", "gradient")
    done = deeplense(*call, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "no pointing score" in done.stdout and "split" in done.stdout
    assert "gradient of image" in out.read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--method", "gradent"), 2, "did you mean 'gradient'"),
        (("--images", "0"), 2, "--images must be at least 1"),
        (("--split", "tset"), 1, "no split"),
    ],
)
def test_bad_input_is_named(deeplense, run_folder: Path, data: Path, arguments, code, says):
    done = deeplense("explain", run_folder, "--data", data, *arguments)
    assert done.returncode == code and says in done.stderr


def test_substructure_nobody_sees_is_not_scored(deeplense, run_folder: Path, data: Path):
    call = ("explain", run_folder, "--data", data, "--images", 3, "--method", "gradient")
    found = json.loads(deeplense(*call, "--min-d", 1e6, "--json").stdout)
    assert found["scored"] == 0 and found["pointing"] == [] and "1e+06" in found["unscored"]
    assert np.isfinite(found["faint"])
