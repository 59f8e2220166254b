"""A study on disk: no trial is lost, none is done twice, whoever dies and whenever."""

import pytest

from pipeline.core.errors import TuningError
from pipeline.tuning.journal import JOURNAL_FILE
from pipeline.tuning.result import study_result
from pipeline.tuning.study import MAX_DEATHS, Study

SPACE = """\
parameters:
  optimiser.learning_rate: {kind: log_uniform, low: 1.0e-4, high: 3.0e-2}
  batch_size: [8, 16]
pruner: none
trials: 3
"""

LEARNING = """\
parameters:
  optimiser.learning_rate: {kind: log_uniform, low: 1.0e-4, high: 1.0e-1}
  batch_size: [8, 16, 32, 64]
  schedule.warmup: {kind: uniform, low: 0.0, high: 0.5}
n_startup: 3
trials: 6
"""


def work(study: Study, n: int = 1000) -> list[int]:
    """Tell ``n`` trials what they would have come to; numbers of those that were run."""
    done = []
    while len(done) < n:
        with study.claim() as claim:
            if claim is None:
                break
            study.finish(claim, 1.0 - abs(float(claim.chosen["optimiser.learning_rate"]) - 0.01))
            done.append(claim.number)
    return done


def table(study: Study) -> list[tuple]:
    return [(t.number, t.state.name, t.value, t.params) for t in study.trials()]


def test_two_workers_never_have_the_same_trial(make_study):
    one, two = make_study(), make_study()
    with one.claim() as a, two.claim() as b, one.claim() as c:
        assert (a.number, b.number, c.number) == (0, 1, 2)
        with two.claim() as d:
            assert d is None, "all three trials are in work"
        for claim, study in ((a, one), (b, two), (c, one)):
            study.finish(claim, 0.5)
    assert study_result(two).count("complete") == 3


def test_trial_of_a_worker_that_is_gone_is_taken_over_with_its_values(make_study):
    one, two = make_study(), make_study()
    with one.claim() as alive:
        with one.claim() as lost:
            pass  # its lock is gone, as after a kill, and it was not finished
        with two.claim() as claim:
            assert claim.resumed and claim.number == lost.number == 1
            assert claim.chosen == lost.chosen
            two.finish(claim, 0.5)
        one.finish(alive, 0.4)
    assert work(two) == [2]
    assert [t.state.name for t in one.trials()] == ["COMPLETE"] * 3


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_what_a_trial_tries_depends_on_those_before_alone(sampler, tmp_path, make_recipe):
    recipe = make_recipe(LEARNING, f"sampler={sampler}")

    def study(name: str) -> Study:
        return Study(tmp_path / name, recipe, "d", "macro_auc", True)

    work(study("whole"))
    for _ in range(3):
        work(study("parts"), 1)
        with study("parts").claim():
            pass  # killed after it was begun
        work(study("parts"), 1)
    assert table(study("parts")) == table(study("whole"))
    tried = {tuple(t.params.values()) for t in study("whole").trials()}
    assert len(tried) == 6


def test_grid_ends_by_itself_and_is_whole(make_study):
    text = "parameters:\n  epochs: [1, 2]\n  batch_size: [8, 16]\nsampler: grid\n"
    study = make_study(text)
    seen = []
    while True:
        with study.claim() as claim:
            if claim is None:
                break
            seen.append((claim.chosen["epochs"], claim.chosen["batch_size"]))
            study.finish(claim, 0.5)
    assert sorted(seen) == [("1", "16"), ("1", "8"), ("2", "16"), ("2", "8")]


def test_more_trials_and_another_sampler_are_the_same_study(make_study):
    assert work(make_study()) == [0, 1, 2]
    assert work(make_study(SPACE, "trials=5", "sampler=random", "pruner=halving")) == [3, 4]
    assert work(make_study()) == []


def test_torn_line_of_a_killed_writer_is_mended(make_study):
    study = make_study()
    work(study, 1)
    journal = study.out / JOURNAL_FILE
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"worker_i')
    again = make_study()
    assert len(again.trials()) == 1
    assert work(again) == [1, 2]
    assert journal.read_bytes().startswith(whole)
    assert len(make_study().trials()) == 3


def test_trial_that_kills_its_workers_ends_as_failed(make_study):
    study = make_study()
    for _ in range(MAX_DEATHS + 1):
        with study.claim() as claim:
            assert claim.number == 0
    with study.claim() as claim:
        assert claim.number == 1
        study.finish(claim, 0.5)
    failed = study_result(study).trials[0]
    assert failed.state == "failed" and "died 4 times" in failed.reason


def test_other_space_configuration_and_dataset_are_refused_by_name(make_study, tmp_path):
    study = make_study()
    work(study, 1)
    with pytest.raises(TuningError, match=r"search space .*\.high was 0\.03, is 0\.1.*another fol"):
        make_study(
            "parameters:\n"
            "  optimiser.learning_rate: {kind: log_uniform, low: 1.0e-4, high: 0.1}\n"
            "  batch_size: [8, 16]\n"
        )
    with pytest.raises(TuningError, match=r"another configuration \(epochs was 2, is 5\)"):
        make_study(overrides=("epochs=5",))
    with pytest.raises(TuningError, match=r"another dataset \(.*, here ffff\)"):
        Study(study.out, study.recipe, "ffff", "macro_auc", True)
    assert len(make_study().trials()) == 1


def test_folder_with_other_things_is_refused_and_left_alone(make_study, tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "thesis.tex").write_text("years of work")
    with pytest.raises(TuningError, match=r"found thesis\.tex"):
        make_study()
    assert [p.name for p in (tmp_path / "study").iterdir()] == ["thesis.tex"]


def test_importances_find_what_matters(make_study):
    study = make_study(LEARNING, "trials=24", "n_startup=24")
    work(study)
    found = study_result(study)
    assert next(iter(found.importances)) == "optimiser.learning_rate"
    assert sum(found.importances.values()) == pytest.approx(1.0)
    best = max(found.trials, key=lambda t: t.value)
    assert found.best == best == found.done[0]
