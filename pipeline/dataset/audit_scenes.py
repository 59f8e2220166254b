"""Audit of what the images are of: labels, splits, nuisances blind to the class, stored truth."""

from collections.abc import Hashable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.audit_result import FAILED, PASSED, Check
from pipeline.dataset.splits import GALAXY, SPLITS, split_codes
from pipeline.dataset.store import Dataset
from pipeline.physics.components import LightComponent, MassComponent
from pipeline.physics.scene import Scene, draw_scene, nuisance_columns

#: Chance of a false alarm over all comparisons of distributions together.
FALSE_ALARM = 1e-3
#: Images per class that enter one comparison of distributions.
_MAX_KS = 20_000
#: Stored and re-drawn numbers may differ by the last bits of another processor's logarithm.
_RTOL = 1e-12
_NAMED = 3


def check_labels(dataset: Dataset) -> Check:
    """Labels are image number modulo classes, so balanced; splits are those of the counter."""
    index = np.arange(dataset.n_images)
    n_classes = len(dataset.class_names)
    splits = dataset.require_simulation("the splits by rule").splits
    wrong = np.flatnonzero(dataset.labels != index % n_classes)
    if len(wrong):
        return Check("labels", FAILED, f"{len(wrong)} wrong labels, the first at image {wrong[0]}")
    galaxy = dataset.truth(GALAXY) if GALAXY in dataset.truth_info() else None
    expected = split_codes(index, n_classes, splits.train, splits.val, galaxy)
    wrong = np.flatnonzero(dataset.split != expected)
    if len(wrong):
        return Check("labels", FAILED, f"{len(wrong)} wrong splits, the first at image {wrong[0]}")
    counts = np.bincount(dataset.labels, minlength=n_classes)
    shares = np.bincount(dataset.split, minlength=len(SPLITS))
    detail = ", ".join(f"{n} {name}" for n, name in zip(counts, dataset.class_names, strict=True))
    detail += "; " + ", ".join(f"{n} {name}" for n, name in zip(shares, SPLITS, strict=True))
    return Check("labels", PASSED, detail)


def check_nuisances(dataset: Dataset, index: NDArray[np.int64]) -> Check:
    """Image i has the same lens and source, bit for bit, whatever its class.

    Parameters
    ----------
    dataset : Dataset
    index : array of int, shape (n,)
        Images to draw once in every class.
    """
    config, names = dataset.require_simulation("drawing scenes"), dataset.class_names
    for i in index:
        scenes = [draw_scene(config.scenes, config.seed, int(i), name) for name in names]
        first = _nuisances(scenes[0])
        for scene in scenes[1:]:
            other = _nuisances(scene)
            changed = [part for part in first if first[part] != other[part]]
            if changed:
                detail = (
                    f"image {i}: {', '.join(changed)} of class {scene.class_name!r} differ from "
                    f"those of class {names[0]!r}"
                )
                return Check("nuisances", FAILED, detail)
    detail = f"{len(index)} lenses and sources, bit for bit the same in {len(names)} classes"
    return Check("nuisances", PASSED, detail)


def check_truth(dataset: Dataset, index: NDArray[np.int64]) -> tuple[Check, Check]:
    """Stored truth is what drawing the scene again gives; one source galaxy is in one split only.

    Parameters
    ----------
    dataset : Dataset
    index : array of int, shape (n,)
        Images to draw again.

    Returns
    -------
    truth, groups : Check
    """
    config = dataset.require_simulation("drawing scenes")
    scenes = [draw_scene(config.scenes, config.seed, int(i)) for i in index]
    wrong = []
    columns = [name for name in dataset.truth_info() if name in scenes[0].truth]
    for name in columns:
        stored = dataset.truth(name)[index]
        drawn = np.array([scene.truth[name] for scene in scenes])
        same = np.isclose(stored, drawn, rtol=_RTOL, atol=0.0, equal_nan=True)
        wrong += [
            f"{name} of image {index[j]} is {stored[j]:g}, should be {drawn[j]:g}"
            for j in np.flatnonzero(~same)
        ]
    truth = Check("truth", PASSED, f"{len(columns)} values of each of {len(index)} images")
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        truth = Check("truth", FAILED, "; ".join(wrong[:_NAMED]) + more)
    return truth, _check_groups(scenes, dataset.split[index])


def check_distributions(dataset: Dataset) -> Check:
    """Every number that no class may touch is distributed alike in all classes (KS test)."""
    from scipy.stats import ks_2samp  # type: ignore[import-untyped]  # heavy

    found, config = [], dataset.require_simulation("telling nuisances")
    for name in nuisance_columns(config.scenes):
        values = dataset.truth(name)
        known = np.isfinite(values)
        if not known.any() or np.ptp(values[known]) == 0.0:
            continue
        parts = [
            values[known & (dataset.labels == k)][:_MAX_KS] for k in range(len(dataset.class_names))
        ]
        for (a, x), (b, y) in combinations(zip(dataset.class_names, parts, strict=True), 2):
            p_value = float(ks_2samp(x, y).pvalue) if len(x) and len(y) else 0.0
            found.append((p_value, f"{name} ({a}–{b})"))
    if not found:
        return Check("distributions", PASSED, "no nuisance varies")
    limit = FALSE_ALARM / len(found)
    bad = sorted((p, what) for p, what in found if p < limit)
    if bad:
        what = ", ".join(f"{what}: p = {p:.1e}" for p, what in bad)
        return Check("distributions", FAILED, f"differ between classes: {what}")
    p, what = min(found)
    detail = f"{len(found)} comparisons of nuisances; smallest p {p:.2g}, {what}"
    return Check("distributions", PASSED, detail)


def _check_groups(scenes: Sequence[Scene], split: NDArray[np.int8]) -> Check:
    """Images of one real source galaxy must not lie in two splits."""
    where: dict[str, set[int]] = {}
    for scene, code in zip(scenes, split, strict=True):
        if scene.group:
            where.setdefault(scene.group, set()).add(int(code))
    torn = sorted(group for group, codes in where.items() if len(codes) > 1)
    if torn:
        more = f" and {len(torn) - _NAMED} more" if len(torn) > _NAMED else ""
        return Check("groups", FAILED, f"in several splits: {', '.join(torn[:_NAMED])}{more}")
    detail = f"{len(where)} source galaxies, each in one split" if where else "no real galaxies"
    return Check("groups", PASSED, detail)


def _nuisances(scene: Scene) -> dict[str, Hashable]:
    """Everything about a scene that its class must not decide, as values to compare.

    The Einstein radius of the macro lens is left out: it balances the mass of the substructure
    (PHYSICS 4.6); the host keeps the total one.
    """
    main, *rest = scene.macro
    kept = {name: value for name, value in main.params.items() if name != "theta_E"}
    return {
        "host": tuple((name, value) for name, value in vars(scene.host).items()),
        "macro lens": (main.profile, main.z, *kept.items(), *map(_mass, rest)),
        "source": tuple(map(_light, scene.source)),
        "lens light": tuple(map(_light, scene.lens_light)),
        "source galaxy": scene.group,
    }


def _mass(component: MassComponent) -> Hashable:
    return component.profile, component.z, *component.params.items()


def _light(component: LightComponent) -> Hashable:
    magnitude = np.asarray(component.magnitude, np.float64).tobytes()
    return component.profile, magnitude, *component.params.items()
