"""Detectability in a dataset: which images have it, its columns of the truth, and its ceilings.

Every value is a pure function of the configuration and the image's number, so a shard stays one.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.core.config import dump, validate
from pipeline.core.logs import get_logger
from pipeline.core.provenance import canonical_json
from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.splits import SPLITS
from pipeline.detectability.measure import Measure, Survey
from pipeline.physics.components import TruthColumn
from pipeline.physics.scene import Scene, truth_columns
from pipeline.statistics.ceilings import Ceiling, ceiling

if TYPE_CHECKING:
    from pipeline.dataset.store import Dataset

#: Of ``detectability: subset``, one lens in so many of each class, besides the whole test split.
SUBSET = 50
KINDS = {
    "raw": "nuisances known",
    "prior": "nuisances under their priors",
    "refit": "nuisances refitted freely",
}

_logger = get_logger("detectability")


def dataset_columns(config: DatasetConfig) -> dict[str, TruthColumn]:
    """Every column of the truth of a dataset: those of its scenes, then those of detectability."""
    columns = truth_columns(config.scenes)
    for name, other in _names(config).items():
        kind, what = name.split("_")[1], "the smooth twin" if other is None else f"class {other}"
        columns[name] = TruthColumn("", f"detectability against {what}, {KINDS[kind]}")
    return columns


def truth_values(
    config: DatasetConfig, scenes: Sequence[Scene], split: NDArray[np.int8]
) -> NDArray[np.float64]:
    """Values of :func:`dataset_columns`.

    Parameters
    ----------
    config : DatasetConfig
    scenes : sequence of Scene, length n
    split : NDArray of int8, shape (n,)
        Split code of each.

    Returns
    -------
    NDArray, shape (n_columns, n)
        Detectability is NaN for lenses without substructure and outside the chosen images.
    """
    known = [[scene.truth[name] for scene in scenes] for name in truth_columns(config.scenes)]
    names = _names(config)
    values = np.full((len(known) + len(names), len(scenes)), np.nan)
    values[: len(known)] = known
    if not names:
        return values
    chosen = _chosen(config, scenes, split)
    if chosen:
        against = list(dict.fromkeys(names.values()))
        found = _measure(canonical_json(dump(config)))([scenes[i] for i in chosen], against)
        for row, (name, other) in enumerate(names.items(), start=len(known)):
            of_kind = getattr(found, name.split("_")[1])
            values[row, chosen] = of_kind[:, against.index(other)]
    return values


def dataset_ceilings(
    dataset: Dataset,
    kind: Literal["raw", "prior", "refit"] = "prior",
    split: str | None = None,
) -> tuple[Ceiling, ...]:
    """Upper bounds on AUC and balanced accuracy for every pair of classes.

    Parameters
    ----------
    dataset : Dataset
    kind : str
        ``prior`` is the bound to report beside a network, ``raw`` the strict one.
    split : str, optional
        Only images of this split.

    Returns
    -------
    tuple of Ceiling
        Counts are 0 and bounds NaN where no image has a value (``detectability: none``, or a
        telescope without noise).
    """
    config = dataset.require_simulation("detectability")
    names = _names(config)
    inside = np.ones(dataset.n_images, bool)
    if split is not None:
        inside[:] = False
        inside[dataset.indices(split)] = True
    plain = set(dataset.class_names) - set(substructured(config))
    found = []
    for pair in itertools.combinations(dataset.class_names, 2):
        d = []
        for name, other in (pair, pair[::-1]):
            column = f"d_{kind}" if other in plain else f"d_{kind}_vs_{other}"
            if name not in plain and column in names:
                label = dataset.class_names.index(name)
                d.append(dataset.truth(column)[inside & (dataset.labels == label)])
        found.append(ceiling(pair, np.concatenate(d) if d else np.zeros(0)))
    return tuple(found)


def _names(config: DatasetConfig) -> dict[str, str | None]:
    """Columns of detectability, and the class each compares with (None: the smooth twin)."""
    if config.detectability == "none":
        return {}
    names: dict[str, str | None] = {f"d_{kind}": None for kind in KINDS}
    others = substructured(config)
    if len(others) > 1:
        names |= {f"d_{kind}_vs_{other}": other for other in others for kind in KINDS}
    return names


def substructured(config: DatasetConfig) -> tuple[str, ...]:
    """Names of the classes whose lenses hold substructure."""
    blocks = config.scenes.classes.items()
    return tuple(name for name, block in blocks if dump(block)["substructure"]["kind"] != "smooth")


def _chosen(config: DatasetConfig, scenes: Sequence[Scene], split: NDArray[np.int8]) -> list[int]:
    """Positions of the scenes to measure."""
    with_substructure, test = set(substructured(config)), SPLITS.index("test")
    return [
        i
        for i, scene in enumerate(scenes)
        if scene.class_name in with_substructure
        and (
            config.detectability == "all"
            or (scene.index // len(config.class_names)) % SUBSET == 0
            or split[i] == test
        )
    ]


@functools.lru_cache(maxsize=1)
def _measure(config_json: str) -> Measure:
    """Return what measures; its prior widths are worth keeping from shard to shard."""
    config = validate(json.loads(config_json), DatasetConfig)
    survey = Survey(config.scenes, config.seed, config.grid, config.instruments)
    if survey.unmeasurable:
        _logger.warning("detectability is NaN: %s", survey.unmeasurable)
    return Measure(survey)
