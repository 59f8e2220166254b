"""The contract every task keeps, and what each one promises by itself."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from pipeline.core.errors import ConfigError
from pipeline.tasks.base import (
    TASKS,
    Outputs,
    TargetTransform,
    build_task,
    fit_target,
)

CLASSES = ("no", "subhalo", "vortex")
TARGET = TargetTransform(name="axion_mass", unit="eV", function="log10", mean=-23.0, std=0.4)


def task(kind: str):
    config = TASKS.config(kind)
    targets = (TARGET,) if config.targets else ()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_task(config, 8, CLASSES, targets)


def outputs(kind: str, n: int = 60) -> Outputs:
    rng = np.random.default_rng(3)
    features = torch.from_numpy(rng.normal(size=(n, 8)).astype(np.float32))
    with torch.inference_mode():
        values = task(kind).head(features).double().numpy()
    mass = 10.0 ** rng.uniform(-23.75, -22.25, size=(n, 1))
    mass[np.arange(n) % 3 != 2] = np.nan
    return Outputs(values, np.arange(n) % 3, mass, np.arange(n))


@pytest.mark.parametrize("kind", TASKS.kinds())
def test_loss_is_a_finite_scalar_that_moves_the_head(kind):
    built, made = task(kind), outputs(kind)
    features = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    loss = built.loss(
        built.head(features),
        torch.from_numpy(made.labels),
        torch.from_numpy(made.targets if TASKS.config(kind).targets else np.empty((60, 0))).float(),
    )
    loss.backward()
    assert loss.shape == () and torch.isfinite(loss)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in built.head.parameters())


@pytest.mark.parametrize("kind", TASKS.kinds())
def test_answer_and_metrics_are_finite_and_hold_what_is_monitored(kind):
    built, made = task(kind), outputs(kind)
    calibration = built.calibrate(made)
    answer = built.answer(made.values, calibration)
    filled = [a for a in (answer.class_probability, answer.target_mean) if a is not None]
    assert filled and all(np.isfinite(a).all() and len(a) == 60 for a in filled)
    for numbers in (calibration, built.uncalibrated):
        assert np.isfinite(built.metrics(made, numbers)[built.monitor])


def test_class_probabilities_sum_to_one_and_keep_the_networks_ranking():
    made = outputs("classification")
    probability = task("classification").answer(made.values, {"temperature": 3.0})
    assert_allclose(probability.class_probability.sum(axis=1), 1.0)
    assert (probability.class_probability.argmax(axis=1) == made.values.argmax(axis=1)).all()


def test_classification_of_one_class_is_refused():
    with pytest.raises(ConfigError, match="two classes"):
        build_task(TASKS.config("classification"), 8, ("no",), ())


def test_target_transform_is_inverted_and_keeps_missing_values():
    mass = np.array([1e-22, np.nan, 3e-24, 0.0])
    z = TARGET.forward(mass)
    assert_allclose(TARGET.inverse(z)[[0, 2]], [-22.0, np.log10(3e-24)])
    assert np.isnan(z[[1, 3]]).all()


def test_fitted_target_has_zero_mean_and_unit_spread():
    mass = 10.0 ** np.random.default_rng(0).uniform(-24, -22, size=500)
    mass[::3] = np.nan
    z = fit_target("axion_mass", "eV", "log10", mass).forward(mass)
    assert_allclose([np.nanmean(z), np.nanstd(z)], [0.0, 1.0], atol=1e-9)


def test_target_without_values_is_refused_by_name():
    with pytest.raises(ConfigError, match="'axion_mass': 0 training images"):
        fit_target("axion_mass", "eV", "log10", np.full(5, np.nan))


def test_regression_learns_nothing_from_images_without_a_value():
    built = task("regression")
    features = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    mass = torch.tensor([[1e-22], [torch.nan], [3e-23], [torch.nan]])
    labels = torch.zeros(4, dtype=torch.int64)
    whole = built.loss(built.head(features), labels, mass)
    kept = built.loss(built.head(features[::2]), labels[::2], mass[::2])
    torch.testing.assert_close(whole, kept)
    empty = built.loss(built.head(features), labels, torch.full((4, 1), torch.nan))
    empty.backward()
    assert empty.item() == 0.0
    assert torch.isfinite(built.head.weight.grad).all()


def test_regression_answers_in_the_unit_of_the_truth_and_covers_it():
    built = task("regression")
    rng = np.random.default_rng(6)
    log_mass = rng.normal(-23.0, 0.4, size=4000)
    # outputs that are off by 0.1 dex but claim 0.2 dex
    z = (log_mass + rng.normal(0, 0.1, 4000) + 23.0) / 0.4
    values = np.stack([z, np.full(4000, np.log(0.2 / 0.4))], axis=1)
    made = Outputs(values, np.zeros(4000, np.int64), 10.0 ** log_mass[:, None], np.arange(4000))
    calibration = built.calibrate(made)
    assert_allclose(calibration["std_factor"], 0.5, rtol=0.03)
    assert_allclose(built.answer(values, calibration).target_std, 0.1, rtol=0.03)
    metrics = built.metrics(made, calibration)
    assert_allclose(metrics["mae_dex"], 0.1 * np.sqrt(2 / np.pi), rtol=0.05)
    # 4 standard errors of 4000 binomial trials
    assert abs(metrics["coverage_68"] - 0.68) < 0.03 and abs(metrics["coverage_90"] - 0.9) < 0.02
