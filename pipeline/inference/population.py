"""The fraction of each class in what was scored, or why none can be told."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.checkpoint.spec import EVALUATION_FILE, run_text
from pipeline.inference.catalogue import OOD_NOVELTY, Catalogue
from pipeline.statistics.population import class_fractions

if TYPE_CHECKING:
    from pipeline.checkpoint.any_run import AnyRun

#: Fewer images than this say too little of a population.
MIN_IMAGES = 20
#: Fraction of foreign images that is tolerated; the threshold itself calls one in a hundred so.
MAX_FOREIGN = 0.05
#: Mean novelty that is tolerated; images like the validation images have 0.5.
MAX_MEAN_NOVELTY = 0.75
LEVEL = 0.90


def estimate_population(runs: "Sequence[AnyRun]", table: Catalogue) -> dict[str, Any]:  # Any: JSON
    """Fraction of each class with its interval, corrected by the confusion on simulated images.

    Images that novelty calls foreign are left out; if they are many, or the confusion was never
    measured, there is no answer but a reason.

    Returns
    -------
    dict
        ``fractions`` (class -> mean, low, high), ``level``, ``images``, or ``refused``.
    """
    if not table.class_names:
        return {}
    scored = table.columns["scored"]
    foreign = scored & (table.columns["novelty"] > OOD_NOVELTY)
    n_scored, n_foreign = int(scored.sum()), int(foreign.sum())
    if n_scored < MIN_IMAGES:
        return {"refused": f"{n_scored} scored images; at least {MIN_IMAGES} are needed"}
    allowed = MAX_FOREIGN * n_scored + 2 * np.sqrt(MAX_FOREIGN * n_scored)
    mean = float(table.columns["novelty"][scored].mean())
    if n_foreign > allowed or mean > MAX_MEAN_NOVELTY:
        return {
            "refused": "the images are unlike the simulations the network was trained on "
            f"({n_foreign / n_scored:.0%} foreign, mean novelty {mean:.2f}); the confusion "
            "measured there does not hold for them"
        }
    confusion = _confusion(runs)
    if isinstance(confusion, str):
        return {"refused": confusion}
    use = scored & ~foreign
    labels = [table.columns["label"][row] for row in np.flatnonzero(use)]
    counts = np.array([labels.count(name) for name in table.class_names])
    found = class_fractions(counts, confusion, level=LEVEL)
    rounded = zip(table.class_names, found.mean, found.low, found.high, strict=True)
    return {
        "fractions": {name: [round(float(v), 4) for v in values] for name, *values in rounded},
        "level": LEVEL,
        "images": len(labels),
    }


def _confusion(runs: "Sequence[AnyRun]") -> np.ndarray | str:
    """Counts of true against named class in the run's evaluation, or what is missing."""
    if len(runs) > 1:
        return "the confusion of an ensemble was not measured; score with one run"
    run = runs[0]
    try:
        content = json.loads(run_text(run.path, EVALUATION_FILE) or "")
        confusion = np.array(content["confusion"], dtype=np.int64)
        is_same = content["checkpoint_sha256"] == run.sha256
    except (OSError, ValueError, KeyError, TypeError):
        return "the confusion was not measured; run 'deeplense evaluate' first"
    k = len(run.class_names)
    if not is_same or confusion.shape != (k, k) or confusion.sum(axis=1).min() < 1:
        return "the evaluation is of another checkpoint; run 'deeplense evaluate' again"
    return confusion
