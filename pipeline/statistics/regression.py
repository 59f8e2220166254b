"""Judge posteriors against true values: errors of the median, coverage, readings and limits.

A posterior is told by its quantiles at ``PROBABILITIES``, in the unit of the (transformed) target.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.intervals import Interval, mean_interval
from pipeline.statistics.metrics import Floats

#: Probabilities of the quantiles: the median, and the ends of the central intervals of 68, 90 and
#: 95 %; the ends of the 90 % interval are 95 % limits to one side.
PROBABILITIES = (0.025, 0.05, 0.16, 0.5, 0.84, 0.95, 0.975)
MEDIAN = PROBABILITIES.index(0.5)
#: Central interval (%) -> positions of its ends in ``PROBABILITIES``.
CENTRAL = {68: (2, 4), 90: (1, 5), 95: (0, 6)}
#: A value counts as read if its 68 % interval is narrower than this fraction of the prior's.
READ_WIDTH = 0.5
#: A limit says something if it excludes this fraction of the prior.
LIMIT_EXCLUDES = 0.1

Reading = Literal["measured", "lower_limit", "upper_limit", "unconstrained"]


@dataclass(frozen=True)
class Bin:
    """Errors of the images whose true value lies in [low, high)."""

    low: float
    high: float
    n: int
    mae: float
    mae_interval: Interval
    coverage_68: float
    coverage_95: float


def regression_errors(truth: Floats, quantile: Floats, unit: str = "") -> dict[str, float]:
    """Mean absolute and root mean square error and bias of the median, and coverage.

    Parameters
    ----------
    truth : (...) float
        NaN where there is none.
    quantile : (..., Q) float
        At ``PROBABILITIES``.
    unit : str
        Appended to the names of the errors, e.g. ``_dex``.

    Returns
    -------
    dict of str to float
        NaN if no truth is known.
    """
    known = np.isfinite(truth)
    names = [f"mae{unit}", f"rmse{unit}", f"bias{unit}", *(f"coverage_{c}" for c in CENTRAL)]
    if not known.any():
        return dict.fromkeys(names, float("nan"))
    error = quantile[known][:, MEDIAN] - truth[known]
    values = [np.mean(np.abs(error)), np.sqrt(np.mean(error**2)), np.mean(error)]
    values += [np.mean(covered(truth[known], quantile[known], c)) for c in CENTRAL]
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def covered(truth: Floats, quantile: Floats, central: int) -> NDArray[np.bool_]:
    """Whether each truth lies inside its central interval of ``central`` per cent."""
    low, high = CENTRAL[central]
    inside: NDArray[np.bool_] = (quantile[..., low] <= truth) & (truth <= quantile[..., high])
    return inside


def errors_by_bin(truth: Floats, quantile: Floats, edges: Sequence[float]) -> tuple[Bin, ...]:
    """Errors by true value (N,); bins without images are left out."""
    found = []
    for low, high in pairwise(edges):
        inside = (truth >= low) & (truth < high)
        if not inside.any():
            continue
        error = np.abs(quantile[inside, MEDIAN] - truth[inside])
        found.append(
            Bin(
                low=float(low),
                high=float(high),
                n=int(inside.sum()),
                mae=float(error.mean()),
                mae_interval=mean_interval(error),
                coverage_68=float(covered(truth[inside], quantile[inside], 68).mean()),
                coverage_95=float(covered(truth[inside], quantile[inside], 95).mean()),
            )
        )
    return tuple(found)


def constant_mae(truth: Floats, prior: Sequence[float]) -> float:
    """Mean absolute error of always saying the median of the training values."""
    return float(np.mean(np.abs(truth - np.median(prior))))


def readings(quantile: Floats, prior: Sequence[float]) -> list[Reading]:
    """What may be said of each value: a measurement, a limit to one side, or nothing.

    A posterior hardly narrower than the prior measures nothing, but it may exclude one end: then
    ``lower_limit`` says that the value exceeds the 5 % quantile at 95 %, ``upper_limit`` that it
    is below the 95 % quantile.

    Parameters
    ----------
    quantile : (N, Q) float
    prior : sequence of float
        Evenly spaced quantiles of the training values.
    """
    share = np.linspace(0.0, 1.0, len(prior))
    low, high = CENTRAL[68]
    prior_width = np.subtract(*np.interp([0.84, 0.16], share, prior))
    is_read = quantile[:, high] - quantile[:, low] < READ_WIDTH * prior_width
    first, last = CENTRAL[90]
    below = np.interp(quantile[:, first], prior, share)
    above = 1.0 - np.interp(quantile[:, last], prior, share)
    found: list[Reading] = []
    for read, excluded_below, excluded_above in zip(is_read, below, above, strict=True):
        if read:
            found.append("measured")
        elif max(excluded_below, excluded_above) < LIMIT_EXCLUDES:
            found.append("unconstrained")
        else:
            found.append("lower_limit" if excluded_below >= excluded_above else "upper_limit")
    return found
