"""Networks trained on fits that are wrong in the same way for every class.

    python examples/misfit_training.py misfit_training --images 4000 --core-minutes 4

For each way in which lenses differ from a power law with one Sersic galaxy (see misfit_table.py),
and for each fit that sees them: simulate, fit, train the preset ``contrast_hst``, and judge on test
images. What a misfit leaves is then in the smooth class too, so it cannot pass for substructure;
the table says what it still costs. Beside it what no training is needed for: the weight of evidence
for any mass at all. Finished rows are kept.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from contest import FIT
from misfit_table import CASES, Case, fill
from numpy.typing import NDArray
from scipy.special import logsumexp

from pipeline.dataset.fitted import fits_folder
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.fit.result import Status
from pipeline.fit.store import open_fits
from pipeline.statistics.intervals import auc_interval
from pipeline.workflow import steps
from pipeline.workflow.fit import run_fit

DATA = ("splits={train: 0.7, val: 0.1, test: 0.2}", "keep=[noiseless]")


def row(case: Case, out: Path, n_images: int, core_minutes: float) -> dict[str, Any]:
    """Simulate, fit, train and judge one case."""
    folder = out / case.name.replace(" ", "_")
    data = folder / "data.zarr"
    steps.simulate(case.preset, data, images=n_images, seed=8, overrides=(*DATA, *case.data))
    run_fit([data], None, store=True, overrides=(*FIT, *case.fit))
    settings = (f"max_core_minutes={core_minutes}",)
    steps.train("contrast_hst", data, folder / "run", overrides=settings)
    found = steps.evaluate(folder / "run", data)
    assert found.confusion is not None
    smooth = found.class_names.index("no")
    n_smooth = found.confusion[smooth].sum()
    dataset = open_dataset(data)
    test = dataset.indices("test")
    weight, poor = evidence(dataset)
    is_smooth = dataset.labels == smooth
    auc, _ = auc_interval(~is_smooth[test], weight[test])
    return {
        "case": case.name,
        "images": found.n,
        "auc": found.auc["no"],
        "interval": list(found.intervals["auc_no"]),
        "macro_auc": found.macro_auc,
        "false_positives": float(1.0 - found.confusion[smooth, smooth] / n_smooth),
        "evidence": auc,
        "poor_smooth": float(poor[is_smooth].mean()),
    }


def evidence(dataset: Dataset) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Weight of evidence for any mass, and whether the fit is poor, of every image."""
    folder = fits_folder(dataset)
    assert folder is not None
    fits = open_fits(folder)[0].all_fits(pixels=False)
    poor = np.array([status != Status.GOOD for status in fits.status])
    return np.asarray(logsumexp(np.nan_to_num(fits.ln_bayes), axis=1)), poor


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as Markdown."""
    lines = [
        "| lenses | AUC (95 %) | three classes | false positives | evidence alone | poor fits |",
        "| --- " * 6 + "|",
    ]
    for r in rows:
        low, high = r["interval"]
        lines.append(
            f"| {r['case']} | {r['auc']:.3f} ({low:.3f} to {high:.3f}) | {r['macro_auc']:.3f} "
            f"| {100 * r['false_positives']:.0f} % | {r['evidence']:.3f} "
            f"| {100 * r['poor_smooth']:.0f} % |"
        )
    return "\n".join(lines)


def main() -> None:
    """Fill the table, case by case."""
    names = [case.name for case in CASES if case.psf_factor == 1.0]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--core-minutes", type=float, default=4.0)
    parser.add_argument("--cases", nargs="+", choices=names, default=names, metavar="CASE")
    arguments = parser.parse_args()
    asked = [case for case in CASES if case.name in arguments.cases]
    fill(
        arguments.out / "misfits.json",
        asked,
        lambda case: row(case, arguments.out, arguments.images, arguments.core_minutes),
        table,
    )


if __name__ == "__main__":
    main()
