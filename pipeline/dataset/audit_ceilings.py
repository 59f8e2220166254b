"""Audit of the bounds: nothing tells two classes apart better than detectability allows."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from pipeline.core.errors import EngineError, MissingExtraError, PhysicsError
from pipeline.dataset.audit_leaks import is_smooth
from pipeline.dataset.audit_result import FAILED, NOT_JUDGED, PASSED, Ceilings, Check, PairLeak
from pipeline.dataset.detectability import dataset_ceilings
from pipeline.dataset.store import Dataset
from pipeline.detectability.measure import Survey, detectability
from pipeline.statistics.ceilings import Ceiling, ceiling

#: Lenses of each class whose d' is measured where the dataset stores none.
N_LENSES = 50
#: Standard errors by which an AUC must exceed a ceiling to be impossible.
_SIGMA = 3.0
NO_CEILINGS = Ceilings({}, {}, "not looked for")


def find_ceilings(dataset: Dataset) -> Ceilings:
    """AUC that no classifier can exceed, for every pair of classes and for each class (PHYSICS 8).

    From the d' that the dataset stores, else from test lenses drawn again. Pairs have equation
    (8.2); a class against the rest has the mean of its pairs, classes being balanced.
    """
    config = dataset.require_simulation("detectability")
    survey = Survey(config.scenes, config.seed, config.grid, config.instruments)
    if len(dataset.class_names) < 2:
        return Ceilings({}, {}, "there is only one class")
    if survey.unmeasurable:
        return Ceilings({}, {}, survey.unmeasurable)
    try:
        found = dataset_ceilings(dataset)
        if not all(c.n_images for c in found):
            found = _measured(dataset, survey)
    except (EngineError, MissingExtraError, PhysicsError) as error:
        return Ceilings({}, {}, str(error))
    if not all(np.isfinite(c.auc) for c in found):
        return Ceilings({}, {}, "d' is not defined for every pair")
    per_class = {
        name: float(np.mean([c.auc for c in found if name in c.classes]))
        for name in dataset.class_names
    }
    n_images = min(c.n_images for c in found)
    return Ceilings({c.classes: c.auc for c in found}, per_class, "", n_images)


def check_ceilings(pairs: Sequence[PairLeak], ceilings: Ceilings) -> Check:
    """Plain statistics must stay below the ceilings: above one, something else gives away."""
    if ceilings.problem:
        return Check("ceilings", NOT_JUDGED, ceilings.problem)
    above = [
        f"{p.auc:.3f} above {bound:.3f} on {p.pair}"
        for p in pairs
        if p.auc - _SIGMA * p.standard_error > (bound := _bound(ceilings.pairs, p))
    ]
    if above:
        return Check("ceilings", FAILED, f"statistics beat the bound: {', '.join(above)}")
    listed = ", ".join(f"{a}–{b} {auc:.4f}" for (a, b), auc in ceilings.pairs.items())
    return Check("ceilings", PASSED, f"AUC at most {listed} ({ceilings.n_lenses} lenses a pair)")


def _measured(dataset: Dataset, survey: Survey) -> tuple[Ceiling, ...]:
    config = dataset.require_simulation("detectability")
    index = dataset.indices("test")[:N_LENSES].tolist()
    found = []
    for pair in combinations(dataset.class_names, 2):
        # A class with substructure is compared with the smooth twin, or with the other class.
        first, second = sorted(pair, key=lambda name: is_smooth(config, name))
        if is_smooth(config, first):
            d = np.zeros(len(index))
        else:
            against = None if is_smooth(config, second) else second
            d = detectability(survey, index, first, (against,)).prior[:, 0]
        found.append(ceiling(pair, d))
    return tuple(found)


def _bound(pairs: Mapping[tuple[str, str], float], pair: PairLeak) -> float:
    return pairs[(pair.first, pair.second)]
