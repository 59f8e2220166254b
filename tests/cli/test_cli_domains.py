"""Anomaly detection and adaptation through the real command: train, evaluate, score."""

import csv
import json
from pathlib import Path
from typing import Any

TRAINING = """\
model: {kind: lens_hybrid, channels: [8, 16], blocks: [0, 0], depth: 1, heads: 2}
epochs: 1
batch_size: 8
loggers: []
"""


def trained(deeplense: Any, data: Path, folder: Path, task: str) -> Path:
    (folder / "t.yaml").write_text(f"{TRAINING}task: {task}\n")
    run = folder / "run"
    done = deeplense(
        "train", folder / "t.yaml", "--data", data, "--out", run, "--device", "cpu", "--json"
    )
    assert done.returncode == 0, done.stderr
    return run


def test_anomaly_run_is_trained_judged_and_gives_its_column(
    deeplense: Any, data: Path, tmp_path: Path
) -> None:
    task = '{kind: anomaly, inliers: ["no"], method: vae, width: 4, latent: 4}'
    run = trained(deeplense, data, tmp_path, task)
    found = json.loads(deeplense("evaluate", run, "--data", data, "--json").stdout)
    assert set(found["auc"]) == {"all", "subhalo", "vortex"} == set(found["auc_interval"])
    text = deeplense("evaluate", run, "--data", data).stdout
    assert "auc_vortex" in text and "plain statistics" in text
    table = tmp_path / "scores.csv"
    done = deeplense("score", run, data, "--out", table, "--workers", "0", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    with table.open(newline="") as stream:
        lines = list(csv.DictReader(line for line in stream if not line.startswith("#")))
    assert len(lines) == 60 and all(line["anomaly"] and line["novelty"] for line in lines)
    assert "label" not in lines[0]


def test_adapted_run_is_judged_on_its_target_and_scores_classes(
    deeplense: Any, data: Path, tmp_path: Path
) -> None:
    task = f"{{kind: adaptation, method: coral, target: {data}}}"
    run = trained(deeplense, data, tmp_path, task)
    found = json.loads(deeplense("evaluate", run, "--data", data, "--json").stdout)
    assert {"accuracy", "macro_auc", "macro_auc_interval", "auc"} <= found.keys()
    table = tmp_path / "scores.csv"
    done = deeplense("score", run, data, "--out", table, "--workers", "0", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "p_vortex" in table.read_text().splitlines()[-61].split(",")


def test_task_that_names_no_target_is_refused_before_anything_is_written(
    deeplense: Any, data: Path, tmp_path: Path
) -> None:
    call = ["train", "adaptation", "--data", data, "--out", tmp_path / "run", "--device", "cpu"]
    done = deeplense(*call)
    assert done.returncode == 2 and "task.target: names no images" in done.stderr
    assert not (tmp_path / "run").exists()
    done = deeplense(*call, "--set", "task.target=nowhere.zarr")
    assert done.returncode == 1 and "nowhere.zarr" in done.stderr
