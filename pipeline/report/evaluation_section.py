"""The chapter about a network's test: ROC curves, calibration and confusion."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.checkpoint.spec import EVALUATION_FILE
from pipeline.core.errors import CheckpointError
from pipeline.report.figures import reliability, roc_curves
from pipeline.report.page import Chart, Charts, Confusion, Section, Table, Tile

Content = Mapping[str, Any]  # Any: plain JSON data, as ``Evaluation.to_json`` wrote it


def read_evaluation(run: Path) -> Content | None:
    """Content of a run's ``evaluation.json``; None if it was not evaluated yet.

    Raises
    ------
    CheckpointError
        If the file cannot be read.
    """
    path = run / EVALUATION_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    return dict(content)


def evaluation_tiles(content: Content) -> tuple[Tile, ...]:
    """Headline numbers: macro AUC and accuracy, with their intervals."""
    metrics = content["metrics"]
    if not content["roc"]:
        name = next(iter(metrics), "")
        return (Tile(name, f"{metrics[name]:.3f}", _between(content, name, 3)),) if name else ()
    n_classes = len(content["class_names"])
    return (
        Tile("macro AUC", f"{metrics['macro_auc']:.3f}", _between(content, "macro_auc", 3)),
        Tile(
            "accuracy",
            f"{100 * metrics['accuracy']:.0f} %",
            f"guessing gives {100 / n_classes:.0f} %; {_between(content, 'accuracy', 2)}",
        ),
    )


def evaluation_section(content: Content) -> Section:
    """Show how well the network separates the classes on images it has never seen.

    Parameters
    ----------
    content : mapping
        Content of ``evaluation.json``.

    Returns
    -------
    Section
    """
    split = {"test": "test images, which played no part in training or in any choice"}
    lead = f"{content['n']:,} {split.get(content['split'], content['split'] + ' images')}."
    if not content["same_dataset"]:
        lead += " They come from another dataset than the one the network was trained on."
    if not content["roc"]:
        return Section("How well it does", lead, (_numbers(content),))
    return Section(
        "How well it does",
        lead,
        (Charts((_roc(content), _calibration(content))), _confusion(content), _numbers(content)),
    )


def _roc(content: Content) -> Chart:
    points = {
        c["class_name"]: (c["false_positive_rate"], c["true_positive_rate"]) for c in content["roc"]
    }
    auc = {c["class_name"]: c["auc"] for c in content["roc"] if c["auc"] is not None}
    return Chart(
        roc_curves(points, auc),
        "Each class against all others. Lower the bar for calling an image a class, and more of "
        "its own are found (up), at the price of more false alarms (right). The area under the "
        "curve is the chance that an image of the class is ranked above one that is not.",
    )


def _calibration(content: Content) -> Chart:
    bins = content["reliability"]
    ece = content["metrics"]["ece"]
    return Chart(
        reliability(
            bins["edges"],
            bins["count"],
            [float("nan") if v is None else v for v in bins["confidence"]],
            [float("nan") if v is None else v for v in bins["accuracy"]],
        ),
        "Can the probabilities be believed? On the dashed line, of the images called with 80 % "
        "confidence, 80 % are right. Bars are 95 % intervals. The mean distance from the line "
        f"(expected calibration error) is {ece:.3f}.",
    )


def _confusion(content: Content) -> Confusion:
    return Confusion(
        tuple(content["class_names"]),
        tuple(tuple(row) for row in content["confusion"]),
        "What became of the images of each class (rows): the share, and the number, called each "
        "class. Green is right.",
    )


def _numbers(content: Content) -> Table:
    spoken = {"accuracy": "accuracy", "macro_auc": "AUC, mean of classes"}
    spoken |= {f"auc_{name}": f"AUC, {name}" for name in content["class_names"]}
    spoken |= {"cross_entropy": "cross-entropy (nat)", "ece": "calibration error"}
    spoken |= {name: name.replace("_", " ") for name in content["metrics"] if name not in spoken}
    rows = []
    for name, text in spoken.items():
        value = content["metrics"].get(name)
        if value is not None:
            rows.append((text, f"{value:.4f}", _between(content, name, 4).removeprefix("95 %: ")))
    return Table(
        ("metric", "value", "95 % interval"),
        tuple(rows),
        "Intervals from bootstrap resampling of the test images; they do not include the spread "
        "between trainings.",
        numeric=(1, 2),
    )


def _between(content: Content, name: str, digits: int) -> str:
    ends = content["intervals"].get(name)
    if ends is None or None in ends:
        return ""
    return f"95 %: {ends[0]:.{digits}f} to {ends[1]:.{digits}f}"
