"""The pointing score: how often the peak of a map lies on the substructure.

Beside the maps of a network stand those of nobody and of everybody: a peak anywhere, a peak
wherever there is light, the brightest pixel, and the peak of d' per pixel, where a perfect observer
would look. Intervals are bootstraps over images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.explain.where import Mask, Whereabouts
from pipeline.statistics.intervals import Interval, mean_interval

type Floats = NDArray[np.float64]

ANYWHERE, LIGHT, BRIGHTEST, OBSERVER = (
    "any pixel", "any pixel, by its light", "brightest pixel", "d' per pixel",
)  # fmt: skip
ALL = "all"


@dataclass(frozen=True)
class Score:
    """A mean over images and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Pointing:
    """How well one kind of map points, in the images of one class.

    Attributes
    ----------
    map : str
        A method, or one of the four references.
    is_method : bool
    class_name : str
        ``all`` for every class with substructure.
    n : int
    change : Score
        Fraction of peaks on the pixels that hold half of d'^2.
    mass : Score or None
        Fraction of peaks near the vortex or the heaviest mass; None where no image has one.
    inside : Score
        Fraction of the map, of its whole sum, on the pixels of ``change``.
    gain : Score
        ``change`` minus what a pixel drawn by its light reaches in the same images.
    """

    map: str
    is_method: bool
    class_name: str
    n: int
    change: Score
    mass: Score | None
    inside: Score
    gain: Score


def pointing_scores(
    maps: Mapping[str, Floats],
    images: Floats,
    where: Whereabouts,
    class_of: Sequence[str],
) -> tuple[Pointing, ...]:
    """Scores of every map, for all images and for each class.

    Parameters
    ----------
    maps : mapping of str to Floats, each (n, H, W), not negative
        Maps by method.
    images : Floats, shape (n, H, W)
        As observed; for the brightest pixel.
    where : Whereabouts
        Of the same images.
    class_of : sequence of str, length n
    """
    names = np.array(class_of)
    every = {**maps, BRIGHTEST: images - images.min(axis=(1, 2), keepdims=True)}
    every[OBSERVER] = where.observer
    found = []
    for class_name in (ALL, *dict.fromkeys(class_of)):
        rows = np.flatnonzero((names == class_name) | (class_name == ALL))
        by_light = drawn(where.light[rows], where.change[rows])
        for name, values in every.items():
            hits = [peak_on(values[rows], target[rows]) for target in (where.change, where.mass)]
            inside = drawn(values[rows], where.change[rows])
            found.append(
                _pointing(name, name in maps, class_name, hits, inside, by_light, where.mass[rows])
            )
        even = np.ones_like(where.light[rows])
        for name, weight in ((LIGHT, where.light[rows]), (ANYWHERE, even)):
            hits = [drawn(weight, target[rows]) for target in (where.change, where.mass)]
            found.append(
                _pointing(name, False, class_name, hits, hits[0], by_light, where.mass[rows])
            )
    return tuple(found)


def peak_on(maps: Floats, target: Mask) -> Floats:
    """Whether the largest value of each map (n, H, W) lies on its target: 0 or 1, shape (n,).

    A map that is the same everywhere has no peak and misses.
    """
    flat, on = maps.reshape(len(maps), -1), target.reshape(len(maps), -1)
    rows = np.arange(len(maps))
    has_peak = flat.max(axis=1) > flat.min(axis=1)
    return np.asarray((on[rows, flat.argmax(axis=1)] & has_peak).astype(np.float64))


def drawn(weight: Floats, target: Mask) -> Floats:
    """Probability that a pixel drawn with these weights (n, H, W) lies on the target, (n,)."""
    total = weight.sum(axis=(1, 2))
    return np.asarray((weight * target).sum(axis=(1, 2)) / np.where(total > 0, total, 1.0))


def _pointing(
    name: str,
    is_method: bool,
    class_name: str,
    hits: Sequence[Floats],
    inside: Floats,
    by_light: Floats,
    mass: Mask,
) -> Pointing:
    has_place = mass.any(axis=(1, 2))
    return Pointing(
        map=name,
        is_method=is_method,
        class_name=class_name,
        n=len(inside),
        change=_score(hits[0]),
        mass=_score(hits[1][has_place]) if has_place.any() else None,
        inside=_score(inside),
        gain=_score(hits[0] - by_light),
    )


def _score(values: Floats) -> Score:
    ends: Interval = mean_interval(values)
    return Score(float(values.mean()), ends.low, ends.high)
