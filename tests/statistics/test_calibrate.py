"""Temperature scaling and error-bar scaling recover what was put in."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from pipeline.statistics.calibrate import (
    apply_temperature,
    fit_std_factor,
    fit_temperature,
)
from pipeline.statistics.metrics import accuracy, reliability


def drawn_from_own_probabilities(n: int = 20_000):
    rng = np.random.default_rng(2)
    logits = 1.5 * rng.normal(size=(n, 3))
    cumulative = np.cumsum(apply_temperature(logits, 1.0), axis=1)
    labels = (rng.random((n, 1)) > cumulative).sum(axis=1).clip(max=2)
    return logits, labels


@pytest.mark.parametrize("sharpened", [0.5, 1.0, 3.0])
def test_temperature_undoes_a_known_sharpening(sharpened):
    logits, labels = drawn_from_own_probabilities()
    assert fit_temperature(sharpened * logits, labels) == pytest.approx(sharpened, rel=0.03)


def test_calibration_lowers_the_calibration_error_and_keeps_every_decision():
    logits, labels = drawn_from_own_probabilities()
    raw = apply_temperature(4 * logits, 1.0)
    calibrated = apply_temperature(4 * logits, fit_temperature(4 * logits, labels))
    assert reliability(labels, calibrated).ece < 0.02 < reliability(labels, raw).ece
    assert accuracy(labels, calibrated) == accuracy(labels, raw)


def test_std_factor_makes_the_pull_unit_wide():
    rng = np.random.default_rng(4)
    std = rng.uniform(0.1, 0.3, size=5000)
    residual = 2.0 * std * rng.normal(size=5000)
    assert_allclose(fit_std_factor(residual, std), 2.0, rtol=0.04)
