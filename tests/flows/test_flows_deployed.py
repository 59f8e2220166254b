"""The flows under a real server and worker, driven by the README's own commands."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

NAMES = ("simulate", "train", "tune", "score", "simulate-and-train")


def _post(prefect: Any, route: str, body: dict[str, object]) -> list[dict[str, object]]:
    request = urllib.request.Request(
        f"{prefect.url}/{route}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30.0) as answer:
        found: list[dict[str, object]] = json.load(answer)
    return found


def test_every_flow_has_a_local_deployment(prefect: Any) -> None:
    done = prefect.call(["prefect", "deployment", "ls"])
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        assert f"{name}/local" in done.stdout


def test_readme_run_completes_and_leaves_a_whole_chain(prefect: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    small = ["--param", f"out={json.dumps(str(out))}", "--param", "images=120"]
    small += ["--param", "epochs=1", "--param", "workers=1", "--param", 'device="cpu"']
    done = prefect.call([*prefect.commands.run, *small], timeout=900.0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Completed" in done.stdout
    spec = json.loads((out / "run" / "checkpoint.json").read_text())
    data = json.loads((out / "data.zarr" / "zarr.json").read_text())["attributes"]
    assert spec["dataset_sha256"] == data["dataset_sha256"]
    assert spec["sha256"] in (out / "scores.ecsv").read_text()
    assert spec["sha256"] in (out / "report.html").read_text()
    artifacts = {a["key"]: a for a in _post(prefect, "artifacts/filter", {})}
    keys = {"simulate-progress", "train-progress", "score-progress", "contact-sheet", "dataset"}
    assert keys | {"metrics", "scores", "files"} <= artifacts.keys()
    assert artifacts["simulate-progress"]["data"] == 100.0
    assert "macro_auc" in str(artifacts["metrics"]["data"])


@pytest.mark.parametrize(
    "parameter", ["images=-5", 'images="many"', "pixels=3"], ids=["negative", "type", "unknown"]
)
def test_wrong_parameters_are_refused_before_a_run(prefect: Any, parameter: str) -> None:
    done = prefect.call(["prefect", "deployment", "run", "simulate/local", "--param", parameter])
    assert done.returncode != 0
    assert "Scheduled start time" not in done.stdout


def test_failing_flow_says_why_and_is_not_retried(prefect: Any, tmp_path: Path) -> None:
    out = json.dumps(str(tmp_path / "x.zarr"))
    command = ["prefect", "deployment", "run", "simulate/local", "--watch"]
    done = prefect.call([*command, "--param", 'preset="dmeo"', "--param", f"out={out}"])
    assert done.returncode == 1
    wanted = {"task_runs": {"name": {"like_": "simulate dmeo"}}}
    failed = _post(prefect, "task_runs/filter", wanted)
    assert [run["run_count"] for run in failed] == [1]
    assert "did you mean 'demo'?" in str(failed[0]["state"])
