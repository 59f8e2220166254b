"""``deeplense bench simulate``: the same scenes for every code, real numbers, no timed claims."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from pipeline.benchmark import scenes as bench
from pipeline.benchmark import speed
from pipeline.benchmark.keywords import lens_keywords
from pipeline.core.errors import EngineError

ROW = {
    "scene": str,
    "size": int,
    "noisy": bool,
    "engine": str,
    "ms_per_image": float,
    "ms_median": float,
    "ratio_to_lenstronomy": float,
    "first_call_seconds": float,
    "deviation": float,
    "note": str,
}


@pytest.fixture(scope="module")
def quick():
    command = [sys.executable, "-m", "pipeline", "bench", "simulate", "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_every_row_has_the_fields_that_are_promised(quick):
    assert quick["rows"]
    for row in quick["rows"]:
        assert row.keys() == ROW.keys()
        if row["note"]:  # refused: no numbers
            assert row["ms_per_image"] is None
            continue
        for name, kind in ROW.items():
            assert type(row[name]) is kind, name
        assert 0 < row["ms_per_image"] <= row["ms_median"]


@pytest.mark.slow
def test_every_engine_renders_every_scene_as_lenstronomy_does(quick):
    rows = {(r["engine"], r["scene"]): r for r in quick["rows"]}
    for engine in (speed.REFERENCE, "engine lenstronomy", "engine autolens", "engine jax"):
        for scene in bench.SCENES:
            assert rows[engine, scene]["deviation"] <= 1e-3


@pytest.mark.slow
def test_ratio_is_the_reference_time_over_the_rows_own(quick):
    reference = {
        r["scene"]: r["ms_per_image"] for r in quick["rows"] if r["engine"] == speed.REFERENCE
    }
    for row in quick["rows"]:
        if not row["note"]:
            expected = reference[row["scene"]] / row["ms_per_image"]
            assert row["ratio_to_lenstronomy"] == pytest.approx(expected, rel=0.02, abs=0.02)


@pytest.mark.slow
def test_stages_add_up(quick):
    for stages in quick["stages"]:
        parts = [stages[name] for name in ("draw", "pack", "render", "expose", "write")]
        assert stages["total"] == pytest.approx(sum(parts), abs=1e-3)
        assert stages["images_per_second"] == pytest.approx(1e3 / stages["total"], rel=0.01)


@pytest.mark.parametrize("kind", bench.SCENES)
def test_scenes_are_the_same_for_everybody(kind):
    first, again = bench.scenes(kind, 3), bench.scenes(kind, 2)
    for one, other in zip(first, again, strict=False):
        assert one.macro == other.macro
        for p, q in zip(one.perturbers, other.perturbers, strict=True):
            for name in p.params:
                np.testing.assert_array_equal(p.params[name], q.params[name])


def test_rod_and_its_points_hold_the_same_mass_on_the_same_line():
    (scene,) = bench.scenes("vortex", 1)
    (rod,), (points,) = scene.perturbers, bench.rods_as_points(scene).perturbers
    assert np.sum(points.params["theta_E"] ** 2) == pytest.approx(rod.params["theta_E"][0] ** 2)
    ends = [np.hypot(points.params["center_x"][k], points.params["center_y"][k]) for k in (0, -1)]
    np.testing.assert_allclose(ends, rod.params["half_length"][0] * 0.99)
    names, keywords = lens_keywords(bench.rods_as_points(scene))
    assert names == ["SIE", "SHEAR", *["POINT_MASS"] * bench.N_POINTS]
    assert len(keywords) == len(names)


def test_code_that_is_not_installed_is_left_out_by_name(monkeypatch):
    monkeypatch.setattr(speed, "find_spec", lambda name: None)
    error = speed._missing(speed.CODES["caustics"])
    assert "caustics is not installed" in str(error) and "extra `bench`" in str(error)
    assert speed._missing(speed.CODES["engine jax"]) is None


def test_code_that_dies_is_named():
    worker = speed.Worker("broken", {}, "pipeline.no_such_module")
    with pytest.raises(EngineError, match=r"broken stopped with exit code 1: .*no_such_module"):
        worker.line()
    worker.__exit__()


def test_refused_scene_has_no_numbers():
    refused = speed.Measured(speed.Case("smooth", 64, False), refusal="no such profile")
    assert math.isnan(speed._better([refused, refused]).ms_best)


def test_best_turn_counts_and_the_first_call_is_the_first():
    case = speed.Case("smooth", 64, False)
    first, second = speed.Measured(case, 2.0, 3.0, 5.0), speed.Measured(case, 1.0, 4.0, 0.0)
    assert speed._better([first, second]) == speed.Measured(case, 1.0, 4.0, 5.0)


@pytest.mark.slow
def test_writing_is_measured_against_making_memmap_and_hdf5():
    command = [sys.executable, "-m", "pipeline", "bench", "dataset", "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert {"name", "value", "unit", "ratio", "against"} == rows[0].keys()
    assert {row["against"] for row in rows} >= {"making the images", "memmap", "HDF5"}
    assert all(row["value"] > 0 for row in rows)


@pytest.mark.slow
def test_reading_is_measured_against_memmap_and_hdf5():
    command = [sys.executable, "-m", "pipeline", "bench", "load", "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    assert any(row["value"] > 20_000 for name, row in rows.items() if "dataset" in name)
    assert rows["open 10000 images"]["value"] < 1.0
    assert 0 <= rows["on the fly, contrast_hst, lens_hybrid: waiting"]["value"] <= 100
