"""``deeplense tune``: trials are ordinary runs, the best becomes YAML, a page tells the story."""

import csv
import json
import pickle
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.checkpoint.load import load_run
from pipeline.core.errors import ConfigError
from pipeline.training.config import load_training_config
from pipeline.training.run import run_training
from pipeline.training.state import read_state
from pipeline.tuning.worker import open_study, run_trials
from pipeline.workflow.tune import Search, summarise, trials_left, tune_one

SPACE = """\
parameters:
  optimiser.learning_rate: {kind: log_uniform, low: 1.0e-4, high: 3.0e-2}
  batch_size: [8, 16]
"""


class Killed(BaseException):
    """Not an Exception: nothing in the code may catch it."""


def weights(run: Path) -> bytes:
    return (run / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory, make_files):
    """An unbroken study of three trials, and how the command answered."""
    folder = tmp_path_factory.mktemp("whole")
    config, space = make_files(folder)
    from pipeline.cli import main as cli

    call = ["tune", config, "--space", space, "--data", data, "--out", folder / "s"]
    assert cli.run([*map(str, call), "--device", "cpu"]) == 0
    return folder, [str(word) for word in call]


def test_answer_has_the_promised_fields_and_a_second_call_trains_nothing(whole, deeplense):
    folder, call = whole
    before = {p: p.stat().st_mtime_ns for p in (folder / "s" / "trials").rglob("*")}
    code, out, err = deeplense(*call, "--device", "cpu", "--json")
    found = json.loads(out)
    assert code == 0 and out.count("\n") == 1 and "trial" not in err
    assert (found["trials"], found["complete"], found["wanted"]) == (3, 3, 3)
    assert found["pruned"] == found["failed"] == found["running"] == 0
    assert found["metric"] == "macro_auc" and 0.0 < found["best_value"] <= 1.0
    assert found["best_parameters"].keys() == {"optimiser.learning_rate", "batch_size"}
    assert load_run(Path(found["best_run"])).spec.metrics["macro_auc"] == found["best_value"]
    assert before == {p: p.stat().st_mtime_ns for p in (folder / "s" / "trials").rglob("*")}


def test_every_trial_is_the_run_that_train_makes(whole, data, tmp_path):
    folder, _ = whole
    for run in sorted((folder / "s" / "trials").iterdir()):
        summary = run_training(load_training_config(run / "config.yaml"), data, run, "cpu")
        assert summary.already_done
    run_training(load_training_config(run / "config.yaml"), data, tmp_path / "again", "cpu")
    assert weights(run) == weights(tmp_path / "again")


def test_best_configuration_is_that_of_the_best_trial(whole, deeplense, data, tmp_path):
    folder, _ = whole
    with (folder / "s" / "trials.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    best = max(rows, key=lambda row: float(row["macro_auc"]))
    config = load_training_config(folder / "s" / "best.yaml")
    assert config.optimiser.learning_rate == float(best["optimiser.learning_rate"])
    assert config.batch_size == int(best["batch_size"])
    call = ("train", folder / "s" / "best.yaml", "--data", data, "--out", tmp_path / "r")
    code, _, err = deeplense(*call, "--device", "cpu")
    assert code == 0, err
    trial = folder / "s" / "trials" / f"{int(best['trial']):04d}"
    assert weights(tmp_path / "r") == weights(trial)


def test_page_is_one_file_with_history_importances_and_parallel_coordinates(whole):
    folder, _ = whole
    page = (folder / "s" / "study.html").read_text()
    assert page.count("<svg") == 4
    for label in ("Metric of every trial", "Importance of every", "Every complete trial as a line"):
        assert f'aria-label="{label}' in page
    assert "deeplense evaluate" in page and "learning_rate" in page
    assert not re.search(r'(src|href)="(?!#|data:)', page) and "<script" not in page


def test_tasks_of_a_cluster_share_a_study_one_trial_each(data, make_files, tmp_path):
    """Threads stand for a worker's; what a task gets travels as bytes."""
    config, space = make_files(tmp_path)
    search = Search(str(config), str(space), data, tmp_path / "s", ("epochs=1",), device="cpu")
    assert trials_left(search) == 3
    with ThreadPoolExecutor(2) as pool:
        sent = [pickle.loads(pickle.dumps(search)) for _ in range(4)]  # noqa: S301 - our own
        assert sorted(pool.map(tune_one, sent)) == [0, 1, 1, 1]
    assert trials_left(search) == 0
    found = summarise(search)
    assert (found.complete, found.running) == (3, 0)


@pytest.mark.parametrize("n_saves", [2, 6])
def test_killed_and_resumed_study_equals_an_unbroken_one(
    n_saves, whole, data, make_recipe, tmp_path, monkeypatch
):
    """One save at the start of a training and one after each of its two epochs."""
    import pipeline.training.run as run

    folder, _ = whole
    recipe, left, save = make_recipe(), [n_saves], run.save_state

    def save_or_die(*arguments):
        save(*arguments)
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run, "save_state", save_or_die)
        with pytest.raises(Killed):
            run_trials(open_study(recipe, data, tmp_path / "s"), data, "cpu")
    study = open_study(recipe, data, tmp_path / "s")
    n_before = sum(t.state.is_finished() for t in study.trials())
    assert run_trials(study, data, "cpu") == 3 - n_before
    unbroken = open_study(recipe, data, folder / "s")
    for one, two in zip(study.trials(), unbroken.trials(), strict=True):
        assert (one.params, one.value) == (two.params, two.value)
        assert one.intermediate_values == two.intermediate_values
        name = f"{one.number:04d}"
        assert weights(tmp_path / "s/trials" / name) == weights(folder / "s/trials" / name)


