"""Charts of an audit: what classifiers make of plain statistics, and the statistics themselves."""

from collections.abc import Sequence

import numpy as np

from pipeline.dataset.audit_result import Histogram, PairLeak
from pipeline.report.figures import DASHES, MUTED, SERIES, drawing


def leak_chart(pairs: Sequence[PairLeak], gate: float, sigma: float) -> str:
    """AUC of two classifiers for each pair and set, against the gate.

    Parameters
    ----------
    pairs : sequence of PairLeak
    gate : float
        AUC above which a pair leaks, beyond its error.
    sigma : float
        Standard errors granted to chance; drawn as the length of the bars' errors.

    Returns
    -------
    str
        ``<svg>``.
    """
    label = "AUC of plain statistics, by pair of classes"
    with drawing(label, (5.2, 0.9 + 0.34 * len(pairs)), "leaks") as (figure, out):
        axes = figure.subplots()
        y = np.arange(len(pairs))[::-1]
        errors = [sigma * p.standard_error for p in pairs]
        for k, (name, values) in enumerate(
            (
                ("logistic regression", [p.logistic for p in pairs]),
                ("boosted trees", [p.boosting for p in pairs]),
            )
        ):
            axes.errorbar(
                values, y + 0.12 - 0.24 * k, xerr=errors, fmt="o", ms=4.5, lw=1.2,
                color=SERIES[k], label=name,
            )  # fmt: skip
        axes.axvline(gate, color=MUTED, linestyle=DASHES, linewidth=1.0)
        axes.annotate(
            "gate", (gate, 1.0), xycoords=("data", "axes fraction"), xytext=(3, -9),
            textcoords="offset points", color=MUTED, size=9,
        )  # fmt: skip
        names = [f"{p.pair}, {p.features}" + ("" if p.gated else " (not gated)") for p in pairs]
        axes.set_yticks(y, names)
        low = min([0.45, *(min(p.logistic, p.boosting) - 0.02 for p in pairs)])
        axes.set(xlim=(low, 1.01), ylim=(-0.7, len(pairs) - 0.3), xlabel="AUC (0.5: guessing)")
        axes.grid(visible=False, axis="y")
        axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2)
    return out[0]


def statistic_chart(histogram: Histogram, class_names: Sequence[str]) -> str:
    """Distribution of one statistic in every class.

    Parameters
    ----------
    histogram : Histogram
    class_names : sequence of str, length K

    Returns
    -------
    str
        ``<svg>``.
    """
    with drawing(f"{histogram.name} by class", (3.6, 2.5), f"h{histogram.name}") as (figure, out):
        axes = figure.subplots()
        for k, (name, counts) in enumerate(zip(class_names, histogram.counts, strict=True)):
            share = counts / max(counts.sum(), 1)
            axes.stairs(share, histogram.edges, color=SERIES[k % 8], label=name, linewidth=1.6)
        title = f"{histogram.name}: AUC {histogram.auc:.3f} ({histogram.pair})"
        axes.set(title=title, ylabel="share of the class")
        axes.set_yticks([])
        axes.legend(fontsize=8.5)
    return out[0]
