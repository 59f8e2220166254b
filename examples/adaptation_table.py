"""What a shift costs and what adapting regains: python examples/adaptation_table.py.

    python examples/adaptation_table.py runs/shift model_ii_fixed.zarr model_iii_fixed.zarr

Every method is trained on the labelled source and the target's images without labels, by the same
recipe, and judged on the test splits of both; a network trained on the target's labels shows what
there was to regain. Called again, finished runs are not trained again.
"""

import argparse
from pathlib import Path

from pipeline.benchmark.published import published
from pipeline.training.config import load_training_config
from pipeline.training.evaluate import Evaluation, evaluate_run
from pipeline.training.run import run_training

NAMES = ("accuracy", "macro AUC")
METHODS = ("source_only", "coral", "dann", "adamatch")


def trained(out: Path, source: Path, target: Path, method: str, settings: list[str]) -> Path:
    """Train one method."""
    task = [f"task.method={method}", f"task.target={target}", "loggers=[]"]
    run = out / f"{source.stem}_{target.stem}_{method}"
    run_training(load_training_config("adaptation", [*task, *settings]), source, run, "cpu")
    return run


def cells(found: Evaluation) -> str:
    """Accuracy and macro AUC with their intervals."""
    told = []
    for name in ("accuracy", "macro_auc"):
        low, high = found.intervals[name]
        told.append(f"{found.metrics[name]:.3f} ({low:.3f} to {high:.3f})")
    return " | ".join(told)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("out", "source", "target"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--method", action="append", help="only these methods")
    parser.add_argument("--set", action="append", default=[], help="setting of the recipe")
    a = parser.parse_args()
    head = ("method", *(f"{name}, {d}" for d in ("source", "target") for name in NAMES))
    print(f"| {' | '.join(head)} |\n" + "| --- " * len(head) + "|")
    for method in a.method or METHODS:
        run = trained(a.out, a.source, a.target, method, a.set)
        here, there = (evaluate_run(run, data, device="cpu") for data in (a.source, a.target))
        print(f"| `{method}` | {cells(here)} | {cells(there)} |", flush=True)
    run = trained(a.out, a.target, a.target, "source_only", a.set)
    print(f"| labels of the target | | | {cells(evaluate_run(run, a.target, device='cpu'))} |")
    for figure in published().figures:
        if figure.task == "adaptation" and figure.accuracy and figure.macro_auc:
            told = f"{figure.accuracy:.3f} | {figure.macro_auc:.3f}"
            print(f"| DeepLense {figure.model}, {figure.dataset}, theirs | | | {told} |")


if __name__ == "__main__":
    main()