def test_trial_that_falls_behind_is_ended_early_and_can_be_trained_on(data, make_recipe, tmp_path):
    changes = ("pruner=median", "n_startup=1", "trials=2")
    study = open_study(make_recipe(SPACE, *changes, overrides=("epochs=3",)), data, tmp_path / "s")
    with study.claim() as perfect:
        for epoch in (1, 2, 3):
            study.report(perfect, epoch, 1.0)
        study.finish(perfect, 1.0)
    assert run_trials(study, data, "cpu") == 1
    _, behind = study.trials()
    assert behind.state.name == "PRUNED"
    assert sorted(behind.intermediate_values) == [1, 2]
    run = tmp_path / "s" / "trials" / "0001"
    assert not read_state(run)["position"]["finished"]
    summary = run_training(load_training_config(run / "config.yaml"), data, run, "cpu")
    assert summary.resumed and summary.epochs == 3


def test_trial_that_cannot_be_trained_says_why_and_the_others_go_on(data, make_recipe, tmp_path):
    text = "parameters:\n  model: [{kind: vit, patch: 5, fit: exact}, {kind: vit, patch: 8, dim: 16"
    recipe = make_recipe(text + ", depth: 1, heads: 2}]\nsampler: grid\n", overrides=("epochs=1",))
    study = open_study(recipe, data, tmp_path / "s")
    assert run_trials(study, data, "cpu") == 2
    bad, good = study.trials()
    assert (bad.state.name, good.state.name) == ("FAIL", "COMPLETE")
    assert "multiples of 5" in bad.user_attrs["reason"]


def test_trials_that_could_not_be_compared_are_refused(data, make_recipe, tmp_path):
    recipe = make_recipe("parameters:\n  task: [classification, regression]\n")
    with pytest.raises(ConfigError, match=r"by 'macro_auc' and by 'mae_dex'.*one task at a time"):
        open_study(recipe, data, tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--space", "recpie"], "did you mean 'recipe'?"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--trials", "0"], "trials: input should be greater than 0"),
        (["--set", "epochz=1"], "did you mean 'epochs'?"),
    ],
)
def test_wrong_use_is_refused_with_exit_code_2(arguments, message, deeplense, data, tmp_path):
    code, out, err = deeplense("tune", "demo", "--data", data, "--out", tmp_path / "s", *arguments)
    assert code == 2 and out == "" and message in err
    assert not (tmp_path / "s").exists()


def test_sweep_file_says_the_same_and_its_command_trains(
    deeplense, data, make_files, tmp_path, environment
):
    """The agent's part is played as its documentation tells: macros replaced, a run id set."""
    from ruamel.yaml import YAML

    config, space = make_files(tmp_path)
    more = "sampler: gp\nparameters:\n  ema: [null, 0.9]\n"
    text = space.read_text().replace("parameters:\n", more)
    space.write_text(text.replace("low: 1.0e-4", "low: 1.0e-5"))
    call = ("tune", config, "--space", space, "--data", data, "--out", tmp_path / "runs")
    code, out, err = deeplense(*call, "--export-sweep", tmp_path / "sweep.yaml", "--json")
    assert code == 0, err
    assert json.loads(out) == {"sweep": str(tmp_path / "sweep.yaml")}
    assert not (tmp_path / "runs").exists()
    reader = YAML(typ="safe", pure=True)
    reader.version = (1, 1)
    sweep = reader.load((tmp_path / "sweep.yaml").read_text())
    assert sweep["method"] == "bayes" and sweep["run_cap"] == 3
    assert sweep["metric"] == {"name": "val_macro_auc", "goal": "maximize"}
    assert sweep["parameters"] == {
        "ema": {"values": ["null", 0.9]},
        "optimiser.learning_rate": {"distribution": "log_uniform_values", "min": 1e-5, "max": 0.03},
        "batch_size": {"values": [8, 16]},
    }
    drawn = {"ema": "null", "optimiser.learning_rate": 2e-05, "batch_size": 8}
    macros = {
        "${env}": ["/usr/bin/env"],
        "${args_no_hyphens}": [f"{key}={value}" for key, value in drawn.items()],
    }
    command = [word for part in sweep["command"] for word in macros.get(part, [part])]
    stub = tmp_path / "bin" / "deeplense"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$WANDB_MODE" "$@"\n')
    stub.chmod(0o755)
    path = f"{stub.parent}:{environment['PATH']}"
    done = subprocess.run(
        command, env={**environment, "PATH": path, "WANDB_RUN_ID": "abc"}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    mode, *words = done.stdout.splitlines()
    assert mode == "online"
    words[words.index("wandb")] = "tensorboard"
    code, _, err = deeplense(*words, "--set", "epochs=1", "--set", "loggers=[]")
    assert code == 0, err
    made = load_training_config(tmp_path / "runs" / "abc" / "config.yaml")
    assert (made.ema, made.optimiser.learning_rate, made.batch_size) == (None, 2e-5, 8)
