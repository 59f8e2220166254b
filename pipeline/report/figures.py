"""Charts of a report as inline SVG whose colours are CSS variables of the page.

Matplotlib draws with placeholder colours that are swapped for ``var(--ink)`` and friends, so one
drawing reads well on a light and on a dark page. Text stays text.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER = "#010203", "#020304", "#030405", "#040506"
_THEME = {INK: "var(--ink)", MUTED: "var(--muted)", LINE: "var(--line)", PAPER: "var(--paper)"}
#: Placeholder colour of class k; the page's CSS defines --c0 to --c7.
SERIES = tuple(f"#0{k}0a0b" for k in range(8))
_THEME |= {colour: f"var(--c{k})" for k, colour in enumerate(SERIES)}

DASHES = (0, (2, 3))

_STYLE: dict[Any, Any] = {  # Any: matplotlib types its keys as one huge Literal
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def roc_curves(
    points: Mapping[str, tuple[Sequence[float], Sequence[float]]], auc: Mapping[str, float]
) -> str:
    """One-against-rest ROC curve of each class.

    Parameters
    ----------
    points : mapping of class name to (false-positive rate, true-positive rate)
        In class order; a class without a curve has empty sequences.
    auc : mapping of class name to float
        Area under each curve, shown in the legend.

    Returns
    -------
    str
        ``<svg>``.
    """
    with drawing("ROC curve of each class against the rest", (4.4, 4.1), "roc") as (figure, out):
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, linestyle=DASHES, linewidth=1.0)
        axes.text(0.6, 0.54, "guessing", color=MUTED, rotation=45, rotation_mode="anchor", size=9)
        for k, (name, (false_rate, true_rate)) in enumerate(points.items()):
            if len(false_rate):
                label = f"{name}  {auc[name]:.3f}"
                axes.plot(false_rate, true_rate, color=SERIES[k % 8], label=label)
        axes.set(xlim=(-0.01, 1), ylim=(0, 1.01), aspect="equal")
        axes.set(
            xlabel="share of the other images taken for it", ylabel="share of its images found"
        )
        axes.legend(loc="lower right", title="area under the curve", title_fontsize=9)
    return out[0]


def reliability(
    edges: Sequence[float],
    count: Sequence[int],
    confidence: Sequence[float],
    accuracy: Sequence[float],
) -> str:
    """Observed accuracy against stated confidence, with 95 % Wilson intervals and a histogram.

    Parameters
    ----------
    edges : (B + 1,) bin edges of the confidence
    count, confidence, accuracy : (B,)
        Images in each bin, and their mean confidence and accuracy (ignored where count is 0).

    Returns
    -------
    str
        ``<svg>``.
    """
    n = np.asarray(count)
    filled = n > 0
    x, y = (np.asarray(v, dtype=float)[filled] for v in (confidence, accuracy))
    low, high = _wilson(y, n[filled])
    with drawing("Reliability: accuracy against confidence", (4.4, 4.1), "rel") as (figure, out):
        top, bottom = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
        top.plot([0, 1], [0, 1], color=MUTED, linestyle=DASHES, linewidth=1.0)
        top.errorbar(
            x, y, np.stack((y - low, high - y)).clip(0), fmt="o", color=SERIES[0], ms=4.5, lw=1.2
        )
        left = float(edges[int(np.argmax(filled))]) - 0.02 if filled.any() else 0.0
        top.set(xlim=(left, 1.01), ylim=(0, 1.02), ylabel="how often it is right")
        bottom.stairs(n, edges, fill=True, color=SERIES[0], alpha=0.55)
        bottom.set(xlabel="how sure the network says it is", ylabel="images")
        bottom.grid(visible=False)
    return out[0]


def curves(
    title: str,
    x_label: str,
    lines: Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating]]],
    *,
    best: float | None = None,
) -> str:
    """Named lines over a common axis, e.g. losses over epochs; ``best`` marks the kept epoch.

    Parameters
    ----------
    title, x_label : str
    lines : mapping of str to (x, y)
        Points that are not finite are left out.
    best : float, optional

    Returns
    -------
    str
        ``<svg>``.
    """
    from matplotlib.ticker import MaxNLocator

    with drawing(title, (4.4, 2.9), title) as (figure, out):
        axes = figure.subplots()
        for k, (name, (x, y)) in enumerate(lines.items()):
            good = np.isfinite(y)
            marker = "o" if good.sum() < 25 else None
            axes.plot(x[good], y[good], color=SERIES[k % 8], label=name, marker=marker, ms=3)
        if best is not None:
            axes.axvline(best, color=MUTED, linestyle=DASHES, linewidth=1.0)
            _note(axes, best, "kept")
        axes.set(title=title, xlabel=x_label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(lines) > 1:
            axes.legend()
    return out[0]


def _note(axes: "Axes", x: float, text: str) -> None:
    axes.annotate(
        text, (x, 1.0), xycoords=("data", "axes fraction"), xytext=(3, -9),
        textcoords="offset points", color=MUTED, size=9,
    )  # fmt: skip


def _wilson(
    rate: NDArray[np.float64], count: NDArray[np.integer], z: float = 1.96
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wilson (1927) score interval of a proportion ``rate`` of ``count``: low, high."""
    centre = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return centre - half, centre + half


@contextmanager
def drawing(
    label: str, size: tuple[float, float], salt: str
) -> Iterator[tuple["Figure", list[str]]]:
    """Yield a figure in the report's style and a list that receives its SVG afterwards."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": salt}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        out: list[str] = []
        yield figure, out
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        out.append(_inline(buffer.getvalue(), label, salt))


def _inline(svg: str, label: str, salt: str) -> str:
    """Strip the XML prologue and fixed size, make ids unique, and swap in the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    prefix = re.sub(r"\W", "", salt)
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    head, end, body = svg.partition(">")
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    for placeholder, variable in _THEME.items():
        body = body.replace(placeholder, variable)
    body = re.sub(r"font: ([0-9.]+)px [^;\"]*", r"font-size: \1px", body)
    return f'{head} role="img" aria-label="{label}"{end}{body}'
