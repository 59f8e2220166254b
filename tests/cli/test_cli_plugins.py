"""A model and a task from a user's own folder, through the real command."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.plugins import VARIABLE

DOCS = Path(__file__).parents[2] / "docs" / "extending.md"


def printed(path: str) -> str:
    """A file as the documentation prints it."""
    text = DOCS.read_text(encoding="utf-8")
    found = re.search(rf"`{path}`:\n\n```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


MODEL, TASK = printed("mine/models/cells.py"), printed("mine/tasks/point.py")
TRAINING = """\
plugins: [mine]
model: {kind: cells, cells: 6}
task: {kind: point, targets: [theta_E, source_r_eff]}
epochs: 1
batch_size: 16
loggers: []
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and a task, beside a configuration that names it."""
    monkeypatch.setenv(VARIABLE, "")
    for family, name, text in (("models", "cells", MODEL), ("tasks", "point", TASK)):
        (tmp_path / "mine" / family).mkdir(parents=True)
        (tmp_path / "mine" / family / f"{name}.py").write_text(text)
    (tmp_path / "t.yaml").write_text(TRAINING)
    return tmp_path


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Forget the folders again, as a new process would."""
    return lambda: monkeypatch.setenv(VARIABLE, "")


def test_one_file_and_one_line_train_judge_and_score(
    deeplense: Any, data: Path, folder: Path, forget: Any
) -> None:
    run = folder / "run"
    call = ["train", folder / "t.yaml", "--data", data, "--out", run, "--device", "cpu"]
    done = deeplense(*call)
    assert done.returncode == 0, done.stderr
    spec = json.loads((run / "checkpoint.json").read_text())
    assert spec["model"]["cells"] == 6
    assert spec["task"]["targets"] == ["theta_E", "source_r_eff"]
    assert {"model:cells", "task:point"} <= spec["versions"].keys()
    forget()
    judged = deeplense("evaluate", run, "--data", data, "--plugins", folder / "mine", "--json")
    assert judged.returncode == 0, judged.stderr
    found = json.loads(judged.stdout)
    assert found["n"] > 0 and 0 < found["mae"] < 1
    scores = folder / "scores.csv"
    scored = deeplense("score", run, data, "--out", scores, "--plugins", folder / "mine")
    assert scored.returncode == 0, scored.stderr
    rows = list(csv.DictReader(scores.read_text().splitlines()))
    assert all(0 < float(row["theta_E"]) < 3 for row in rows)


def test_a_checkpoint_loads_no_code_by_itself(
    deeplense: Any, data: Path, folder: Path, forget: Any
) -> None:
    run = folder / "run"
    call = ["train", folder / "t.yaml", "--data", data, "--out", run, "--device", "cpu"]
    assert deeplense(*call).returncode == 0
    forget()
    planted = folder / "mine" / "models" / "cells.py"
    planted.write_text("raise SystemExit('the code of a checkpoint ran')")
    done = deeplense("evaluate", run, "--data", data)
    assert done.returncode == 1
    assert "'cells' is not a model kind" in done.stderr and "--plugins DIR" in done.stderr


def test_own_kinds_are_listed_with_their_parameters(deeplense: Any, folder: Path) -> None:
    done = deeplense("models", "cells", f"--plugins={folder / 'mine'}", "--json")
    (line,) = json.loads(done.stdout)
    assert line["summary"] == "Means of a grid of cells, and a layer on them."
    assert line["parameters"] == 8**2 * 64 + 64
    assert "point" in line["tasks"]


@pytest.mark.parametrize(
    ("family", "text", "said"),
    [
        ("models", "import nothing_of_this_name", "broken.py: cannot be loaded: ModuleNotFound"),
        ("models", "Config = 1", "model 'broken' (.*broken.py) has no 'image_sizes'"),
        ("models", "def (", "broken.py: cannot be loaded: SyntaxError"),
    ],
)
def test_a_faulty_file_is_named(
    deeplense: Any, folder: Path, family: str, text: str, said: str
) -> None:
    (folder / "mine" / family / "broken.py").write_text(text)
    done = deeplense("models", "broken", "--plugins", folder / "mine")
    assert done.returncode == 2
    for part in said.split("(.*"):
        assert part.strip() in done.stderr


def test_a_name_that_exists_and_a_folder_that_does_not_are_refused(
    deeplense: Any, folder: Path
) -> None:
    (folder / "mine" / "models" / "cvt.py").write_text(MODEL)
    twice = deeplense("models", "--plugins", folder / "mine")
    assert twice.returncode == 2 and "two model plug-ins are called 'cvt'" in twice.stderr
    nowhere = deeplense("models", "--plugins", folder / "nowhere")
    assert nowhere.returncode == 2 and "no such folder" in nowhere.stderr
    assert deeplense("models", "--plugins").returncode == 2


def test_variants_are_named_in_one_word(deeplense: Any, data: Path, tmp_path: Path) -> None:
    config = tmp_path / "t.yaml"
    config.write_text("model: {kind: cvt, variant: minni}\nepochs: 1\nloggers: []\n")
    call = ["train", config, "--data", data, "--out", tmp_path / "run"]
    done = deeplense(*call)
    assert done.returncode == 2 and "did you mean 'mini'" in done.stderr
    done = deeplense(*call, "--model", "vit_pytorch:simple_vt", "--device", "cpu")
    assert done.returncode == 2 and "did you mean 'simple_vit'" in done.stderr
    done = deeplense(*call, "--model", "timm:resnet19", "--device", "cpu")
    assert done.returncode == 2 and "did you mean 'resnet" in done.stderr
