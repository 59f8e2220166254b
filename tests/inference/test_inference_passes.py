"""Passes of a network beside each other: the order and the answers of one after the other."""

import threading
import time

import numpy as np
import pytest
import torch

from pipeline.checkpoint.load import load_run
from pipeline.inference import passes
from pipeline.inference.ensemble import Ensemble
from pipeline.inference.passes import passes_at_once, side_by_side


@pytest.fixture
def three_cores(monkeypatch):
    monkeypatch.setattr(passes, "usable_cores", lambda: 3)


def test_groups_come_back_in_order_however_long_each_takes():
    def slow_first(group: int) -> int:
        time.sleep(0.05 / (1 + group))
        return group**2

    assert list(side_by_side(slow_first, range(9), 3)) == [(i, i**2) for i in range(9)]


def test_threads_run_at_once_and_no_more_groups_are_taken_than_they_can_work_on():
    both = threading.Barrier(2, timeout=20)
    taken = []

    def groups():
        for i in range(8):
            taken.append(i)
            yield i

    found = side_by_side(lambda _: both.wait() >= 0, groups(), 2)
    next(found)
    assert len(taken) <= 4  # two at work, one waiting, one given back
    assert all(ran for _, ran in found)
    assert taken == list(range(8))


def test_threads_of_torch_are_shared_out_and_given_back():
    before = torch.get_num_threads()
    seen = dict(side_by_side(lambda _: torch.get_num_threads(), range(4), before))
    assert set(seen.values()) == {1}
    assert torch.get_num_threads() == before


def test_an_error_in_a_pass_is_the_callers():
    def fails(group: int) -> int:
        if group == 2:
            raise ValueError("group 2")
        return group

    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="group 2"):
        list(side_by_side(fails, range(9), 3))
    assert torch.get_num_threads() == before


def test_scores_are_those_of_one_pass_after_the_other(run_folder):
    ensemble = Ensemble([load_run(run_folder)], symmetries=1, batch_size=8)
    rng = np.random.default_rng(4)
    groups = [rng.normal(0, 1, (8, 1, 64, 64)).astype(np.float32) for _ in range(5)]

    def score(group: np.ndarray) -> np.ndarray:
        return ensemble.predict(group).prediction.class_probability

    alone = [score(group) for group in groups]
    beside = [found for _, found in side_by_side(score, groups, 2)]
    np.testing.assert_array_equal(beside, alone)


def test_a_job_of_one_pass_keeps_all_threads_and_a_large_one_takes_a_core_a_pass(
    run_folder, three_cores
):
    ensemble = Ensemble([load_run(run_folder)], symmetries=1, batch_size=8)
    assert [passes_at_once(ensemble, n) for n in (0, 1, 8, 9, 16, 17, 10_000)] == [
        1, 1, 1, 2, 2, 3, 3,
    ]  # fmt: skip
