"""Audit of the pixels: finite, none twice, and the same again when simulated again."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import EngineError, MissingExtraError
from pipeline.core.provenance import package_versions
from pipeline.dataset.audit_result import FAILED, NOT_JUDGED, PASSED, Check
from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.duplicates import DIGEST_BYTES, image_digests, same_pixels
from pipeline.dataset.generate import record
from pipeline.dataset.splits import SPLITS
from pipeline.dataset.store import Dataset
from pipeline.dataset.writer import DECIDING_PACKAGES
from pipeline.engines.base import ENGINES, Engine
from pipeline.physics.scene import Scene, draw_scene

#: Images read at once: bounds memory, whatever the size of a shard.
BLOCK = 256
#: Largest and root-mean-square deviation between two engines, relative to the peak (PHYSICS 11).
TOLERANCE_MAX, TOLERANCE_RMS = 1e-3, 1e-4
#: Images named in a message.
_NAMED = 5


@dataclass(frozen=True)
class Resimulation:
    """Images of a dataset made again, and compared with another engine's.

    ``changed`` are the images that differ from those stored; ``problem`` says why the other engine
    has no opinion, and the deviations are None then.
    """

    reference: str
    n_images: int
    changed: tuple[int, ...]
    deviation_max: float | None
    deviation_rms: float | None
    problem: str = ""


def intact_blocks(dataset: Dataset, damaged: Iterable[int]) -> tuple[slice, ...]:
    """Slices of at most ``BLOCK`` images that cover every undamaged shard, in order."""
    bad = set(damaged)
    slices = []
    for shard in range(dataset.n_shards):
        if shard in bad:
            continue
        rows = dataset.rows(shard)
        starts = range(rows.start, rows.stop, BLOCK)
        slices += [slice(i, min(i + BLOCK, rows.stop)) for i in starts]
    return tuple(slices)


def examine_pixels(
    dataset: Dataset, blocks: Sequence[slice], advance: Callable[[int], None]
) -> tuple[Check, Check]:
    """Read every image once: whether all pixels are finite, and no image is there twice.

    Parameters
    ----------
    dataset : Dataset
    blocks : sequence of slice
    advance : callable
        Called with the number of images read.

    Returns
    -------
    finite, duplicates : Check
    """
    broken: list[int] = []
    index = np.concatenate([np.arange(b.start, b.stop) for b in blocks])
    digests = np.empty((len(index), DIGEST_BYTES), np.uint8)
    row = 0
    for block in blocks:
        images = dataset.read_images(block)
        good = np.isfinite(images).all(axis=(1, 2, 3))
        broken += (block.start + np.flatnonzero(~good)).tolist()
        digests[row : row + len(images)] = image_digests(images)
        row += len(images)
        advance(len(images))
    finite = Check("finite", PASSED, f"every pixel of {len(index)} images")
    if broken:
        finite = Check("finite", FAILED, f"pixels that are not finite: images {_some(broken)}")
    return finite, _duplicates(index, digests, dataset.split[index])


def _duplicates(
    index: NDArray[np.int64], digests: NDArray[np.uint8], split: NDArray[np.int8]
) -> Check:
    inverse = same_pixels(digests)
    counts = np.bincount(inverse)
    twice = np.flatnonzero(counts > 1)
    if not len(twice):
        return Check("duplicates", PASSED, f"{len(index)} images, all different")
    order = np.argsort(inverse, kind="stable")
    ends = np.cumsum(counts)
    groups = [order[ends[k] - counts[k] : ends[k]] for k in twice]
    across = [g for g in groups if len(set(split[g].tolist())) > 1]
    first = (across or groups)[0]
    where = ", ".join(f"{index[i]} ({SPLITS[int(split[i])]})" for i in first[:_NAMED])
    detail = (
        f"{len(groups)} images occur more than once, {len(across)} of them in several splits; "
        f"e.g. images {where}"
    )
    return Check("duplicates", FAILED, detail)


def resimulate(dataset: Dataset, index: NDArray[np.int64], *, compare: bool) -> Resimulation:
    """Make images again by the dataset's engine and noise stream; compare it with another engine.

    Parameters
    ----------
    dataset : Dataset
    index : array of int, shape (n,)
    compare : bool
        Ask the other engine: lenstronomy, or JAX where lenstronomy made the dataset.
    """
    if not len(index):
        return Resimulation("", 0, (), None, None)
    config = dataset.require_simulation("re-simulation")
    scenes = [draw_scene(config.scenes, config.seed, int(i)) for i in index]
    noiseless = _render(_build(config, config.engine.kind), config, scenes)
    stored = dataset.read_images(index)
    again = record(config, noiseless, scenes)
    changed = tuple(
        int(i) for i, a, b in zip(index, stored, again, strict=True) if not np.array_equal(a, b)
    )
    if not compare:
        return Resimulation("", len(index), changed, None, None)
    kind = "jax" if config.engine.kind == "lenstronomy" else "lenstronomy"
    try:
        other = _render(_build(config, kind), config, scenes)
    except (EngineError, MissingExtraError) as error:
        return Resimulation(kind, len(index), changed, None, None, str(error))
    peak = np.abs(other).max(axis=(2, 3))
    deviation = np.abs(noiseless - other)
    largest = deviation.max(axis=(2, 3)) / peak
    rms = np.sqrt((deviation**2).mean(axis=(2, 3))) / peak
    return Resimulation(kind, len(index), changed, float(largest.max()), float(rms.max()))


def judge_resimulation(dataset: Dataset, found: Resimulation) -> tuple[Check, ...]:
    """Turn a re-simulation into checks: the same bytes again, and agreement of two engines."""
    if not found.n_images:
        return (Check("re-simulation", NOT_JUDGED, "no image was asked for"),)
    same = Check("re-simulation", PASSED, f"{found.n_images} images, bit for bit the same again")
    if found.changed:
        what = f"{len(found.changed)} of {found.n_images} images come out different: "
        what += _some(found.changed)
        then, now = dataset.versions, package_versions()
        other = [
            f"{n} {then.get(n)} (here {now.get(n)})"
            for n in (*DECIDING_PACKAGES, "jax")
            if then.get(n) != now.get(n)
        ]
        same = Check("re-simulation", FAILED, what)
        if other:
            detail = f"{what}; the dataset was made with {', '.join(other)}"
            same = Check("re-simulation", NOT_JUDGED, detail)
    if not found.reference:
        return (same,)
    if found.deviation_max is None or found.deviation_rms is None:
        return same, Check("engines agree", NOT_JUDGED, f"{found.reference}: {found.problem}")
    made_by = dataset.require_simulation("the other engine").engine.kind
    good = found.deviation_max <= TOLERANCE_MAX and found.deviation_rms <= TOLERANCE_RMS
    detail = (
        f"{made_by} against {found.reference}, {found.n_images} noiseless "
        f"images: largest deviation {found.deviation_max:.1e} of the peak (allowed "
        f"{TOLERANCE_MAX:.0e}), rms {found.deviation_rms:.1e} (allowed {TOLERANCE_RMS:.0e})"
    )
    return same, Check("engines agree", PASSED if good else FAILED, detail)


def _build(config: DatasetConfig, kind: str) -> Engine:
    block = config.engine if kind == config.engine.kind else ENGINES.config(kind)
    engine: Engine = ENGINES.load(kind).build(block)
    return engine


def _render(engine: Engine, config: DatasetConfig, scenes: list[Scene]) -> NDArray[np.float64]:
    step = max(engine.batch, 1)
    parts = [
        engine.render(scenes[i : i + step], config.grid, config.instruments)
        for i in range(0, len(scenes), step)
    ]
    return np.concatenate(parts)


def _some(index: Sequence[int]) -> str:
    more = f" and {len(index) - _NAMED} more" if len(index) > _NAMED else ""
    return ", ".join(map(str, index[:_NAMED])) + more
