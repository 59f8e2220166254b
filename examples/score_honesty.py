"""Whether a score is as sure as it says: python examples/score_honesty.py RUN HELD_OUT.zarr.

HELD_OUT.zarr holds simulated images that the run has never seen, not even in validation: the same
preset with another seed. They are scored by the command's own code, and so is junk without a lens.
Told are the images flagged as foreign; for a regression, how often intervals hold the truth; for a
classifier, how often the fraction of a class in a mixture of 200 images lies in its interval, when
the confusion is measured on as many test images as the run's evaluation had.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from astropy.table import Table
from novelty_methods import junk

from pipeline.checkpoint.spec import EVALUATION_FILE, find_run, read_spec
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.inference.catalogue import OOD_NOVELTY
from pipeline.inference.score import run_scoring
from pipeline.statistics.population import class_fractions

N_MIXTURE, N_MIXTURES, SHARES = 200, 100, (0.1, 0.5, 0.9)
#: Lower and upper quantile of each interval, by the ends of their columns' names.
INTERVALS = {0.68: ("q16", "q84"), 0.90: ("q05", "q95"), 0.95: ("q025", "q975")}


def scores(run: Path, images: Path, out: Path) -> Table:
    """Table of scores of a dataset or of a stack of images."""
    run_scoring(run, [images], out)
    return Table.read(out)


def foreign(table: Table) -> float:
    """Fraction of the scored images that novelty flags."""
    scored = table["status"] == "scored"
    return float(np.mean(np.asarray(table["novelty"][scored]) > OOD_NOVELTY))


def novelty(run: Path, data: Dataset, held_out: Table, folder: Path) -> None:
    """Flagged images: simulated ones, and junk as bright and noisy as they are."""
    print(f"held-out simulations: {foreign(held_out):.1%} of {len(held_out)} flagged")
    like = np.asarray(data.first_images(min(200, data.n_images)))
    for name, images in junk(like, np.random.default_rng(0)).items():
        path = folder / f"{name}.npy"
        np.save(path, images[:, 0])
        table = scores(run, path, folder / f"{name}.ecsv")
        refused = int(np.sum(table["status"] != "scored"))
        print(f"{name}: {foreign(table):.1%} of {len(table) - refused} flagged, {refused} refused")


def mixtures(run: Path, labels: np.ndarray, truth: np.ndarray, names: tuple[str, ...]) -> None:
    """Coverage of the 90 % interval of each class's fraction in mixtures.

    The luck of the test that measured the confusion is part of it: each mixture gets a test of its
    own, as large as the run's, from images that are not in the mixture.
    """
    evaluation = json.loads((run / EVALUATION_FILE).read_text(encoding="utf-8"))
    n_test = np.array(evaluation["confusion"]).sum(axis=1)
    rng = np.random.default_rng(1)
    needed = n_test + round(N_MIXTURE * max(SHARES))
    have = named(truth, names)
    if (have < needed).any():
        print(
            f"mixtures need {needed.tolist()} images of the classes {names}, found {have.tolist()}"
        )
        return
    for k, name in enumerate(names):
        for share in SHARES:
            counts = np.full(len(names), round(N_MIXTURE * (1 - share) / (len(names) - 1)))
            counts[k] = N_MIXTURE - (counts.sum() - counts[k])
            found = []
            for seed in range(N_MIXTURES):
                test, mixed = [], []
                for other, n, n_mixed in zip(names, n_test, counts, strict=True):
                    rows = rng.permutation(np.flatnonzero(truth == other))
                    test.append(named(labels[rows[:n]], names))
                    mixed.append(named(labels[rows[n : n + n_mixed]], names))
                confusion = np.array(test)
                found.append(class_fractions(sum(mixed), confusion, level=0.90, seed=seed))
            true = counts[k] / N_MIXTURE
            held = np.mean([f.low[k] <= true <= f.high[k] for f in found])
            mean = np.mean([f.mean[k] for f in found])
            print(f"{name} {true:.2f}: in its interval {held:.0%}, mean estimate {mean:.3f}")


def named(labels: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """How many images are called each class."""
    return np.array([np.sum(labels == name) for name in names])


def coverage(table: Table, target: str, truth: np.ndarray) -> None:
    """How often intervals of a target hold the truth."""
    known = np.isfinite(truth) & (np.asarray(table["status"]) == "scored")
    for level, (low, high) in INTERVALS.items():
        inside = (truth[known] >= np.asarray(table[f"{target}_{low}"])[known]) & (
            truth[known] <= np.asarray(table[f"{target}_{high}"])[known]
        )
        error = np.sqrt(level * (1 - level) / len(inside))
        print(f"{target}: {level:.0%} interval holds {inside.mean():.1%} +- {error:.1%}")


def main() -> None:
    """Print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=find_run, help="run folder, or a network that ships")
    parser.add_argument("data", type=Path)
    asked = parser.parse_args()
    data = open_dataset(asked.data)
    spec = read_spec(asked.run)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = scores(asked.run, asked.data, folder / "held_out.ecsv")
        order = [int(str(path).rpartition("[")[2].rstrip("]")) for path in table["path"]]
        novelty(asked.run, data, table, folder)
    has_classes = bool(spec.class_names) and "label" in table.colnames
    if has_classes and not (asked.run / EVALUATION_FILE).is_file():
        print(f"no {EVALUATION_FILE} in {asked.run}: its confusion is unknown, no mixtures")
    elif has_classes:
        names = np.array(data.class_names)[np.asarray(data.labels)[order]]
        trusted = np.asarray(table["novelty"]) <= OOD_NOVELTY
        mixtures(asked.run, np.asarray(table["label"])[trusted], names[trusted], spec.class_names)
    for target in spec.targets:
        coverage(table, "log10_axion_mass", np.log10(data.truth(target.name))[order])


if __name__ == "__main__":
    main()
