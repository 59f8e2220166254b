"""A comparison says which network is better, how sure that is, and what became of the others."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from pipeline.benchmark import trainings
from pipeline.benchmark.compare import Comparison, Reference, compare
from pipeline.benchmark.judge import Answers, Row, row_of, with_tests
from pipeline.benchmark.memory import peak_memory_mb
from pipeline.benchmark.published import published
from pipeline.benchmark.tables import write_tables
from pipeline.benchmark.trainings import plan_trainings
from pipeline.core.errors import ConfigError, UnknownKindError
from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.simulate import simulate_dataset
from pipeline.models.base import MODELS
from pipeline.training.config import TrainingConfig
from pipeline.training.run import run_training

LABELS = np.arange(600) % 3
TINY = {"kind": "lens_hybrid", "channels": (8, 16), "blocks": (0, 0), "depth": 1, "heads": 2}


def classifier(strength: float, seed: int) -> Answers:
    rng = np.random.default_rng(seed)
    score = rng.normal(size=(600, 3)) + strength * np.eye(3)[LABELS]
    p = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    return Answers(LABELS, p, None, None, None, 10.0, 500.0, 1000, 2000)


def estimator(spread: float, seed: int) -> Answers:
    error = np.abs(np.random.default_rng(seed).normal(0.0, spread, 400))
    inside = (np.ones(400), np.ones(400))
    return Answers(LABELS[:400], None, error, inside, 0.37, 10.0, 500.0, 1000, 2000)


def judged(models: dict[str, list[Answers]]) -> dict[str, Row]:
    rows = [row_of(name, found, [None] * len(found)) for name, found in models.items()]
    return {row.model: row for row in with_tests(rows, models)}


def test_better_classifier_is_told_from_worse_and_from_guessing():
    rows = judged(
        {
            "good": [classifier(2.0, s) for s in (1, 2)],
            "poor": [classifier(1.0, s) for s in (3, 4)],
            "none": [classifier(0.0, s) for s in (5, 6)],
        }
    )
    assert [rows[n].status for n in ("good", "poor", "none")] == ["ok", "ok", "chance"]
    assert "guessing" in rows["none"].reason
    assert rows["good"].p_delong is None and rows["good"].p_mcnemar is None
    assert rows["poor"].p_delong < 1e-3 and rows["poor"].p_mcnemar < 1e-3
    low, high = rows["good"].macro_auc_interval
    assert low < rows["good"].macro_auc < high and rows["good"].seeds == 2


def test_seeds_that_scatter_widen_the_interval_and_weaken_the_test():
    close = {"a": [classifier(1.5, 1)] * 2, "b": [classifier(1.2, 2)] * 2}
    apart = {
        "a": [classifier(1.5, 1), classifier(1.0, 3)],
        "b": [classifier(1.2, 2), classifier(0.7, 4)],
    }
    near, far = judged(close), judged(apart)
    assert near["a"].macro_auc_seed_std == 0.0 and far["a"].macro_auc_seed_std > 0.02
    assert np.ptp(far["a"].macro_auc_interval) > 1.2 * np.ptp(near["a"].macro_auc_interval)
    assert far["b"].p_delong > near["b"].p_delong


def test_estimators_are_compared_by_their_errors_on_the_same_images():
    shared = estimator(0.1, 1)
    twin = estimator(0.1, 1)
    rows = judged({"best": [shared], "twin": [twin], "poor": [estimator(0.5, 2)]})
    assert rows["twin"].p_mae == 1.0
    assert rows["poor"].p_mae < 1e-6 and rows["poor"].status == "chance"
    assert_allclose(rows["best"].mae_dex, shared.error.mean())


def test_tables_hold_every_row_and_escape_what_they_are_given(tmp_path):
    rows = (
        row_of("good", [classifier(2.0, 1)], [812.5]),
        Row("<bad>|model", "failed", "out of memory"),
    )
    bound = Reference("ceiling", "ceiling", "x.zarr", "d'", macro_auc=0.99)
    write_tables(Comparison(rows, (bound,), "x.zarr", "ab" * 32, "test", 600, tmp_path))
    with (tmp_path / "compare.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["status"] for line in lines] == ["ok", "failed"]
    assert float(lines[0]["macro_auc_interval_low"]) < float(lines[0]["macro_auc"])
    page = (tmp_path / "compare.html").read_text()
    assert "&lt;bad&gt;" in page and "<bad>" not in page and "no network exceeds this" in page
    text = (tmp_path / "compare.md").read_text()
    assert "<bad>\\|model" in text and "failed: out of memory" in text
    stored = json.loads((tmp_path / "compare.json").read_text())
    failed = {key: value for key, value in stored["rows"][1].items() if value is not None}
    expected = {"model": "<bad>|model", "status": "failed", "reason": "out of memory", "seeds": 0}
    assert failed == expected


def test_published_figures_are_theirs_and_have_a_source():
    known = published()
    assert all(figure.source in known.sources for figure in (*known.figures, *known.floors))
    swin = [f for f in known.figures if f.model == "Swin" and f.dataset == "legacy_model_ii"]
    assert_allclose(swin[0].macro_auc, 0.5, atol=0.01)  # it never left chance, and says so here


def test_plan_has_every_model_and_seed_and_knows_variants(tmp_path):
    plan = plan_trainings(
        ["lens_hybrid/mini", "cvt"], tmp_path, seeds=2, minutes=0.5, config=None, overrides=()
    )
    named = [(t.name, t.config.seed) for t in plan if t.name != "shortcut"]
    assert named == [("lens_hybrid/mini", 0), ("lens_hybrid/mini", 1), ("cvt", 0), ("cvt", 1)]
    assert plan[0].config.model.channels == (8, 16, 16)
    assert plan[2].config.optimiser.name == "adam"  # of the model's own preset
    assert {t.config.max_minutes for t in plan} == {0.5}
    assert len({t.run for t in plan}) == len(plan)


def test_all_of_a_variant_is_every_model_as_that_where_it_has_it(tmp_path):
    plan = plan_trainings(["all/mini"], tmp_path, seeds=1, minutes=0.5, config=None, overrides=())
    kinds = [training.name.partition("/")[0] for training in plan]
    assert sorted(kinds) == sorted(MODELS.kinds())
    assert {"cvt/mini", "efficientnet_b0", "shortcut"} <= {training.name for training in plan}


@pytest.mark.parametrize(
    ("models", "error", "message"),
    [
        (["all/hugest"], UnknownKindError, "no model has a variant 'hugest'"),
        (["lens_hybrd"], UnknownKindError, "did you mean 'lens_hybrid'"),
        (["lens_hybrid/huge"], ConfigError, "no variant 'huge'; known: .*mini"),
    ],
)
def test_unknown_model_or_variant_is_refused_before_anything_is_trained(
    tmp_path, models, error, message
):
    with pytest.raises(error, match=message):
        compare([], out=tmp_path, preset="demo", models=models)
    assert not list(tmp_path.iterdir())


def test_nothing_to_compare_or_no_images_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="nothing to compare"):
        compare([], out=tmp_path, preset="demo")
    with pytest.raises(ConfigError, match="either --data"):
        compare([], out=tmp_path, models=["cvt"])


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("compare") / "tiny.zarr"
    sizes = ["n_images=96", "shard_size=32", "n_pix=32", "supersample=1"]
    split = ["splits.train=0.5", "splits.val=0.2", "splits.test=0.3"]
    simulate_dataset(load_dataset_config("demo", sizes + split), path, workers=1)
    return path


def test_runs_that_differ_by_the_seed_share_a_row_and_a_broken_one_is_a_row(data, tmp_path):
    recipe = {"model": TINY, "epochs": 1, "batch_size": 16, "loggers": ()}
    for seed in (0, 1):
        config = TrainingConfig.model_validate({**recipe, "seed": seed})
        run_training(config, data, tmp_path / f"run{seed}", device="cpu")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "checkpoint.json").write_text("{}")
    runs = [tmp_path / "run0", tmp_path / "run1", broken]
    found = compare(runs, out=tmp_path / "out", data=data, device="cpu")
    assert [(row.model, row.seeds) for row in found.rows] == [("lens_hybrid", 2), ("broken", 0)]
    assert found.rows[0].flops > 0 and found.rows[0].images_per_second > 0
    assert found.rows[1].status == "failed" and "not a deeplense checkpoint" in found.rows[1].reason
    assert {reference.kind for reference in found.references} == {"floor", "published"}


def test_memory_is_that_of_the_training_and_not_of_who_started_it(tmp_path: Path) -> None:
    before = peak_memory_mb()
    if before is None:
        pytest.skip("this system does not tell the memory of a process")
    held = np.ones(80 * 2**20)  # 640 MB
    outcome = trainings._run([sys.executable, "-c", "import time; time.sleep(0.5)"], tmp_path / "a")
    assert held.sum() and peak_memory_mb() > 640
    assert outcome.reason == "" and 3 < outcome.memory_mb < 200
    ends = "import os, time; time.sleep(0.5); os.kill(os.getpid(), 9)"
    outcome = trainings._run([sys.executable, "-c", ends], tmp_path / "b")
    said = r"killed by signal 9 with \d+ MB in use; if memory ran out, lower batch_size \(see b\)"
    assert re.fullmatch(said, outcome.reason)
    refuses = "raise SystemExit('deeplense: no')"
    assert trainings._run([sys.executable, "-c", refuses], tmp_path / "c").reason == "no"


@pytest.mark.slow
def test_models_are_trained_once_and_a_failing_one_does_not_end_the_rest(data, tmp_path):
    # vit takes multiples of its patch: 8 divides 32, 5 does not
    command = [sys.executable, "-m", "pipeline", "compare", "--models", "vit", "--models",
               "lens_hybrid/mini", "--data", str(data), "--out", str(tmp_path), "--json",
               "--device", "cpu", "--config", "demo", "--set", "epochs=1", "--set",
               "batch_size=16"]  # fmt: skip
    bad = tmp_path / "runs" / "vit-seed0"
    bad.mkdir(parents=True)
    (bad / "thesis.tex").write_text("years of work")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = {row["model"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["vit"]["status"] == "failed" and "thesis.tex" in rows["vit"]["reason"]
    assert rows["lens_hybrid/mini"]["status"] in ("ok", "chance")
    assert rows["lens_hybrid/mini"]["memory_mb"] > 50
    weights = tmp_path / "runs" / "lens_hybrid-mini-seed0" / "last" / "state.pt"
    before = weights.stat().st_mtime_ns
    (bad / "thesis.tex").unlink()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = {row["model"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["vit"]["status"] in ("ok", "chance")
    assert weights.stat().st_mtime_ns == before
    assert (bad / "weights.safetensors").is_file()
