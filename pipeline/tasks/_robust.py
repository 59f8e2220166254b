"""A score in robust standard deviations of the validation images above their median."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from pipeline.tasks.base import Floats

#: Median absolute deviation to standard deviation of a Gaussian.
_MAD_TO_SIGMA = 1.482602218505602
#: Calibration that changes nothing.
PLAIN: Mapping[str, float] = MappingProxyType({"median": 0.0, "spread": 1.0})


def fit_robust(score: Floats) -> dict[str, float]:
    """Median and spread of the scores (N,) of validation images."""
    median = float(np.median(score))
    spread = float(_MAD_TO_SIGMA * np.median(np.abs(score - median)))
    return {"median": median, "spread": spread if spread > 0 else 1.0}


def in_spreads(score: Floats, calibration: Mapping[str, float]) -> Floats:
    """Scores (N,) in those units."""
    deviation: Floats = (score - calibration["median"]) / calibration["spread"]
    return deviation
