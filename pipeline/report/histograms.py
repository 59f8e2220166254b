"""Histograms of a dataset's parameters, class by class."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.report.figures import SERIES, drawing

#: Fewest and most bins of a histogram.
MIN_BINS, MAX_BINS = 8, 40
#: Positive values that span more than this factor are shown on a logarithmic axis.
LOG_ABOVE = 100.0


def parameter_chart(name: str, unit: str, values: Mapping[str, NDArray[np.float64]]) -> str:
    """Distribution of one parameter in every class that has it.

    Parameters
    ----------
    name, unit : str
    values : mapping of class name to array
        In class order; finite, at least two different ones in all.

    Returns
    -------
    str
        ``<svg>``.
    """
    from matplotlib.ticker import MaxNLocator

    everything = np.concatenate(list(values.values()))
    low, high = float(everything.min()), float(everything.max())
    is_log = low > 0 and high / low > LOG_ABOVE
    fewest = min(len(numbers) for numbers in values.values() if len(numbers))
    n_bins = int(np.clip(np.sqrt(fewest), MIN_BINS, MAX_BINS))
    edges = np.geomspace(low, high, n_bins + 1) if is_log else np.linspace(low, high, n_bins + 1)
    edges[0], edges[-1] = low, high
    with drawing(f"{name} by class", (3.6, 2.3), f"p{name}") as (figure, out):
        axes = figure.subplots()
        for k, (class_name, numbers) in enumerate(values.items()):
            if not len(numbers):
                continue
            counts = np.histogram(numbers, edges)[0]
            axes.stairs(counts, edges, color=SERIES[k % 8], label=class_name, linewidth=1.6)
        if is_log:
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_title(f"{name} [{unit}]" if unit else name, pad=18)
        axes.set_yticks([])
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.03, 0.98), ncols=4, fontsize=8, handlelength=1.2,
            columnspacing=1.2, handletextpad=0.5,
        )  # fmt: skip
    return out[0]
