"""Train every model on the benchmarks within a budget, and write ``docs/leaderboard.md``.

    python examples/leaderboard.py --out leaderboard                    # two cores for an hour
    python examples/leaderboard.py --out leaderboard --core-minutes 600 --seeds 5 --model cvt

The plan (presets, models, seeds, budget) is kept in ``leaderboard/plan.json``; stopped, the same
command goes on, and a finished training is never repeated. Of each preset the table is that of
``deeplense compare``. The hash of every dataset stands in ``docs/leaderboard.json``: rows on other
images are refused there, because they are not comparable, unless ``--replace`` begins anew.
"""

import argparse
import json
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pipeline.benchmark.compare import Comparison, Reference, compare
from pipeline.benchmark.judge import Row
from pipeline.benchmark.published import published
from pipeline.benchmark.tables import table_for_people
from pipeline.core.errors import ConfigError, DatasetMismatchError
from pipeline.core.files import atomic_write
from pipeline.core.provenance import package_versions
from pipeline.workflow import steps

DOCS = Path(__file__).resolve().parents[1] / "docs"
PRESETS = ("demo", "model_ii_fixed")
MODELS = (
    "lens_hybrid", "resnet34/mini", "efficientnet_b0", "cvt/mini", "vit/mini",
    "c8_steerable_cnn/mini",
)  # fmt: skip
#: What of a plan makes its rows; the rest may change when a run goes on.
KEPT = ("presets", "models", "seeds", "images", "core_minutes", "config", "set")
#: Packages whose versions stand on the page.
VERSIONS = ("torch", "jax", "lenstronomy", "numpy")


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, train what is missing, write page and figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", action="append", help=f"default: {', '.join(PRESETS)}")
    parser.add_argument("--model", action="append", help="KIND, KIND/VARIANT or all; repeatable")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=6000, help="of each preset")
    parser.add_argument(
        "--core-minutes", type=float, default=120.0,
        help="processor time of all trainings together; two cores for an hour are 120",
    )  # fmt: skip
    parser.add_argument("--config", help="training preset of all; else that of each model's name")
    parser.add_argument("--set", action="append", default=[], help="key.key=value of the training")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("leaderboard"))
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the page")
    parser.add_argument("--replace", action="store_true", help="begin the page anew")
    args = parser.parse_args(arguments)
    plan = {
        "presets": args.preset or list(PRESETS),
        "models": args.model or list(MODELS),
        **{name: getattr(args, name) for name in KEPT[2:]},
    }
    keep_plan(args.out / "plan.json", plan)
    known = {} if args.replace else read(args.docs / "leaderboard.json")
    for preset in plan["presets"]:
        name = Path(preset).stem
        data = args.out / name / "data.zarr"
        made = steps.simulate(preset, data, images=plan["images"])
        require_same(known.get(name), made.dataset_sha256)
        found = compare(
            [], out=args.out / name, data=data, models=plan["models"], seeds=plan["seeds"],
            config=plan["config"], device=args.device,
            overrides=[f"max_core_minutes={share(plan):g}", *plan["set"]],
        )  # fmt: skip
        known[name] = entry(found, plan, args.device)
        text = json.dumps(plain(known), indent=1, ensure_ascii=False, allow_nan=False)
        atomic_write(args.docs / "leaderboard.json", text + "\n")
        atomic_write(args.docs / "leaderboard.md", page(read(args.docs / "leaderboard.json")))
    print(f"{args.docs / 'leaderboard.md'}: {', '.join(known)}")


def keep_plan(path: Path, plan: dict[str, Any]) -> None:
    """Write the plan, or refuse one that differs from what is half done.

    Raises
    ------
    ConfigError
        Naming what differs.
    """
    before = read(path)
    wrong = [f"{k} {before[k]} instead of {plan[k]}" for k in before if before[k] != plan[k]]
    if wrong:
        raise ConfigError(
            f"{path}: holds another plan ({'; '.join(wrong)}); go on with it, or choose another "
            "--out"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(plan, indent=1) + "\n")


def share(plan: dict[str, Any]) -> float:
    """Processor minutes of one training; ``shortcut``, always added, needs next to none."""
    n_trainings = len(plan["presets"]) * len(plan["models"]) * plan["seeds"]
    return float(f"{plan['core_minutes'] / n_trainings:.3g}")


