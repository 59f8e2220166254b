"""Charts of a search: its history, what mattered, and every trial as a line through its values."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.report.figures import MUTED, PAPER, SERIES, drawing
from pipeline.tuning.result import Axis, Trial
from pipeline.tuning.space import Chosen

#: Length of a label along an axis and beside a bar, characters.
LABEL, NAME = 22, 40


def history(metric: str, trials: Sequence[Trial], *, higher_is_better: bool) -> str:
    """Metric of every trial in order, and the best so far.

    Returns
    -------
    str
        ``<svg>``.
    """
    from matplotlib.ticker import MaxNLocator

    done = [t for t in trials if t.state == "complete" and t.value is not None]
    pruned = [t for t in trials if t.state == "pruned" and t.value is not None]
    with drawing("Metric of every trial", (4.4, 2.9), "history") as (figure, out):
        axes = figure.subplots()
        if done:
            x = [t.number for t in done]
            y = np.array([t.value for t in done], float)
            best = np.maximum.accumulate(y) if higher_is_better else np.minimum.accumulate(y)
            end = max(t.number for t in trials)
            axes.step([*x, end], [*best, best[-1]], where="post", color=SERIES[1], label="best")
            axes.plot(x, y, "o", color=SERIES[0], ms=5, label="complete")
        if pruned:
            x = [t.number for t in pruned]
            y = np.array([t.value for t in pruned], float)
            axes.plot(x, y, "x", color=MUTED, ms=5, label="ended early, last value")
        axes.set(xlabel="trial", ylabel=f"validation {metric}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if done or pruned:
            figure.legend(loc="outside upper left", ncols=3, fontsize=9)
    return out[0]


def n_best(done: Sequence[Trial]) -> int:
    """Of so many complete trials, how many stand out: a tenth, three at most."""
    return max(1, min(3, len(done) // 10))


def learning_curves(metric: str, trials: Sequence[Trial], done: Sequence[Trial]) -> str:
    """Metric of every trial after each epoch; the best ones stand out.

    Returns
    -------
    str
        ``<svg>``.
    """
    from matplotlib.ticker import MaxNLocator

    names = {trial.number for trial in done[: n_best(done)]}
    with drawing("Metric of every trial by epoch", (4.4, 2.9), "learning") as (figure, out):
        axes = figure.subplots()
        for trial in trials:
            epochs = sorted(trial.by_epoch)
            stands_out = trial.number in names
            axes.plot(
                epochs, [trial.by_epoch[e] for e in epochs],
                color=SERIES[1] if stands_out else SERIES[0], alpha=1.0 if stands_out else 0.35,
                linewidth=1.8 if stands_out else 1.0, zorder=3 if stands_out else 2,
                marker="o" if len(epochs) == 1 else None, ms=3,
            )  # fmt: skip
        axes.set(xlabel="epoch", ylabel=f"validation {metric}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return out[0]


def importance_bars(importances: Mapping[str, float]) -> str:
    """Bar of every parameter, the most important one on top.

    Returns
    -------
    str
        ``<svg>``.
    """
    names = list(importances)[::-1]
    size = (4.4, max(1.4, 0.6 + 0.34 * len(names)))
    with drawing("Importance of every parameter", size, "importance") as (figure, out):
        axes = figure.subplots()
        bars = axes.barh(range(len(names)), [importances[n] for n in names], color=SERIES[0])
        axes.bar_label(bars, fmt="%.2f", padding=3, color=MUTED, size=9)
        axes.set_yticks(range(len(names)), [_plain(n, NAME) for n in names])
        axes.set(xlim=(0, 1.12 * max([*importances.values(), 1e-3])), xlabel="share of variance")
        axes.grid(visible=False, axis="y")
        axes.set_axisbelow(True)
    return out[0]


def parallel_coordinates(metric: str, axes_of: Sequence[Axis], done: Sequence[Trial]) -> str:
    """Every complete trial as a line through its values; the better, the stronger.

    Parameters
    ----------
    metric : str
    axes_of : sequence of Axis
    done : sequence of Trial
        Complete ones, best first.

    Returns
    -------
    str
        ``<svg>``.
    """
    values = np.array([t.value for t in done], float)
    low, high = float(values.min()), float(values.max())
    spread = high - low or 1.0
    columns = [np.array([_height(a, t.chosen[a.key]) for t in done]) for a in axes_of]
    heights = np.stack([*columns, (values - low) / spread], axis=1)  # (trials, axes)
    n = heights.shape[1]
    size = (max(8.0, 1.5 * n), 3.6)
    with drawing("Every complete trial as a line", size, "parallel") as (figure, out):
        axes = figure.subplots()
        rank = np.linspace(1.0, 0.0, len(done)) if len(done) > 1 else np.ones(1)
        for k in range(len(done))[::-1]:
            is_best = k < n_best(done)
            x, y = _smooth(heights[k])
            axes.plot(
                x, y, color=SERIES[1] if is_best else SERIES[0], linewidth=2.0 if is_best else 1.0,
                alpha=1.0 if is_best else 0.15 + 0.5 * float(rank[k]),
            )  # fmt: skip
        for k, axis in enumerate(axes_of):
            _draw_axis(axes, k, axis.key, _ticks(axis))
        last = [(0.0, f"{low:.4g}"), (1.0, f"{high:.4g}")] if high > low else [(0.0, f"{low:.4g}")]
        _draw_axis(axes, n - 1, metric, last)
        axes.set(xlim=(-0.15, n - 0.6), ylim=(-0.06, 1.12))
        axes.set_axis_off()
    return out[0]


def words(value: Chosen) -> str:
    """Value as a person reads it: four digits of a number, a block by its kind and its keys."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if not (isinstance(value, str) and value.startswith("{")):
        return str(value)
    block = json.loads(value)
    kind = [str(block.pop("kind"))] if "kind" in block else []
    return ", ".join([*kind, *(f"{key} {json.dumps(item)}" for key, item in block.items())])


def _smooth(heights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Curve through the heights, level where it crosses an axis."""
    t = np.linspace(0.0, 1.0, 24)
    ease = t * t * (3.0 - 2.0 * t)
    steps = range(len(heights) - 1)
    x = np.concatenate([k + t for k in steps])
    y = np.concatenate([heights[k] + (heights[k + 1] - heights[k]) * ease for k in steps])
    return x, y


def _height(axis: Axis, value: float | int | str) -> float:
    """Where a value crosses its axis, 0 to 1."""
    if axis.labels:
        return axis.labels.index(str(value)) / max(len(axis.labels) - 1, 1)
    scale = np.log if axis.log else float
    low, high, here = (float(scale(v)) for v in (axis.low, axis.high, float(value)))
    return (here - low) / (high - low)


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    if axis.labels:
        return [(_height(axis, label), words(label)) for label in axis.labels]
    middle = (axis.low * axis.high) ** 0.5 if axis.log else (axis.low + axis.high) / 2
    return [(_height(axis, v), f"{v:.3g}") for v in (axis.low, middle, axis.high)]


def _draw_axis(axes: object, x: int, name: str, ticks: Sequence[tuple[float, str]]) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    axes.plot([x, x], [0, 1], color=MUTED, linewidth=1.0, zorder=4)
    for height, label in ticks:
        axes.plot([x], [height], "_", color=MUTED, ms=7, zorder=4)
        axes.annotate(
            _plain(label), (x, height), xytext=(5, 0), textcoords="offset points", size=8,
            va="center", zorder=5, bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
    family, _, last = name.rpartition(".")
    axes.text(x, 1.13, _plain(last), ha="center", va="bottom", size=9)
    if family:
        axes.text(x, 1.1, _plain(family), ha="center", va="top", size=8, color=MUTED)


def _plain(text: str, length: int = LABEL) -> str:
    """Text that matplotlib does not read as mathematics, cut to a length."""
    short = text if len(text) <= length else text[: length - 1] + "…"
    return short.replace("$", r"\$")
