"""Priors draw what they say, inside the support they claim, with one uniform a draw."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.core.config import StrictModel
from pipeline.core.priors import (
    Choice,
    Constant,
    LogUniform,
    Normal,
    TruncatedNormal,
    Uniform,
    narrowed,
    prior,
)
from pipeline.core.seeding import image_rng

N = 20_000
CASES = [
    (Uniform(low=-1.0, high=3.0), stats.uniform(-1.0, 4.0)),
    (LogUniform(low=0.1, high=10.0), stats.loguniform(0.1, 10.0)),
    (Normal(mean=2.0, sigma=0.3), stats.norm(2.0, 0.3)),
    (
        TruncatedNormal(mean=0.0, sigma=1.0, low=-0.5, high=2.0),
        stats.truncnorm(-0.5, 2.0),
    ),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_draws_follow_the_named_distribution(case: int) -> None:
    prior, truth = CASES[case]
    rng = image_rng(2, case)
    draws = np.array([prior.draw(rng) for _ in range(N)])
    assert stats.kstest(draws, truth.cdf).pvalue > 1e-3
    assert prior.std() == pytest.approx(truth.std(), rel=1e-3)
    assert prior.median() == pytest.approx(truth.median())


@pytest.mark.parametrize(
    "prior", [p for p, _ in CASES] + [Constant(value=2.0), Choice(values=(1.0, 2.0))]
)
def test_every_draw_uses_exactly_one_uniform(prior) -> None:
    """So that freezing or replacing one prior shifts no other draw of the scene."""
    one, other = image_rng(3, 5), image_rng(3, 5)
    prior.draw(one)
    other.random()
    assert one.random() == other.random()


@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("width", [0.01, 0.3, 1.0])
def test_a_narrowed_prior_keeps_its_median_and_its_support(case: int, width: float) -> None:
    prior, _ = CASES[case]
    less = prior.narrowed(width)
    assert less.median() == pytest.approx(prior.median())
    (low, high), (inner_low, inner_high) = prior.support(), less.support()
    assert low - 1e-12 <= inner_low < inner_high <= high + 1e-12
    if not isinstance(prior, LogUniform):
        assert less.std() == pytest.approx(width * prior.std())
    else:
        assert np.log(inner_high / inner_low) == pytest.approx(width * np.log(high / low))


def test_every_prior_of_a_block_is_narrowed() -> None:
    class Inner(StrictModel):
        size: prior("arcsec")
        name: str = "inner"

    class Outer(StrictModel):
        inner: Inner
        several: tuple[Inner, ...]
        none: Inner | None = None
        n: prior(None) = Constant(value=3.0)

    flat = {"kind": "uniform", "low": 0.0, "high": 2.0}
    block = Outer.model_validate({"inner": {"size": flat}, "several": ({"size": flat},)})
    less = narrowed(block, 0.5)
    assert less.inner.size == less.several[0].size == Uniform(low=0.5, high=1.5)
    assert (less.inner.name, less.none, less.n) == ("inner", None, Constant(value=3.0))
    assert block.inner.size == Uniform(low=0.0, high=2.0)


def test_choice_respects_weights() -> None:
    prior = Choice(values=(1.0, 2.0, 3.0), weights=(1.0, 0.0, 3.0))
    rng = image_rng(2, 0)
    draws = np.array([prior.draw(rng) for _ in range(N)])
    assert not (draws == 2.0).any()
    assert prior.median() == 3.0
    assert (draws == 3.0).mean() == pytest.approx(0.75, abs=5 * math.sqrt(0.75 * 0.25 / N))


@given(
    mean=st.floats(-5, 5),
    sigma=st.floats(0.01, 5),
    low=st.floats(-5, 4),
    width=st.floats(0.01, 5),
    index=st.integers(0, 10_000),
)
def test_truncated_normal_stays_inside(mean, sigma, low, width, index) -> None:
    prior = TruncatedNormal(mean=mean, sigma=sigma, low=low, high=low + width)
    assert low <= prior.draw(image_rng(0, index)) <= low + width
