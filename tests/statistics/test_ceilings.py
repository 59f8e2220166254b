"""Ceilings against the reference numbers, and their errors against resampling."""

import json
from pathlib import Path

import numpy as np

from pipeline.statistics.ceilings import (
    accuracy_ceiling,
    auc_ceiling,
    auc_single,
    ceiling,
    one_vs_rest_ceiling,
)


def test_ceilings_meet_the_reference(shared: Path) -> None:
    data = json.loads((shared / "physics" / "vectors.json").read_text(encoding="utf-8"))
    entry = next(e for e in data["entries"] if e["name"] == "ceilings")
    d, out = np.array(entry["params"]["d"]), entry["out"]
    np.testing.assert_allclose(auc_single(d), out["auc_single"], rtol=entry["rtol"])
    np.testing.assert_allclose(auc_ceiling(d), out["auc_population"], rtol=entry["rtol"])
    np.testing.assert_allclose(accuracy_ceiling(d), out["accuracy"], rtol=entry["rtol"])


def test_nothing_to_see_means_chance() -> None:
    assert auc_ceiling(np.zeros(5)) == 0.5
    assert accuracy_ceiling(np.zeros(5)) == 0.5


def test_images_without_a_value_are_left_out() -> None:
    found = ceiling(("no", "vortex"), np.array([1.0, np.nan, 3.0]))
    assert found.n_images == 2
    assert found.auc == auc_ceiling(np.array([1.0, 3.0]))
    assert np.isnan(ceiling(("no", "vortex"), np.full(3, np.nan)).auc)


def test_errors_are_the_spread_over_samples() -> None:
    rng = np.random.default_rng(1)
    draws = [ceiling(("a", "b"), rng.gamma(2.0, 1.0, 200)) for _ in range(300)]
    for value, error in (("auc", "auc_error"), ("accuracy", "accuracy_error")):
        spread = np.std([getattr(c, value) for c in draws], ddof=1)
        stated = np.mean([getattr(c, error) for c in draws])
        assert abs(stated / spread - 1.0) < 4.0 / np.sqrt(2 * 299)


def test_blocks_of_rows_change_nothing() -> None:
    d = np.linspace(0.0, 4.0, 2500)
    pairs = np.sqrt(d[:, None] ** 2 + d**2)
    from scipy.special import ndtr

    np.testing.assert_allclose(auc_ceiling(d), ndtr(0.5 * pairs).mean(), rtol=1e-12)


def test_one_against_the_rest_is_the_weighted_mean_of_its_pairs() -> None:
    pairs = [
        ceiling(("no", "a"), np.full(3, 1.0)),
        ceiling(("no", "b"), np.full(3, 2.0)),
        ceiling(("a", "b"), np.full(3, 3.0)),
    ]
    found = one_vs_rest_ceiling(pairs, "a", {"no": 10, "a": 5, "b": 30})
    assert found == (10 * pairs[0].auc + 30 * pairs[2].auc) / 40
    assert np.isnan(one_vs_rest_ceiling(pairs, "c", {}))
