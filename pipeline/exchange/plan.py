"""Make a dataset out of images of other datasets: whatever chooses them, this writes them.

Arrays that all have are carried over: images, noise-free images, variances and every truth, NaN
where one has no such column. The lists of mass components stay with the sources, to which
``origin/source`` and ``origin/index`` lead back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import DatasetIntegrityError, DatasetMismatchError
from pipeline.core.logs import progress
from pipeline.core.provenance import canonical_json, sha256_hex
from pipeline.dataset.duplicates import DIGEST_BYTES, image_digests, joined, same_pixels
from pipeline.dataset.layout import (
    TRUTH,
    ArraySpec,
    StoreSpec,
    describe,
    image_arrays,
    shard_digest,
)
from pipeline.dataset.place import Place, exists
from pipeline.dataset.splits import GALAXY
from pipeline.dataset.store import Dataset
from pipeline.dataset.writer import write_store
from pipeline.exchange.origin import (
    INDEX_ARRAY,
    SOURCE_ARRAY,
    SOURCES,
    source_places,
    source_records,
)
from pipeline.physics.components import TruthColumn

#: Attribute that names the datasets a dataset was made from directly.
MADE_FROM = "made_from"
#: Arrays of images beside ``images`` that are carried over where all datasets have them.
_MORE_IMAGES = ("noiseless", "variance")


@dataclass(frozen=True)
class Plan:
    """The images of a new dataset: in which dataset each is, at what number, and what it becomes.

    ``said`` is what the new dataset says of how it was made, beside its sources.
    """

    datasets: Sequence[Dataset]
    which: NDArray[np.int64]
    row: NDArray[np.int64]
    label: NDArray[np.int16]
    split: NDArray[np.int8]
    class_names: tuple[str, ...]
    origin: str
    said: Mapping[str, Any]  # Any: JSON
    shard_size: int


@dataclass(frozen=True)
class Written:
    """What was written: hash of the dataset, and whether an interrupted one was completed."""

    dataset_sha256: str
    resumed: bool


def write_plan(plan: Plan, out: Place) -> Written:
    """Write a dataset, or complete one that the same plan began.

    Parameters
    ----------
    plan : Plan
    out : Place

    Raises
    ------
    DatasetMismatchError
        If the datasets do not go together, or another plan made what lies at ``out``.
    OutputError
        If it cannot be written.
    """
    columns = united_truth(plan.datasets)
    records, codes, numbers = _origins(plan)
    extra = _carried(plan.datasets)
    spec = _spec(plan, columns, records, extra)
    truths = {name: _column(plan, name) for name in columns}
    existed = exists(out)
    with write_store(out, spec) as store:
        missing = store.missing()
        n_images = sum(store.rows(k).stop - store.rows(k).start for k in missing)
        with progress(f"writing {out.name}", n_images) as advance:
            for shard in missing:
                rows = store.rows(shard)
                values: dict[str, NDArray[Any]] = {
                    "images": _gather(plan, rows, "images"),
                    "label": plan.label[rows],
                    "split": plan.split[rows],
                    SOURCE_ARRAY: codes[rows],
                    INDEX_ARRAY: numbers[rows],
                }
                values |= {TRUTH + name: column[rows] for name, column in truths.items()}
                values |= {array.name: _gather(plan, rows, array.name) for array in extra}
                store.write(shard, values)
                advance(rows.stop - rows.start)
        return Written(store.seal(), existed and 0 < len(missing) < spec.n_shards)


def united_truth(datasets: Sequence[Dataset]) -> dict[str, TruthColumn]:
    """Every truth of any of the datasets.

    Raises
    ------
    DatasetMismatchError
        If two measure the same truth in different units.
    """
    found: dict[str, tuple[TruthColumn, Dataset]] = {}
    for dataset in datasets:
        for name, column in dataset.truth_info().items():
            known, where = found.setdefault(name, (column, dataset))
            if known.unit != column.unit:
                raise DatasetMismatchError(
                    f"{dataset.path}: the unit of {name} is {column.unit or 'none'!r}, in "
                    f"{where.path} it is {known.unit or 'none'!r}"
                )
    return {name: column for name, (column, _) in found.items()}


def content_groups(
    datasets: Sequence[Dataset],
) -> tuple[NDArray[np.int64], NDArray[np.uint8], int]:
    """Groups of images that must not lie in two splits, after a look at every pixel.

    Equal pixels are one group, and so are lenses of one real source galaxy.

    Returns
    -------
    group : NDArray, shape (n,)
        Of the images of all datasets in their order.
    digests : NDArray of uint8, shape (n, 16)
        Of each group's representative: the same, whatever the order of the images.
    n_duplicates : int

    Raises
    ------
    DatasetIntegrityError
        If a shard does not match its digest.
    """
    n_images = sum(dataset.n_images for dataset in datasets)
    parts = []
    with progress("reading", n_images) as advance:
        for dataset in datasets:
            for shard in range(dataset.n_shards):
                values = dataset.read_shard(shard)
                found = shard_digest(dataset.spec.arrays, values)
                if not np.array_equal(found, dataset.digests[shard]):
                    raise DatasetIntegrityError(
                        f"{dataset.path}: shard {shard} is damaged; see deeplense audit"
                    )
                parts.append(image_digests(values["images"]))
                advance(len(values["images"]))
    digests = np.concatenate(parts)
    same = same_pixels(digests)
    group = joined(same, np.concatenate([_galaxies(dataset) for dataset in datasets]))
    smallest = np.full(len(same), np.iinfo(np.int64).max)
    np.minimum.at(smallest, group, same)
    of_same = np.empty((int(same.max()) + 1, DIGEST_BYTES), np.uint8)
    of_same[same] = digests
    return group, of_same[smallest[group]], n_images - len(of_same)


def _galaxies(dataset: Dataset) -> NDArray[np.int64]:
    if GALAXY not in dataset.truth_info():
        return np.full(dataset.n_images, -1)
    number = dataset.truth(GALAXY)
    return np.where(np.isfinite(number), number, -1).astype(np.int64)


def _spec(
    plan: Plan,
    columns: Mapping[str, TruthColumn],
    records: list[dict[str, Any]],
    extra: Sequence[ArraySpec],
) -> StoreSpec:
    first = plan.datasets[0]
    arrays = (
        *image_arrays(plan.class_names, first.image_shape, columns, first.unit),
        ArraySpec(SOURCE_ARRAY, (), "<i2", -1, {"description": "number of the source"}),
        ArraySpec(INDEX_ARRAY, (), "<i8", -1, {"description": "number of the image there"}),
        *extra,
    )
    made_from = [
        {"dataset_sha256": d.sha256, "origin": d.origin, "n_images": d.n_images}
        for d in plan.datasets
    ]
    attributes = {
        **describe(plan.class_names, first.bands, first.pixel_scale),
        plan.origin: dict(plan.said),
        MADE_FROM: made_from,
        SOURCES: records,
    }
    chosen = b"".join(a.tobytes() for a in (plan.which, plan.row, plan.label, plan.split))
    named = [[a.name, list(a.item_shape), a.attributes] for a in arrays]
    decisive = [plan.said, plan.class_names, made_from, named, plan.shard_size]
    return StoreSpec(
        arrays=arrays,
        n_images=len(plan.row),
        shard_size=plan.shard_size,
        attributes=attributes,
        origin=plan.origin,
        origin_sha256=sha256_hex(canonical_json([*decisive, sha256_hex(chosen)])),
    )


def _origins(plan: Plan) -> tuple[list[dict[str, Any]], NDArray[np.int16], NDArray[np.int64]]:
    """Records of all sources, each once, and the source and number there of each image."""
    records: list[dict[str, Any]] = []
    known: dict[str, int] = {}
    codes = np.empty(len(plan.row), np.int16)
    numbers = np.empty(len(plan.row), np.int64)
    for k, dataset in enumerate(plan.datasets):
        own = source_records(dataset)
        for record in own:
            if record["dataset_sha256"] not in known:
                known[record["dataset_sha256"]] = len(records)
                records.append(record)
        code = np.array([known[record["dataset_sha256"]] for record in own], np.int16)
        source, number = source_places(dataset)
        here = plan.which == k
        codes[here] = code[source[plan.row[here]]]
        numbers[here] = number[plan.row[here]]
    return records, codes, numbers


def _carried(datasets: Sequence[Dataset]) -> list[ArraySpec]:
    """Further arrays of images that all datasets have."""
    found = [{a.name: a for a in dataset.spec.arrays} for dataset in datasets]
    return [
        found[0][name]
        for name in _MORE_IMAGES
        if all(name in arrays and not arrays[name].ragged for arrays in found)
    ]


def _column(plan: Plan, name: str) -> NDArray[np.float64]:
    values = np.full(len(plan.row), np.nan)
    for k, dataset in enumerate(plan.datasets):
        if name in dataset.truth_info():
            here = plan.which == k
            values[here] = dataset.truth(name)[plan.row[here]]
    return values


def _gather(plan: Plan, rows: slice, name: str) -> NDArray[Any]:
    """Values of an array of images for some rows of the new dataset."""
    which, row = plan.which[rows], plan.row[rows]
    values: NDArray[Any] | None = None
    for k in np.unique(which).tolist():
        here = which == k
        part = _read(plan.datasets[k], name, row[here])
        if values is None:
            values = np.empty((len(row), *part.shape[1:]), part.dtype)
        values[here] = part
    assert values is not None
    return values


def _read(dataset: Dataset, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
    if name == "images":
        return dataset.read_images(rows)
    first, last = int(rows.min()), int(rows.max()) + 1
    return dataset.read(name, slice(first, last))[rows - first]
