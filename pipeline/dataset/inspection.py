"""What is in a dataset, complete or not: counts, parameters, copies, missing and damaged shards."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import DatasetError
from pipeline.core.logs import progress
from pipeline.dataset.duplicates import image_digests, same_pixels
from pipeline.dataset.layout import TRUTH, shard_digest
from pipeline.dataset.place import Url, locate
from pipeline.dataset.splits import SPLITS
from pipeline.dataset.store import Dataset
from pipeline.dataset.zarr_files import stored_spec

#: Groups of equal images that are kept by number.
MAX_GROUPS = 50


@dataclass(frozen=True)
class Spread:
    """Values of one parameter in one class; of none of its images nothing is known."""

    n: int
    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Parameter:
    """One truth column: its meaning, and its values by class."""

    name: str
    unit: str
    description: str
    by_class: Mapping[str, Spread]

    @property
    def is_constant(self) -> bool:
        """Whether all images that have a value have the same one."""
        known = [s for s in self.by_class.values() if s.n]
        return len({s.low for s in known} | {s.high for s in known}) <= 1


@dataclass(frozen=True)
class Copies:
    """Images with equal pixels."""

    images: tuple[int, ...]
    classes: tuple[str, ...]
    splits: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes
    ----------
    dataset : Dataset
        Open for reading; unfinished ones too.
    rows : NDArray, shape (n,)
        Numbers of the images that can be relied on: those of the shards that are there and whole.
    labels, split : NDArray, shape (n,)
    truth : mapping of arrays, shape (n,) each
    is_complete : bool
    missing, damaged : tuple of int
        Shards.
    n_copies : int or None
        Images that occurred before; None if pixels were not read.
    copies : tuple of Copies
        The first ``MAX_GROUPS``, those in several splits before the others.
    n_across : int
        Groups of equal images in several splits.
    """

    dataset: Dataset
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    split: NDArray[np.int64]
    truth: Mapping[str, NDArray[np.float64]]
    is_complete: bool
    missing: tuple[int, ...]
    damaged: tuple[int, ...]
    n_copies: int | None
    copies: tuple[Copies, ...]
    n_across: int
    parameters: tuple[Parameter, ...]

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Images by class and split."""
        return {
            name: {
                split: int(((self.labels == k) & (self.split == j)).sum())
                for j, split in enumerate(SPLITS)
            }
            for k, name in enumerate(self.dataset.class_names)
        }

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Plain data; the fields are a promise."""
        dataset = self.dataset
        return {
            "path": str(dataset.path),
            "complete": self.is_complete,
            "images": dataset.n_images,
            "images_intact": len(self.rows),
            "class_names": dataset.class_names,
            "counts": self.counts,
            "image_shape": dataset.image_shape,
            "pixel_scale": dataset.pixel_scale,
            "bands": dataset.bands,
            "unit": dataset.unit,
            "origin": dataset.origin,
            "dataset_sha256": dataset.sha256 or None,
            "missing_shards": self.missing,
            "damaged_shards": self.damaged,
            "duplicates": self.n_copies,
            "duplicates_across_splits": None if self.n_copies is None else self.n_across,
            "parameters": self.parameters,
            "versions": dataset.versions,
        }

    def text(self) -> str:
        """A summary for a person."""
        dataset = self.dataset
        _, rows, columns = dataset.image_shape
        lines = [
            f"{dataset.path}: {dataset.n_images} images of {rows} x {columns} pixels, "
            f"{dataset.pixel_scale:g} arcsec, {', '.join(dataset.bands)}, {dataset.unit}; "
            f"origin {dataset.origin}"
        ]
        width = max(len(name) for name in dataset.class_names)
        for name, of_split in self.counts.items():
            parts = ", ".join(f"{n} {split}" for split, n in of_split.items())
            lines.append(f"  {name:<{width}}  {sum(of_split.values())} ({parts})")
        varying = sum(not p.is_constant for p in self.parameters)
        lines.append(f"  {len(self.parameters)} parameters, {varying} of them vary")
        if self.n_copies:
            lines.append(
                f"  {self.n_copies} images occur more than once, "
                f"{self.n_across} of them in several splits"
            )
        for what, shards in (("missing", self.missing), ("damaged", self.damaged)):
            if shards:
                some = ", ".join(map(str, shards[:10])) + (" ..." if len(shards) > 10 else "")
                lines.append(f"  {len(shards)} of {dataset.n_shards} shards {what}: {some}")
        lines.append(f"sha256 {dataset.sha256}" if dataset.sha256 else "not complete")
        return "\n".join(lines)


