"""Calibration fitted on validation data: a temperature for logits, a factor for error bars.

Temperature scaling divides the logits by one number T, chosen to minimise the cross-entropy of the
validation split (Guo et al. 2017); it changes no ranking and no decision.
"""

from importlib import import_module
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]
from scipy.special import log_softmax  # type: ignore[import-untyped]

from pipeline.statistics.metrics import Floats, Labels

#: The temperature is searched between these; a value at a border means the logits say nothing.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
#: Images that the belief in uncalibrated levels is worth.
PRIOR_IMAGES = 10.0


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
    """Calibrated probabilities (N, K) in the precision of the logits, float64 but in a network."""
    xp = array_functions(logits)
    scaled = logits / temperature
    weight = xp.exp(scaled - xp.amax(scaled, axis=1, keepdims=True))
    probability: Floats = weight / xp.sum(weight, axis=1, keepdims=True)
    return probability


def array_functions(values: Any) -> Any:  # Any: an array of numpy or torch, and that module
    """The module whose functions take these arrays; torch's names are numpy's where used here."""
    return np if isinstance(values, np.ndarray) else import_module("torch")


def calibrated_levels(below: Floats, probabilities: tuple[float, ...]) -> list[float]:
    """Levels of a predicted distribution that hold the probabilities they should (Kuleshov 2018).

    Level l(p) is where the distribution of ``below`` reaches p: of the true values, a fraction p
    lies below the predicted quantile at l(p). The observed distribution is mixed with the uniform
    one, which counts as much as ``PRIOR_IMAGES``, so that few images change little.

    Parameters
    ----------
    below : (N,) float
        Predicted probability below each true value, of images the network was not trained on.
    probabilities : tuple of float

    Returns
    -------
    list of float
        In (0, 1), ascending with the probability.
    """
    below = np.sort(np.clip(np.asarray(below, np.float64), 0.0, 1.0))
    n = len(below)
    grid = np.linspace(0.0, 1.0, 2001)
    # Half of the ties count as below, so that the level of a symmetric set is symmetric.
    share = np.searchsorted(below, grid, "left") + np.searchsorted(below, grid, "right")
    mixed = (0.5 * share + PRIOR_IMAGES * grid) / (n + PRIOR_IMAGES)
    return [float(np.interp(p, mixed, grid)) for p in probabilities]


def fit_std_factor(residual: Floats, std: Floats) -> float:
    """Factor on predicted standard deviations that maximises the Gaussian likelihood.

    f^2 = mean((residual / std)^2), the closed-form optimum of one common factor.
    """
    return float(np.sqrt(np.mean((np.asarray(residual) / np.asarray(std)) ** 2)))
