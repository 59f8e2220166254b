"""One dataset becomes several: by split, by class, or in fractions."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError
from pipeline.dataset.place import Url, locate, require_writable
from pipeline.dataset.splits import SPLITS, content_positions
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.exchange.origin import require_class_names
from pipeline.exchange.plan import Plan, content_groups, write_plan

By = Literal["split", "class", "fraction"]


@dataclass(frozen=True)
class Part:
    """One of the datasets that were made."""

    name: str
    path: str
    images: int
    dataset_sha256: str


@dataclass(frozen=True)
class SplitSummary:
    """What a division came to."""

    path: str
    by: str
    images: int
    parts: tuple[Part, ...]
    seconds: float

    @property
    def text(self) -> str:
        """A line for each part."""
        lines = [f"{p.path}: {p.images} images, sha256 {p.dataset_sha256}" for p in self.parts]
        return "\n".join(lines)


def split_dataset(
    data: str | Path | Url,
    out: str | Path | Url,
    *,
    by: By = "split",
    fractions: Sequence[float] = (),
    seed: int = 0,
) -> SplitSummary:
    """Divide a dataset into the folders ``OUT/NAME.zarr``.

    Every part keeps the class names, their labels and the splits of its images.

    Parameters
    ----------
    data : str, Path or Url
        A complete dataset.
    out : str, Path or Url
        Folder of the parts.
    by : str
        ``split`` makes ``train``, ``val`` and ``test``; ``class`` a part for each class;
        ``fraction`` makes ``part-1``, ``part-2``, ... of the sizes asked for, alike in classes
        and splits, with all copies of an image in one part.
    fractions : sequence of float
        For ``fraction``; what is left of 1 is in no part.
    seed : int
        Another seed, another division into fractions.

    Raises
    ------
    ConfigError
        If the fractions make no sense.
    DatasetIntegrityError
        If a shard is damaged.
    """
    start = time.monotonic()
    _check(by, fractions)
    folder = locate(out)
    require_writable(folder / "part")
    dataset = open_dataset(data)
    require_class_names(dataset)
    codes, names = _parts(dataset, by, fractions, seed)
    parts = []
    for k, name in enumerate(names):
        rows = np.flatnonzero(codes == k)
        if not len(rows):
            continue
        plan = Plan(
            datasets=[dataset],
            which=np.zeros(len(rows), np.int64),
            row=rows,
            label=dataset.labels[rows],
            split=dataset.split[rows],
            class_names=dataset.class_names,
            origin="split",
            said={"by": by, "part": name, "fractions": list(fractions), "seed": seed},
            shard_size=dataset.shard_size,
        )
        path = folder / f"{name}.zarr"
        parts.append(Part(name, str(path), len(rows), write_plan(plan, path).dataset_sha256))
    return SplitSummary(
        path=str(folder),
        by=by,
        images=sum(part.images for part in parts),
        parts=tuple(parts),
        seconds=round(time.monotonic() - start, 3),
    )


def _check(by: By, fractions: Sequence[float]) -> None:
    if (by == "fraction") != bool(fractions):
        raise ConfigError("--by fraction needs --fraction, and nothing else takes it")
    if any(f <= 0 for f in fractions) or sum(fractions) > 1 + 1e-9:
        found = ", ".join(f"{f:g}" for f in fractions)
        raise ConfigError(f"--fraction {found}: must be above 0 and add up to at most 1")


def _parts(
    dataset: Dataset, by: By, fractions: Sequence[float], seed: int
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Number of each image's part (-1: none), and the names of the parts."""
    if by == "split":
        return dataset.split.astype(np.int64), SPLITS
    if by == "class":
        return dataset.labels.astype(np.int64), dataset.class_names
    names = tuple(f"part-{k}" for k in range(1, len(fractions) + 1))
    return _fractions(dataset, fractions, seed), names


def _fractions(dataset: Dataset, fractions: Sequence[float], seed: int) -> NDArray[np.int64]:
    """Whole groups of images in an order that only their pixels decide, class by class."""
    group, digests, _ = content_groups([dataset])
    first = np.unique(group, return_index=True)[1]
    stratum = dataset.labels.astype(np.int64) * len(SPLITS) + dataset.split
    size = np.bincount(group)
    order = np.argsort(content_positions(digests[first], seed), kind="stable")
    ends = np.append(np.cumsum(fractions), np.inf)
    ends[len(fractions) - 1] += 1e-9
    part_of_group = np.empty(len(first), np.int64)
    for value in np.unique(stratum[first]):
        members = order[stratum[first][order] == value]
        middle = np.cumsum(size[members]) - size[members] / 2
        part_of_group[members] = np.searchsorted(ends, middle / size[members].sum())
    part_of_group[part_of_group == len(fractions)] = -1
    return np.asarray(part_of_group[group])