def require_same(before: dict[str, Any] | None, sha256: str) -> None:
    """Refuse to mix images, before anything is trained.

    Raises
    ------
    DatasetMismatchError
        If rows on other images are on the page.
    """
    if before is not None and before["dataset_sha256"] != sha256:
        raise DatasetMismatchError(
            f"leaderboard.json: its rows are of dataset {before['dataset_sha256'][:12]}, these "
            f"would be of {sha256[:12]}: not comparable; --replace begins anew"
        )


def entry(found: Comparison, plan: dict[str, Any], device: str) -> dict[str, Any]:
    """What the page keeps of one preset."""
    bounds = [asdict(one) for one in found.references if one.kind != "published"]
    versions = package_versions()
    return {
        "dataset_sha256": found.dataset_sha256,
        "images": plan["images"],
        "split": found.split,
        "n": found.n,
        "seeds": plan["seeds"],
        "core_minutes": share(plan),
        "device": device,
        "versions": {name: versions[name] for name in VERSIONS if name in versions},
        "rows": [asdict(row) for row in found.rows],
        "bounds": bounds,
    }


def page(known: dict[str, Any]) -> str:
    """Lay the page out, from what ``leaderboard.json`` holds."""
    parts = [
        "# Leaderboard",
        "Written by `examples/leaderboard.py`, which trains, judges and writes; nothing here is "
        "typed by hand, and the figures lie in `leaderboard.json`. Every model of a table saw the "
        "same training images and is judged on the same test images, given by the hash of their "
        "dataset. In brackets: 95 % intervals, test images and seeds resampled; p: equality with "
        "the best row, corrected for the number of models (Holm). `shortcut` is boosted trees on "
        "plain statistics of the images: what can be had without looking at the lensing. The "
        "ceiling is what no network can exceed, given how strongly the substructure stands out "
        "([detectability](detectability.md)).",
    ]
    for name, one in known.items():
        versions = ", ".join(f"{package} {v}" for package, v in one["versions"].items())
        parts += [
            f"## {name}",
            f"{one['n']} {one['split']} images of {one['images']}, dataset "
            f"`{one['dataset_sha256'][:16]}`; {one['seeds']} "
            f"{'seed' if one['seeds'] == 1 else 'seeds'} a model, at most {one['core_minutes']:g} "
            f"processor minutes a training, device {one['device']}; {versions}.",
            markdown(*table_for_people(rows_of(one), [Reference(**b) for b in one["bounds"]])),
        ]
    return "\n\n".join([*parts, *theirs()]) + "\n"


def rows_of(one: dict[str, Any]) -> list[Row]:
    """Rows as ``compare`` made them."""
    pairs = [field.name for field in fields(Row) if field.name.endswith("_interval")]
    return [
        Row(**{k: tuple(v) if k in pairs and v else v for k, v in row.items()})
        for row in one["rows"]
    ]


def theirs() -> list[str]:
    """Figures that DeepLense reports, marked as its own."""
    known = published()
    figures = [one for one in known.figures if one.task == "classification"]
    lines = [
        [one.model, one.dataset, f"{one.macro_auc:.4f}", f"{one.accuracy:.4f}", "theirs"]
        for one in figures
        if one.macro_auc is not None and one.accuracy is not None
    ]
    return [
        "## DeepLense's published figures",
        "Theirs, not ours: reported by DeepLense for its own networks on its own images, which "
        "need not match the public simulation scripts; no figure has an error bar. They are no "
        "rows of the tables above: other images, other training. The faults of those simulations "
        "give the "
        f"class away ([physics](physics.md#faults-of-deeplensesim)). Source: "
        f"{known.sources['transformers']}.",
        markdown(["model", "images", "macro AUC", "accuracy", "whose"], lines),
    ]


def markdown(header: list[str], lines: list[list[str]]) -> str:
    """A table."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in rows)


def read(path: Path) -> dict[str, Any]:
    """JSON object of a file; empty if there is none."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return found


def plain(value: Any) -> Any:
    """JSON data; numbers that are not finite become null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    main()
