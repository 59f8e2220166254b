"""d' against the reference numbers, the dense covariance and simulated decisions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.detectability.dprime import d_prime, d_prior, d_raw, d_refit
from pipeline.statistics.ceilings import auc_ceiling, auc_single


def vector(shared: Path, name: str) -> Any:
    entries = json.loads((shared / "physics" / "vectors.json").read_text(encoding="utf-8"))
    return next(e for e in entries["entries"] if e["name"] == name)


def problem(seed: int, n: int = 40, k: int = 5) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    jacobian = rng.normal(size=(3, n, k)) * 10.0 ** rng.uniform(-3, 3, k)
    widths = 10.0 ** rng.uniform(-3, 1, k) * (rng.random(k) < 0.8)
    return rng.normal(size=(3, n)), rng.uniform(0.5, 2.0, (3, n)), jacobian, widths


def test_small_case_meets_the_reference(shared: Path) -> None:
    entry = vector(shared, "d_prime_small")
    p = {name: np.array(value) for name, value in entry["params"].items()}
    delta, sigma, jacobian = p["delta"], p["sigma"], p["jac"]
    sigma = np.broadcast_to(sigma, delta.shape)
    tolerance = {"rtol": entry["rtol"], "atol": entry["atol"]}
    out = entry["out"]
    np.testing.assert_allclose(d_raw(delta, sigma), out["raw"], **tolerance)
    widths = p["prior_sigma"]
    np.testing.assert_allclose(d_prior(delta, sigma, jacobian, widths), out["prior"], **tolerance)
    np.testing.assert_allclose(d_refit(delta, sigma, jacobian), out["refit"], **tolerance)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_more_freedom_never_makes_substructure_stand_out_more(seed: int) -> None:
    delta, sigma, jacobian, widths = problem(seed)
    raw = d_raw(delta, sigma)
    prior = d_prior(delta, sigma, jacobian, widths)
    refit = d_refit(delta, sigma, jacobian)
    assert np.all(raw * (1 + 1e-12) >= prior)
    assert np.all(prior * (1 + 1e-12) >= refit)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_prior_value_is_that_of_the_dense_covariance(seed: int) -> None:
    delta, sigma, jacobian, widths = problem(seed, n=20)
    spread = jacobian * np.minimum(widths, 1e2 / np.abs(jacobian).max(axis=(0, 1)))
    narrow = np.minimum(widths, 1e2 / np.abs(jacobian).max(axis=(0, 1)))
    covariance = spread @ spread.swapaxes(-1, -2) + sigma[..., None] ** 2 * np.eye(20)
    dense = np.einsum("bi,bi->b", delta, np.linalg.solve(covariance, delta[..., None])[..., 0])
    found = d_prior(delta, sigma, jacobian, narrow)
    np.testing.assert_allclose(found**2, dense, rtol=1e-6)


def test_what_a_nuisance_does_cannot_be_told_from_it() -> None:
    _, sigma, jacobian, _ = problem(1)
    for column in np.moveaxis(jacobian, -1, 0):
        assert np.all(d_refit(column, sigma, jacobian) < 1e-6 * d_raw(column, sigma))


def test_a_useless_or_doubled_nuisance_changes_nothing() -> None:
    delta, sigma, jacobian, widths = problem(2)
    before = d_prime(delta[:, None], sigma, jacobian, widths)
    extra = np.concatenate([jacobian, jacobian[..., :1], 0.0 * jacobian[..., :1]], axis=-1)
    after = d_prime(delta[:, None], sigma, extra, np.append(widths, [0.0, 1.0]))
    np.testing.assert_allclose(after.refit, before.refit, rtol=1e-9)
    np.testing.assert_allclose(after.prior, before.prior, rtol=1e-9)


def test_without_nuisances_all_three_agree() -> None:
    delta, sigma, _, _ = problem(3)
    found = d_prime(delta[:, None], sigma, np.zeros((3, 40, 0)), np.zeros(0))
    np.testing.assert_allclose(found.prior, found.raw)
    np.testing.assert_allclose(found.refit, found.raw)


def test_optimal_scores_of_the_linear_model_reach_the_ceiling() -> None:
    # The observer knows delta and draws the nuisances from their priors: y ~ N(0 or delta, C).
    delta, sigma, jacobian, _ = problem(4, n=12, k=3)
    delta, sigma, jacobian = 0.4 * delta[0], sigma[0], jacobian[0]
    widths = 0.5 / np.linalg.norm(jacobian, axis=0)
    d = float(d_prior(delta, sigma, jacobian, widths))
    spread = jacobian * widths
    weights = np.linalg.solve(spread @ spread.T + np.diag(sigma**2), delta)
    rng = np.random.default_rng(5)
    n = 100_000
    noise = rng.normal(size=(2, n, 12)) * sigma + rng.normal(size=(2, n, 3)) @ spread.T
    without, with_it = noise[0] @ weights, (noise[1] + delta) @ weights
    auc = np.mean(np.searchsorted(np.sort(without), with_it)) / n
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    error = np.sqrt((auc * (1 - auc) + n * (q1 - auc**2) + n * (q2 - auc**2)) / n**2)
    assert 0.6 < auc_ceiling(np.array([d])) < 0.999
    assert auc == pytest.approx(auc_ceiling(np.array([d])), abs=3 * error)


def test_population_optimum_stays_below_the_ceiling_but_above_the_single_one() -> None:
    # d ~ U(0, 3): the best score is the log likelihood ratio, whose spread differs by image.
    rng = np.random.default_rng(6)
    n = 100_000
    d = rng.uniform(0.0, 3.0, (2, n))
    score = rng.normal(size=(2, n)) * d + np.array([[-0.5], [0.5]]) * d**2
    auc = np.mean(np.searchsorted(np.sort(score[0]), score[1])) / n
    bound = auc_ceiling(np.linspace(0.0, 3.0, 2001))
    assert auc == pytest.approx(bound, abs=3 * 0.5 / np.sqrt(n) * 1.2)
    assert auc > float(auc_single(np.linspace(0.0, 3.0, 2001)).mean()) + 0.02
    assert bound == pytest.approx(0.85, abs=0.01)
