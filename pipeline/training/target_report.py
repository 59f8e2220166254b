"""What an evaluation says about one target of a regression."""

from dataclasses import dataclass

import numpy as np

from pipeline.statistics.intervals import Interval, mean_interval
from pipeline.statistics.regression import (
    CENTRAL,
    MEDIAN,
    Bin,
    constant_mae,
    covered,
    errors_by_bin,
    readings,
)
from pipeline.tasks.base import Floats, TargetTransform

#: Equal bins of the (transformed) true value, over the range of the training values.
N_BINS = 6


@dataclass(frozen=True)
class TargetReport:
    """Errors of one target; everything in the unit of the transformed target, dex for log10.

    Attributes
    ----------
    mae_constant : float
        Error of always saying the median of the training values: knowing nothing.
    readings : dict
        How many images are measured, are given a lower or an upper limit, or nothing.
    limits_hold : float or None
        Fraction of the limits to one side that the truth respects; 0.95 is promised.
    truth, median, low, high : (n,) of the first ``MAX_POINTS`` images, for a figure; low and high
        are the ends of the 68 % interval.
    """

    name: str
    unit: str
    function: str
    n: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    mae_constant: float
    bins: tuple[Bin, ...]
    readings: dict[str, int]
    limits_hold: float | None
    truth: Floats
    median: Floats
    low: Floats
    high: Floats


#: Images that a report keeps for a figure.
MAX_POINTS = 1000


def target_report(transform: TargetTransform, truth: Floats, quantile: Floats) -> TargetReport:
    """Judge one target.

    Parameters
    ----------
    transform : TargetTransform
    truth : (N,) float
        As stored, NaN where an image has no value.
    quantile : (N, Q) float
    """
    true = transform.inverse(transform.forward(truth))
    known = np.isfinite(true)
    true, quantile = true[known], quantile[known]
    error = quantile[:, MEDIAN] - true
    unit = "_dex" if transform.function == "log10" else ""
    samples = {f"mae{unit}": np.abs(error), f"rmse{unit}": error**2, f"bias{unit}": error}
    samples |= {f"coverage_{c}": covered(true, quantile, c).astype(float) for c in CENTRAL}
    metrics = {name: float(np.mean(v)) if len(v) else np.nan for name, v in samples.items()}
    ends = {name: mean_interval(v) if len(v) else _NOTHING for name, v in samples.items()}
    metrics[f"rmse{unit}"] = float(np.sqrt(metrics[f"rmse{unit}"]))
    root = ends[f"rmse{unit}"]
    ends[f"rmse{unit}"] = Interval(float(np.sqrt(root.low)), float(np.sqrt(root.high)))
    said = np.array(readings(quantile, transform.prior))
    first, last = CENTRAL[90]
    is_lower, is_upper = said == "lower_limit", said == "upper_limit"
    respects = np.r_[
        true[is_lower] > quantile[is_lower, first], true[is_upper] < quantile[is_upper, last]
    ]
    inner = CENTRAL[68]
    return TargetReport(
        name=transform.name,
        unit=transform.unit,
        function=transform.function,
        n=len(true),
        metrics=metrics,
        intervals={name: (end.low, end.high) for name, end in ends.items()},
        mae_constant=constant_mae(true, transform.prior) if len(true) else float("nan"),
        bins=errors_by_bin(true, quantile, _edges(transform)),
        readings={
            name: int(np.sum(said == name))
            for name in ("measured", "lower_limit", "upper_limit", "unconstrained")
        },
        limits_hold=float(respects.mean()) if len(respects) else None,
        truth=true[:MAX_POINTS],
        median=quantile[:MAX_POINTS, MEDIAN],
        low=quantile[:MAX_POINTS, inner[0]],
        high=quantile[:MAX_POINTS, inner[1]],
    )


_NOTHING = Interval(float("nan"), float("nan"))


def _edges(transform: TargetTransform) -> list[float]:
    """Edges of equal bins; the outer ones are open, so that every image is in one."""
    edges = np.linspace(transform.prior[0], transform.prior[-1], N_BINS + 1).tolist()
    return [-np.inf, *edges[1:-1], np.inf]