def inspect_dataset(path: str | Path | Url, *, pixels: bool = True) -> Inspection:
    """Look into a dataset, complete or not.

    Parameters
    ----------
    path : str, Path or Url
    pixels : bool
        Read every pixel, to find copies and damage; without, only what is known of the images.

    Raises
    ------
    DatasetNotFoundError, DatasetError
        If no dataset of ours lies there.
    """
    place = locate(path)
    spec, sha256 = stored_spec(place)
    dataset = Dataset(place, spec, sha256 or "")
    written = dataset.digests.any(axis=1)
    found = _Columns()
    damaged = []
    with progress(f"inspecting {dataset.path.name}", dataset.n_images) as advance:
        for shard in np.flatnonzero(written).tolist():
            values = _values(dataset, shard, pixels=pixels)
            if values is None:
                damaged.append(shard)
            else:
                found.add(dataset.rows(shard), values)
            advance(len(range(*dataset.rows(shard).indices(dataset.n_images))))
    columns = found.joined(dataset)
    labels, split = columns["label"].astype(np.int64), columns["split"].astype(np.int64)
    rows = columns["rows"].astype(np.int64)
    truth = {name: columns[TRUTH + name] for name in dataset.truth_info()}
    copies, n_copies, n_across = _copies(dataset, rows, labels, split, found.digests)
    return Inspection(
        dataset=dataset,
        rows=rows,
        labels=labels,
        split=split,
        truth=truth,
        is_complete=sha256 is not None,
        missing=tuple(np.flatnonzero(~written).tolist()),
        damaged=tuple(damaged),
        n_copies=n_copies if pixels else None,
        copies=copies,
        n_across=n_across,
        parameters=_parameters(dataset, labels, truth),
    )


class _Columns:
    """What is kept of each whole shard."""

    def __init__(self) -> None:
        self._parts: dict[str, list[NDArray[Any]]] = defaultdict(list)
        self.digests: list[NDArray[np.uint8]] = []

    def add(self, rows: slice, values: Mapping[str, NDArray[Any]]) -> None:
        self._parts["rows"].append(np.arange(rows.start, rows.stop))
        for name, array in values.items():
            if name in ("label", "split") or name.startswith(TRUTH):
                self._parts[name].append(array)
        if "images" in values:
            self.digests.append(image_digests(values["images"]))

    def joined(self, dataset: Dataset) -> dict[str, NDArray[Any]]:
        names = ("rows", "label", "split", *(TRUTH + name for name in dataset.truth_info()))
        return {
            name: np.concatenate(self._parts[name]) if self._parts[name] else np.zeros(0)
            for name in names
        }


def _values(dataset: Dataset, shard: int, *, pixels: bool) -> dict[str, NDArray[Any]] | None:
    """Values of a shard; None if it is damaged."""
    try:
        if pixels:
            values = dataset.read_shard(shard)
            digest = shard_digest(dataset.spec.arrays, values)
            return values if np.array_equal(digest, dataset.digests[shard]) else None
        names = [a.name for a in dataset.spec.arrays if a.name.startswith(TRUTH)]
        rows = dataset.rows(shard)
        return {name: dataset.read(name, rows) for name in ("label", "split", *names)}
    except (OSError, ValueError, RuntimeError, DatasetError):
        return None


def _copies(
    dataset: Dataset,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    split: NDArray[np.int64],
    digests: list[NDArray[np.uint8]],
) -> tuple[tuple[Copies, ...], int, int]:
    if not digests:
        return (), 0, 0
    group = same_pixels(np.concatenate(digests))
    times = np.bincount(group)
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(times)
    members = [order[ends[k] - times[k] : ends[k]] for k in np.flatnonzero(times > 1)]
    crossing = [len(set(split[m].tolist())) > 1 for m in members]
    ranked = sorted(zip(crossing, members, strict=True), key=lambda x: (not x[0], x[1][0]))
    names = dataset.class_names
    copies = tuple(
        Copies(
            tuple(rows[m].tolist()),
            tuple(sorted({names[k] for k in labels[m]})),
            tuple(SPLITS[k] for k in sorted(set(split[m].tolist()))),
        )
        for _, m in ranked[:MAX_GROUPS]
    )
    return copies, int(len(rows) - len(times)), sum(crossing)


def _parameters(
    dataset: Dataset, labels: NDArray[np.int64], truth: Mapping[str, NDArray[np.float64]]
) -> tuple[Parameter, ...]:
    return tuple(
        Parameter(
            name,
            about.unit,
            about.description,
            {c: _spread(truth[name][labels == k]) for k, c in enumerate(dataset.class_names)},
        )
        for name, about in dataset.truth_info().items()
    )


def _spread(values: NDArray[np.float64]) -> Spread:
    known = values[np.isfinite(values)]
    if not len(known):
        return Spread(0, np.nan, np.nan, np.nan)
    return Spread(len(known), float(known.min()), float(np.median(known)), float(known.max()))
