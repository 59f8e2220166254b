"""Rerun the contest of docs/fitting.md: networks with and without what a smooth fit leaves.

Simulates, fits blind, trains with and without the residual, judges both on the test images, and
writes ``contest.json`` (figures, processor time of every stage, curves) and ``contest.png``::

    python examples/contest.py --images 40000 --core-minutes 60 --out contest

Stopped, the same command goes on. Processor time is that of all threads and processes together:
two cores for an hour are 7200 s.
"""

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import logsumexp

from pipeline.core.files import atomic_path, atomic_write
from pipeline.dataset.store import open_dataset
from pipeline.fit.store import FOLDER, open_fits
from pipeline.statistics.intervals import auc_interval
from pipeline.training.evaluate import Evaluation
from pipeline.training.journal import read_rows
from pipeline.workflow import steps
from pipeline.workflow.fit import run_fit

#: What the network learns beside the classes needs the noise-free images.
DATA = ("splits={train: 0.84, val: 0.08, test: 0.08}", "keep=[noiseless]")
#: One start and a coarser end: what that changes is far below the noise, and it costs half.
FIT = ("search.more_starts=0", "search.tolerance=0.2")
#: The same network and recipe on the image alone.
PLAIN = ("preprocess.smooth_fit=[]", "auxiliary=null")


def main() -> None:
    """Parse the command line, run what is missing, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--core-minutes", type=float, default=60.0)
    parser.add_argument("--plain-core-minutes", type=float, default=10.0)
    parser.add_argument("--preset", default="contrast_hst")
    parser.add_argument("--training", default="contrast_hst")
    parser.add_argument("--set", action="append", default=[], help="of the training")
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument("--out", type=Path, default=Path("contest"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    data = args.out / "data.zarr"
    clock = Clock(args.out / "seconds.json")
    images = {"images": args.images, "overrides": DATA, "workers": 1}
    clock("simulation", partial(steps.simulate, args.preset, data, **images))
    clock("fits", partial(run_fit, [data], None, store=True, overrides=FIT))
    found = {}
    for name, minutes, changes in (
        ("residual", args.core_minutes, ()),
        ("plain", args.plain_core_minutes, PLAIN),
    ):
        run = args.out / name
        settings = (*changes, f"max_core_minutes={minutes}", f"seed={args.seed}", *args.set)
        clock(name, partial(steps.train, args.training, data, run, overrides=settings))
        found[name] = steps.evaluate(run, data)
    summary = summarise(found, clock.seconds) | {"evidence": evidence(data)}
    atomic_write(args.out / "contest.json", json.dumps(summary, indent=1) + "\n")
    draw(args.out, found["residual"], args.out / "contest.png")
    print(json.dumps({k: v for k, v in summary.items() if k != "curves"}, indent=1))


class Clock:
    """Processor seconds of each stage, over all times that it was begun."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}

    def __call__(self, stage: str, work: Callable[[], object]) -> None:
        """Do a stage and add what it took."""
        before = _processor_seconds()
        try:
            work()
        finally:
            spent = self.seconds.get(stage, 0.0) + _processor_seconds() - before
            self.seconds[stage] = round(spent, 1)
            atomic_write(self._path, json.dumps(self.seconds) + "\n")


def _processor_seconds() -> float:
    """Of this process and those it has waited for."""
    return sum(os.times()[:4])


def summarise(found: dict[str, Evaluation], seconds: dict[str, float]) -> dict[str, Any]:
    """Figures of both networks beside the plain statistics, and the curves."""
    return {
        "seconds": seconds,
        "total_with_residual": sum(v for k, v in seconds.items() if k != "plain"),
        "shortcut": found["residual"].floor,
        **{
            name: {
                "macro_auc": one.macro_auc,
                "interval": one.macro_auc_interval,
                "auc": one.auc,
                "accuracy": one.accuracy,
                "images": one.n,
            }
            for name, one in found.items()
        },
        "curves": {name: list(one.curves) for name, one in found.items()},
    }


def evidence(path: Path) -> dict[str, list[float]]:
    """AUC, with 95 % interval, of what needs no training: a mean Bayes factor, against smooth.

    Of round masses for lenses with subhalos and of rods for those with vortices, test images.
    """
    dataset = open_dataset(path)
    store, config = open_fits(path / FOLDER)
    ln_bayes = np.nan_to_num(store.all_fits(pixels=False).ln_bayes)
    n_round = len(config.response.softenings)
    weights = {"subhalo": ln_bayes[:, :n_round], "vortex": ln_bayes[:, n_round:]}
    test = dataset.indices("test")
    classes = dataset.labels[test]
    found = {}
    for name, weight in weights.items():
        number = dataset.class_names.index(name)
        two = (classes == number) | (classes == dataset.class_names.index("no"))
        auc, interval = auc_interval(classes[two] == number, logsumexp(weight[test][two], axis=1))
        found[name] = [auc, interval.low, interval.high]
    return found


def draw(out: Path, best: Evaluation, path: Path) -> None:
    """AUC on the validation images against processor time of the training."""
    figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
    for name, label in (("residual", "with what the fit leaves"), ("plain", "image alone")):
        rows = read_rows(out / name)
        minutes = [float(row["core_seconds"] or 0.0) / 60.0 for row in rows]
        axes.plot(minutes, [row["val_macro_auc"] for row in rows], "o-", ms=3, label=label)
    axes.axhline(best.floor["macro_auc"], color="0.6", ls=":", label="plain statistics")
    axes.set(xlabel="minutes of one core", ylabel="macro AUC, validation", ylim=(None, 1.0))
    axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


if __name__ == "__main__":
    main()
