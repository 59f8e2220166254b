"""Posteriors are distributions: their parts agree, and calibration makes them cover the truth."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from pipeline.statistics.regression import CENTRAL, covered
from pipeline.tasks._posterior import KNOTS, Binned, Gaussian, Quantiles
from pipeline.tasks._regression import Regression
from pipeline.tasks.base import Outputs, TargetTransform
from pipeline.tasks.regression import Config

EDGES = np.linspace(-2.0, 2.0, 33)
SHAPES = {"gaussian": Gaussian(), "binned": Binned(EDGES), "quantile": Quantiles()}


def values_of(shape, seed: int, n: int = 20):
    return np.random.default_rng(seed).normal(size=(n, shape.n_outputs))


@pytest.mark.parametrize("name", SHAPES)
@given(seed=st.integers(0, 2**31), p=st.floats(0.02, 0.98), scale=st.floats(0.3, 3.0))
def test_distribution_function_and_quantile_are_inverse(name, seed, p, scale):
    shape = SHAPES[name]
    values = values_of(shape, seed)
    assert_allclose(shape.cdf(values, shape.quantile(values, p, scale), scale), p, atol=1e-6)


@pytest.mark.parametrize("name", SHAPES)
def test_moments_are_those_of_the_distribution(name):
    shape, values = SHAPES[name], values_of(SHAPES[name], 1, 4)
    p = (np.arange(20_000) + 0.5) / 20_000
    drawn = np.stack([shape.quantile(values, float(q), 1.3) for q in p[::10]])
    mean, std = shape.moments(values, 1.3)
    assert_allclose(drawn.mean(axis=0), mean, atol=0.01)
    assert_allclose(drawn.std(axis=0), std, rtol=0.01)


@pytest.mark.parametrize("name", ["gaussian", "binned"])
def test_density_integrates_to_one(name):
    shape = SHAPES[name]
    values = np.repeat(values_of(shape, 2, 1) * 0.5, 4001, axis=0)
    z = np.linspace(-12, 12, 4001) if name == "gaussian" else np.linspace(-1.999, 1.999, 4001)
    density = np.exp(-shape.cost(values, z, 1.2))
    assert_allclose(np.trapezoid(density, z), 1.0, atol=3e-3)


@pytest.mark.parametrize("name", SHAPES)
def test_training_loss_is_lowest_at_the_true_posterior(name):
    shape = SHAPES[name]
    z = torch.from_numpy(np.random.default_rng(3).normal(0.3, 0.4, 4000)).float()
    outputs = torch.zeros(shape.n_outputs, requires_grad=True)
    optimiser = torch.optim.Adam([outputs], lr=0.05)
    for _ in range(400):
        loss = shape.loss(outputs.expand(len(z), -1), z).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    values = outputs.detach().double().numpy()[None]
    found = [shape.quantile(values, p, 1.0)[0] for p in (0.05, 0.16, 0.5, 0.84, 0.95)]
    expected = np.quantile(z.numpy(), [0.05, 0.16, 0.5, 0.84, 0.95])
    assert_allclose(found, expected, atol=0.05)


def test_quantile_head_starts_as_a_standard_normal_and_never_crosses():
    shape = Quantiles()
    start = [shape.quantile(np.zeros((1, shape.n_outputs)), float(p), 1.0)[0] for p in KNOTS]
    assert_allclose(start, [-2.326, -1.96, -1.645, -1.282, -0.994, -0.524, 0.0, 0.524, 0.994,
                            1.282, 1.645, 1.96, 2.326], atol=1e-3)  # fmt: skip
    wild = values_of(shape, 4, 50) * 20
    assert (np.diff([shape.quantile(wild, float(p), 1.0) for p in KNOTS], axis=0) >= 0).all()


def target(prior) -> TargetTransform:
    known = np.asarray(prior, float)
    return TargetTransform(
        name="axion_mass", unit="eV", function="log10",
        mean=known.mean(), std=known.std(), prior=tuple(known.tolist()),
    )  # fmt: skip


@pytest.mark.parametrize("head", ["gaussian", "binned", "quantile"])
def test_calibrated_intervals_hold_the_truth_as_often_as_they_say(head):
    """A network that claims twice the precision it has, and is off by a third of it."""
    rng = np.random.default_rng(8)
    built = Regression(Config(head=head), 4, (target(np.linspace(-24, -22, 65)),))
    shape, transform = built.shapes[0], built.targets[0]
    n = 6000
    log_mass = rng.uniform(-24, -22, n)
    seen = transform.forward(10.0 ** (log_mass + rng.normal(0.1, 0.3, n)))
    claimed = 0.15 / transform.std
    if head == "gaussian":
        values = np.stack([seen, np.full(n, np.log(claimed))], axis=1)
    elif head == "binned":
        middle = 0.5 * (shape.edges[1:] + shape.edges[:-1])
        values = -0.5 * ((middle - seen[:, None]) / claimed) ** 2
    else:
        steps = np.log(np.expm1(claimed)) - np.log(np.e - 1.0)
        values = np.column_stack([seen, np.full((n, len(KNOTS) - 1), steps)])
    made = Outputs(values, np.zeros(n, np.int64), 10.0 ** log_mass[:, None], np.arange(n))
    half = [
        Outputs(values[part], made.labels[part], made.targets[part], made.index[part])
        for part in (slice(None, n // 2), slice(n // 2, None))
    ]
    raw = built.metrics(half[1], built.uncalibrated)
    found = built.metrics(half[1], built.calibrate(half[0]))
    assert raw["coverage_68"] < 0.5
    for central in CENTRAL:  # four standard errors of two times 3000 binomial trials
        share = central / 100
        assert abs(found[f"coverage_{central}"] - share) < 4 * np.sqrt(
            2 * share * (1 - share) / 3000
        )
    answer = built.answer(half[1].values, built.calibrate(half[0]))
    assert (np.diff(answer.target_quantile, axis=-1) >= 0).all()
    inside = covered(log_mass[n // 2 :], answer.target_quantile[:, 0], 68)
    assert_allclose(inside.mean(), found["coverage_68"])


def test_bins_hold_equally_many_training_values_and_have_a_width_where_values_repeat():
    skewed = np.quantile(np.random.default_rng(0).exponential(size=4000), np.linspace(0, 1, 65))
    edges = Regression(Config(n_bins=16), 4, (target(skewed),)).shapes[0].edges
    z = (skewed - skewed.mean()) / skewed.std()
    share = np.interp(edges[1:-1], z, np.linspace(0, 1, 65))
    assert_allclose(share, np.arange(1, 16) / 16, atol=0.02)
    repeated = np.r_[np.full(40, -23.0), np.linspace(-23.0, -22.0, 25)]
    edges = Regression(Config(n_bins=16), 4, (target(repeated),)).shapes[0].edges
    assert (np.diff(edges) > 0).all()
