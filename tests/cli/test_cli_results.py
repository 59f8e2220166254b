"""What each command answers: the promised fields as one JSON object, text otherwise."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.resources import sim_params


def _json(done: Any) -> Any:
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def test_presets_lists_and_prints(deeplense: Any) -> None:
    names = {path.stem for path in sim_params().glob("*.yaml")}
    listed = _json(deeplense("presets", "--json"))
    assert {line["name"] for line in listed} == names
    assert all(line["summary"] for line in listed)
    text = deeplense("presets", "demo").stdout
    assert "pixel_scale: 0.05  # arcsec" in text


def test_models_lists_and_shows_one(deeplense: Any) -> None:
    listed = {line["name"]: line for line in _json(deeplense("models", "--json"))}
    assert {"cvt", "lens_hybrid"} <= listed.keys()
    for line in listed.values():
        assert {"summary", "tasks", "parameters", "image_sizes", "variants"} <= line.keys()
        assert "classification" in line["tasks"]
        assert line["parameters"] > 1000 or line["name"] == "shortcut"
    assert 19_000_000 < listed["cvt"]["parameters"] < 20_000_000
    done = deeplense("models", "lens_hybrid")
    assert "model:\n  kind: lens_hybrid\n" in done.stdout


def test_simulate_answers_and_a_second_call_does_nothing(
    deeplense: Any, preset: Path, tmp_path: Path
) -> None:
    call = ("simulate", preset, "--out", tmp_path / "a.zarr", "--images", 12, "--workers", 1)
    first = _json(deeplense(*call, "--json"))
    fields = {"path", "images", "seconds", "images_per_second", "engine", "resumed"}
    assert fields | {"dataset_sha256"} <= first.keys()
    assert first["images"] == 12
    assert not first["resumed"]
    again = deeplense(*call)
    assert again.returncode == 0
    assert "nothing to do" in again.stderr
    assert first["dataset_sha256"] in again.stdout


def test_an_image_is_rebuilt_and_written(deeplense: Any, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.npz"
    call = ("simulate", "--rebuild", data, "--index", 5)
    found = _json(deeplense(*call, "--out", out, "--json"))
    assert found["identical"] is True
    assert found["index"] == 5
    assert out.is_file()
    assert "bit for bit" in deeplense(*call).stdout
    assert deeplense("simulate", "--rebuild", data).returncode == 2


def test_train_and_evaluate_answer(
    deeplense: Any, training: Path, data: Path, run_folder: Path
) -> None:
    call = ("train", training, "--data", data, "--out", run_folder, "--device", "cpu")
    trained = _json(deeplense(*call, "--json"))
    assert {"run", "seconds", "epochs", "best_metric", "metric"} <= trained.keys()
    assert trained["run"] == str(run_folder)
    found = _json(deeplense("evaluate", run_folder, "--data", data, "--json"))
    fields = {"n", "accuracy", "macro_auc", "auc", "macro_auc_interval", "ece"}
    assert fields <= found.keys()
    assert found["auc"].keys() == {"no", "subhalo", "vortex"}


def test_what_a_run_on_a_stream_tells_to_do_next_can_be_done(
    deeplense: Any,
    preset: Path,
    training: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    few = "online={images: 32, val_images: 16, test_images: 16}"
    call = ("train", training, "--data", preset, "--out", "run", "--set", few, "--device", "cpu")
    lines = deeplense(*call).stdout.partition("next: ")[2].splitlines()
    assert len(lines) == 2
    for line in lines:
        words = line.replace("20000", "60").split()
        assert words[0] == "deeplense"
        done = deeplense(*words[1:])
        assert done.returncode == 0, done.stderr
    assert "macro_auc" in done.stdout


def test_score_answers_and_strict_exits_3(deeplense: Any, run_folder: Path, tmp_path: Path) -> None:
    from astropy.io import fits

    images = tmp_path / "images"
    images.mkdir()
    fits.PrimaryHDU().writeto(images / "empty.fits")
    (images / "notes.txt").write_text("x")
    call = ("score", run_folder, images, "--out", tmp_path / "s.ecsv")
    found = _json(deeplense(*call, "--json"))
    fields = {
        "files",
        "rows",
        "scored",
        "rejected",
        "reasons",
        "seconds",
        "files_per_second",
        "out",
    }
    assert fields <= found.keys()
    assert (found["rejected"], found["reasons"]) == (1, {"no_image": 1})
    strict = deeplense(*call, "--strict")
    assert strict.returncode == 3
    assert "1 rejected (1 no_image)" in strict.stdout


def test_report_answers_with_its_path(deeplense: Any, run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    assert _json(deeplense("report", run_folder, "--out", out, "--json")) == {"report": str(out)}
    assert out.read_text().startswith("<!doctype html>")


@pytest.mark.slow
def test_doctor_answers(deeplense: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = _json(deeplense("doctor", "--json"))
    assert found["ok"]
    assert {check["name"] for check in found["checks"]} >= {"packages", "devices", "self-test"}
    assert all({"name", "ok", "detail"} <= check.keys() for check in found["checks"])


@pytest.mark.slow
def test_demo_answers_and_can_be_called_again(deeplense_process: Any, tmp_path: Path) -> None:
    call = ("demo", "--images", 120, "--epochs", 1, "--device", "cpu", "--out", tmp_path / "d")
    first = deeplense_process(*call)
    assert first.returncode == 0, first.stderr
    assert "deeplense score" in first.stdout
    for step in range(1, 6):
        assert f"[{step}/5]" in first.stderr
    found = _json(deeplense_process(*call, "--json"))
    fields = {"seconds", "images", "macro_auc", "accuracy", "scored", "rejected"}
    assert fields <= found.keys()
    for name in ("report", "run", "data", "scores"):
        assert Path(found[name]).exists()
