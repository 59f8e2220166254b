"""How well each method finds classes it never saw: python examples/anomaly_table.py OUT DATA...

    python examples/anomaly_table.py runs/anomaly legacy_model_ii.zarr contrast_hst.zarr

Every method is trained on the images without substructure of every dataset, by the same recipe, and
judged on the test split. Beside it: Mahalanobis' distance in 41 plain statistics, which needs no
network; the ceiling that the dataset or `docs/detectability.json` knows for classifiers that are
shown every class; and what DeepLense reports. Called again, finished runs are not trained again.
"""

import argparse
import json
from pathlib import Path

from pipeline.benchmark.published import published
from pipeline.dataset.store import open_dataset
from pipeline.training.anomaly_report import anomaly_ceilings, anomaly_floors
from pipeline.training.config import load_training_config
from pipeline.training.evaluate import Evaluation, evaluate_run
from pipeline.training.run import run_training

INLIERS = ("no",)
METHODS = ("vae", "adversarial", "mahalanobis", "knn")


def judged(out: Path, data: Path, method: str, settings: list[str]) -> Evaluation:
    """Train one method on one dataset and measure it."""
    config = load_training_config("anomaly", [f"task.method={method}", "loggers=[]", *settings])
    run = out / f"{data.stem}_{method}"
    run_training(config, data, run, "cpu")
    return evaluate_run(run, data, device="cpu")


def known_ceilings(preset: str) -> dict[str, float]:
    """Ceilings of a preset against the smooth class, of 1000 lenses each."""
    path = Path(__file__).parents[1] / "docs" / "detectability.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    keys = {name: f"{preset}_{name}" for name in ("subhalo", "vortex")}
    found = {name: float(rows[key]["auc"]) for name, key in keys.items() if key in rows}
    return {"all": sum(found.values()) / len(found), **found} if found else {}


def line(name: str, values: dict[str, float], ends: dict[str, tuple[float, float]]) -> str:
    """One row of the table: AUC against all, subhalo, vortex."""
    cells = []
    for title in ("all", "subhalo", "vortex"):
        value = values.get(title)
        low, high = ends.get(title, (None, None))
        interval = "" if low is None else f" ({low:.3f} to {high:.3f})"
        cells.append("" if value is None else f"{value:.3f}{interval}")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Print one table for each dataset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--method", action="append", help="only these methods; none trains none")
    parser.add_argument("--set", action="append", default=[], help="setting of the recipe")
    arguments = parser.parse_args()
    for data in arguments.data:
        print(f"\n{data.stem}\n\n| method | against all | subhalo | vortex |")
        print("| --- " * 4 + "|")
        for method in [m for m in arguments.method or METHODS if m != "none"]:
            found = judged(arguments.out, data, method, arguments.set)
            ends = {k[4:]: v for k, v in found.intervals.items() if k[:4] == "auc_"}
            values = {k[4:]: v for k, v in found.metrics.items() if k[:4] == "auc_"}
            print(line(f"`{method}`", values, ends), flush=True)
        dataset = open_dataset(data)
        print(line("plain statistics", *anomaly_floors(dataset, "test", INLIERS)))
        ceiling = anomaly_ceilings(dataset, "test", INLIERS) or known_ceilings(data.stem)
        print(line("ceiling", ceiling, {}), flush=True)
        for figure in published().figures:
            if figure.task == "anomaly" and figure.dataset == data.stem and figure.auc:
                print(line(f"DeepLense {figure.model}, theirs", figure.auc, {}))


if __name__ == "__main__":
    main()
