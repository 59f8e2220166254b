"""Several datasets become one: classes by name, truths united, no duplicate in two splits."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError, DatasetMismatchError
from pipeline.dataset.config import Splits
from pipeline.dataset.duplicates import one_split_each
from pipeline.dataset.place import Url, locate, require_writable
from pipeline.dataset.splits import SPLITS, content_split_codes
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.exchange.plan import Plan, content_groups, write_plan

#: Relative difference of pixel scales that comes from writing them down.
_SAME_SCALE = 1e-6


@dataclass(frozen=True)
class MergeSummary:
    """What a merge came to; ``moved`` images left a split because an earlier one had a twin."""

    path: str
    images: int
    classes: dict[str, int]
    splits: dict[str, int]
    sources: tuple[str, ...]
    duplicates: int
    moved: int
    seconds: float
    dataset_sha256: str
    resumed: bool

    @property
    def text(self) -> str:
        """A few lines for a person."""
        classes = ", ".join(f"{n} {name}" for name, n in self.classes.items())
        splits = ", ".join(f"{n} {name}" for name, n in self.splits.items())
        lines = [
            f"{self.path}: {self.images} images of {len(self.sources)} datasets "
            f"({classes}; {splits})"
        ]
        if self.duplicates or self.moved:
            lines.append(
                f"{self.duplicates} images occur more than once, {self.moved} moved so that none "
                "lies in two splits"
            )
        return "\n".join([*lines, f"sha256 {self.dataset_sha256}"])


def merge_datasets(
    paths: Sequence[str | Path | Url],
    out: str | Path | Url,
    *,
    resplit: bool = False,
    splits: Splits | None = None,
    seed: int = 0,
    shard_size: int | None = None,
) -> MergeSummary:
    """Merge datasets of the same bands, pixel scale, size and unit.

    Images are interleaved, so that every stretch of the new dataset holds all of them in
    proportion.

    Parameters
    ----------
    paths : sequence of str, Path or Url
        Complete datasets, at least two.
    out : str, Path or Url
    resplit : bool
        Divide all images anew, by their pixels; else their splits are kept, and images with a
        twin in an earlier split are moved there.
    splits : Splits, optional
        Fractions of a new division.
    seed : int
        Of a new division.
    shard_size : int, optional
        Images in a shard; that of the first dataset by default.

    Raises
    ------
    ConfigError
        If there is nothing to merge.
    DatasetMismatchError
        Naming what differs between two datasets.
    DatasetIntegrityError
        If a shard is damaged.
    """
    start = time.monotonic()
    place = locate(out)
    require_writable(place)
    datasets = [open_dataset(path) for path in paths]
    _check(datasets)
    names = tuple(dict.fromkeys(name for d in datasets for name in d.class_names))
    sizes = [d.n_images for d in datasets]
    which = np.repeat(np.arange(len(datasets)), sizes)
    row = np.concatenate([np.arange(n) for n in sizes])
    label = np.concatenate([_labels(d, names) for d in datasets])
    split = np.concatenate([d.split for d in datasets])
    group, digests, n_duplicates = content_groups(datasets)
    n_moved = 0
    fractions = splits or Splits()
    if resplit:
        split = content_split_codes(digests, fractions.train, fractions.val, seed)
    else:
        split, n_moved = one_split_each(split, group)
    order = np.argsort((row + 0.5) / np.array(sizes)[which], kind="stable")
    plan = Plan(
        datasets=datasets,
        which=which[order],
        row=row[order],
        label=label[order],
        split=split[order],
        class_names=names,
        origin="merge",
        said={"resplit": resplit, "seed": seed if resplit else None},
        shard_size=shard_size or datasets[0].shard_size,
    )
    written = write_plan(plan, place)
    counts = np.bincount(label, minlength=len(names))
    return MergeSummary(
        path=str(place),
        images=len(row),
        classes={name: int(n) for name, n in zip(names, counts, strict=True)},
        splits={name: int((split == k).sum()) for k, name in enumerate(SPLITS)},
        sources=tuple(d.sha256 for d in datasets),
        duplicates=n_duplicates,
        moved=n_moved,
        seconds=round(time.monotonic() - start, 3),
        dataset_sha256=written.dataset_sha256,
        resumed=written.resumed,
    )


def _labels(dataset: Dataset, names: tuple[str, ...]) -> NDArray[np.int16]:
    """Labels of a dataset as indices into the names of all."""
    code = np.array([names.index(name) for name in dataset.class_names], np.int16)
    return np.asarray(code[dataset.labels])


def _check(datasets: Sequence[Dataset]) -> None:
    """Refuse what does not go together."""
    if len(datasets) < 2:
        raise ConfigError("a merge needs at least two datasets")
    first = datasets[0]
    for other in datasets[1:]:
        if other.sha256 == first.sha256:
            raise ConfigError(f"{other.path}: the same dataset as {first.path}")
        for what, a, b in (
            ("bands", first.bands, other.bands),
            ("bands, rows and columns", first.image_shape, other.image_shape),
            ("unit", first.unit, other.unit),
        ):
            if a != b:
                raise DatasetMismatchError(
                    f"{other.path}: {what} {_text(b)}, but {_text(a)} in {first.path}"
                )
        if abs(other.pixel_scale / first.pixel_scale - 1.0) > _SAME_SCALE:
            raise DatasetMismatchError(
                f"{other.path}: pixels of {other.pixel_scale:g} arcsec, but "
                f"{first.pixel_scale:g} arcsec in {first.path}"
            )


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
