"""Calibration fitted on validation data: a temperature for logits, a factor for error bars.

Temperature scaling divides the logits by one number T, chosen to minimise the cross-entropy of the
validation split (Guo et al. 2017); it changes no ranking and no decision.
"""

import numpy as np
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]
from scipy.special import log_softmax, softmax  # type: ignore[import-untyped]

from pipeline.statistics.metrics import Floats, Labels

#: The temperature is searched between these; a value at a border means the logits say nothing.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """Temperature that minimises the cross-entropy of ``softmax(logits / T)``.

    Parameters
    ----------
    logits : (N, K) float
        Of images the network was not trained on.
    labels : (N,) int

    Returns
    -------
    float, between ``MIN_TEMPERATURE`` and ``MAX_TEMPERATURE``
    """
    logits = np.asarray(logits, dtype=np.float64)
    rows = np.arange(len(logits))

    def cost(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-np.mean(scaled[rows, labels]))

    bounds = (np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE))
    found = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def apply_temperature(logits: Floats, temperature: float) -> Floats:
    """Calibrated probabilities (N, K) in float64."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    return np.asarray(softmax(scaled, axis=1), dtype=np.float64)


def fit_std_factor(residual: Floats, std: Floats) -> float:
    """Factor on predicted standard deviations that maximises the Gaussian likelihood.

    f^2 = mean((residual / std)^2), the closed-form optimum of one common factor.
    """
    return float(np.sqrt(np.mean((np.asarray(residual) / np.asarray(std)) ** 2)))
