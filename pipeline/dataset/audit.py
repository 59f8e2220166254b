"""Is a dataset sound? Digests, structure, re-simulation by a second engine, leaks, ceilings.

The verdict is one: passed, or failed by named checks. What cannot be judged (too few images to say
that nothing leaks, say) is named too, and never counts as passed in silence.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import DatasetIncompleteError
from pipeline.core.logs import progress
from pipeline.core.seeding import RunStream, image_rng
from pipeline.dataset.audit_ceilings import NO_CEILINGS, check_ceilings, find_ceilings
from pipeline.dataset.audit_leaks import (
    FULL_PER_CLASS,
    MIN_PER_CLASS,
    LeakAudit,
    audit_leaks,
    audit_sham,
    not_judged,
)
from pipeline.dataset.audit_pixels import (
    Resimulation,
    examine_pixels,
    intact_blocks,
    judge_resimulation,
    resimulate,
)
from pipeline.dataset.audit_result import FAILED, NOT_JUDGED, PASSED, Audit, Ceilings, Check
from pipeline.dataset.audit_scenes import (
    check_distributions,
    check_labels,
    check_nuisances,
    check_truth,
)
from pipeline.dataset.store import Dataset, damaged_shards, open_dataset

#: Images simulated again, by default and in the short form.
N_RESIMULATE, N_RESIMULATE_SHORT = 60, 6
#: Scenes drawn again, to compare truth and nuisances.
N_REDRAW, N_REDRAW_SHORT = 1000, 60
#: Of those, about so many are drawn in every class.
N_TWINS = 100


def audit_dataset(
    path: Path,
    *,
    n_resimulate: int | None = None,
    n_sham: int = 0,
    short: bool = False,
    seed: int = 0,
) -> Audit:
    """Check a dataset of any size; memory stays bounded.

    Parameters
    ----------
    path : Path
        Folder ``NAME.zarr``.
    n_resimulate : int, optional
        Images, drawn at random, to simulate again.
    n_sham : int
        Images of each class to simulate with ``signal_scale: 0``, which nothing may tell apart; 0
        leaves this check out.
    short : bool
        Trust the digests, skip the second engine and sample fewer images: a few seconds, for a
        dataset that was written just now.
    seed : int
        Of the random samples.

    Returns
    -------
    Audit

    Raises
    ------
    DatasetNotFoundError, DatasetError
        If no dataset of ours lies there. An unfinished one is no error but a failed audit.
    EngineError
        If the dataset's own engine cannot render its scenes.
    """
    start = time.monotonic()
    try:
        dataset = open_dataset(path)
    except DatasetIncompleteError as error:
        return _unfinished(path, str(error), short)
    damaged = () if short else damaged_shards(dataset)
    default = N_RESIMULATE_SHORT if short else N_RESIMULATE
    n_again = default if n_resimulate is None else n_resimulate
    found = _examine(dataset, damaged, n_again, image_rng(seed, 0, RunStream.SPLIT), short)
    checks = [_check_digests(dataset, damaged, short), *found.checks]
    if n_sham:
        checks.append(audit_sham(dataset.require_simulation("--sham"), n_sham))
    return Audit(
        path=str(path),
        dataset_sha256=dataset.sha256,
        images=dataset.n_images,
        class_names=dataset.class_names,
        short=short,
        complete=True,
        damaged_shards=damaged,
        engine="" if dataset.simulation is None else dataset.simulation.engine.kind,
        reference_engine=found.again.reference,
        resimulated=found.again.n_images,
        engine_deviation_max=found.again.deviation_max,
        engine_deviation_rms=found.again.deviation_rms,
        leak_auc_max=found.leaks.auc_max,
        leaks=found.leaks.leaks,
        leak_pairs=found.leaks.pairs,
        ceiling_auc=found.ceilings.per_class,
        ceiling_pairs={f"{a}–{b}": auc for (a, b), auc in found.ceilings.pairs.items()},
        checks=tuple(checks),
        seconds=round(time.monotonic() - start, 3),
        evidence=found.leaks.evidence,
    )


@dataclass(frozen=True)
class _Findings:
    checks: tuple[Check, ...]
    again: Resimulation
    leaks: LeakAudit
    ceilings: Ceilings


def _examine(
    dataset: Dataset,
    damaged: tuple[int, ...],
    n_again: int,
    rng: np.random.Generator,
    short: bool,
) -> _Findings:
    """Everything but the digests; of a damaged dataset only what does not need all shards."""
    blocks = intact_blocks(dataset, damaged)
    if dataset.simulation is None:
        return _examine_foreign(dataset, blocks, bool(damaged), short)
    again = resimulate(dataset, _draw(rng, blocks, n_again), compare=not short)
    redraw = _draw(rng, blocks, N_REDRAW_SHORT if short else N_REDRAW)
    checks = [
        *judge_resimulation(dataset, again),
        check_nuisances(dataset, redraw[:: max(len(redraw) // N_TWINS, 1)]),
    ]
    if damaged:
        checks.append(Check("contents", NOT_JUDGED, "shards are damaged"))
        leaks = not_judged("shards are damaged")
        return _Findings((*checks, leaks.check), again, leaks, NO_CEILINGS)
    checks += [check_labels(dataset), *check_truth(dataset, redraw)]
    checks += [check_distributions(dataset), *_read_all(dataset, blocks, short)]
    leaks = _leaks(dataset, blocks, short)
    checks.append(leaks.check)
    ceilings = NO_CEILINGS if short else find_ceilings(dataset)
    if not short:
        checks.append(check_ceilings(leaks.pairs, ceilings))
    return _Findings(tuple(checks), again, leaks, ceilings)


def _examine_foreign(
    dataset: Dataset, blocks: Sequence[slice], is_damaged: bool, short: bool
) -> _Findings:
    """Judge the pixels alone: there is no configuration to draw a scene from."""
    why = f"needs the configuration of a simulation; the origin of this dataset: {dataset.origin}"
    checks = [Check(n, NOT_JUDGED, why) for n in ("re-simulation", "nuisances", "truth")]
    if is_damaged:
        checks.append(Check("contents", NOT_JUDGED, "shards are damaged"))
    else:
        checks += _read_all(dataset, blocks, short)
    leaks = not_judged(why)
    nothing = Resimulation("", 0, (), None, None)
    return _Findings((*checks, leaks.check), nothing, leaks, NO_CEILINGS)


def _unfinished(path: Path, why: str, short: bool) -> Audit:
    """Audit of a dataset that is not complete: failed, and nothing else was looked at."""
    return Audit(
        path=str(path),
        dataset_sha256="",
        images=0,
        class_names=(),
        short=short,
        complete=False,
        damaged_shards=(),
        engine="",
        reference_engine="",
        resimulated=0,
        engine_deviation_max=None,
        engine_deviation_rms=None,
        leak_auc_max=None,
        leaks={},
        leak_pairs=(),
        ceiling_auc={},
        ceiling_pairs={},
        checks=(Check("complete", FAILED, why),),
        seconds=0.0,
    )


def _check_digests(dataset: Dataset, damaged: tuple[int, ...], short: bool) -> Check:
    n_shards = dataset.n_shards
    if damaged:
        named = ", ".join(map(str, damaged))
        how = "" if dataset.simulation is None else "; deeplense simulate --repair makes them again"
        what = f"{len(damaged)} of {n_shards} shards are damaged: {named}{how}"
        return Check("digests", FAILED, what)
    how = "written just now, not read again" if short else "every shard matches its digest"
    return Check("digests", PASSED, f"{n_shards} shard{'s' if n_shards > 1 else ''}, {how}")


def _draw(rng: np.random.Generator, blocks: Sequence[slice], n_wanted: int) -> NDArray[np.int64]:
    """Image numbers drawn at random from some blocks, ascending."""
    if not blocks:
        return np.zeros(0, np.int64)
    index = np.concatenate([np.arange(b.start, b.stop) for b in blocks])
    return np.sort(rng.choice(index, min(n_wanted, len(index)), replace=False))


def _read_all(dataset: Dataset, blocks: Sequence[slice], short: bool) -> tuple[Check, Check]:
    name = f"auditing {dataset.path.name}, pixels"
    with _progress(name, dataset.n_images, "images", short) as advance:
        return examine_pixels(dataset, blocks, advance)


def _leaks(dataset: Dataset, blocks: Sequence[slice], short: bool) -> LeakAudit:
    """Leaks of a full sample; in the short form of the smallest one that can be judged."""
    n_classes = len(dataset.class_names)
    per_class = dataset.n_images // n_classes
    if short and per_class < MIN_PER_CLASS:
        return not_judged(
            f"{per_class} images a class are too few, {MIN_PER_CLASS} are needed; deeplense audit "
            "measures them all the same"
        )
    wanted = MIN_PER_CLASS if short else FULL_PER_CLASS
    n_pairs = n_classes * (n_classes - 1) // 2
    name = f"auditing {dataset.path.name}, leaks"
    with _progress(name, n_pairs, "pairs", short) as advance:
        return audit_leaks(dataset, blocks, wanted, advance)


@contextmanager
def _progress(name: str, total: int, unit: str, short: bool) -> Iterator[Callable[[int], None]]:
    """Progress of a long audit; the short one says nothing."""
    if short:
        yield _ignore
    else:
        with progress(name, total, unit) as advance:
            yield advance


def _ignore(n_done: int) -> None:
    """Advance nothing."""
