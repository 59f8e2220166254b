"""First look at all images: which can be taken, what is said of each, and the hash of its pixels.

A few dozen bytes are kept for each image, so that a million of them fit in memory; the pixels are
read again when they are written.
"""

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.logs import progress
from pipeline.dataset.duplicates import image_digests
from pipeline.dataset.splits import SPLITS
from pipeline.exchange.labels import Entry
from pipeline.exchange.rejects import Reason, Reject, RejectedError
from pipeline.exchange.sources import Source, class_of, is_class_name
from pipeline.exchange.stacks import Facts, Stack, open_stack

#: More than this fraction of equal pixels is a blank frame, as for the scorer.
BLANK_FRACTION = 0.99
#: Files are counted as done by their size, in units of this.
_MB = 1e6


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes
    ----------
    bands : tuple of str
    number : str
        Name of the truth beside an image in an array of objects.
    default_label : str, optional
        Class of images that nothing else gives one.
    aliases : mapping of str to str
        More names of folders and labels, and the class they mean.
    """

    bands: tuple[str, ...]
    number: str
    default_label: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Scan:
    """What was found, one item an image; ``facts`` and ``labels`` number distinct values."""

    sources: Sequence[Source]
    source: list[int] = field(default_factory=list)
    row: list[int] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    split: list[int] = field(default_factory=list)  # -1: not given
    fact: list[int] = field(default_factory=list)
    digest: list[bytes] = field(default_factory=list)
    targets: dict[str, "array[float]"] = field(default_factory=dict)  # NaN or too short: unknown
    labels: dict[str, int] = field(default_factory=dict)
    facts: dict[tuple[tuple[int, ...], Facts], int] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.source)

    def add(self, source: int, row: int, image: NDArray[Any], facts: Facts, entry: Entry) -> None:
        """Take one image."""
        assert entry.label is not None
        number = len(self)
        self.source.append(source)
        self.row.append(row)
        self.label.append(self.labels.setdefault(entry.label, len(self.labels)))
        self.split.append(-1 if entry.split is None else SPLITS.index(entry.split))
        self.fact.append(self.facts.setdefault((image.shape, facts), len(self.facts)))
        self.digest.append(image_digests([image]).tobytes())
        for name, value in entry.targets.items():
            values = self.targets.setdefault(name, array("d"))
            values.extend([math.nan] * (number - len(values)))
            values.append(value)

    def target(self, name: str) -> NDArray[np.float64]:
        """One truth of every image, NaN where it has none or an infinite one."""
        values = np.full(len(self), np.nan)
        values[: len(self.targets[name])] = self.targets[name]
        return np.where(np.isfinite(values), values, np.nan)

    def reject(self, number: int, reason: str, detail: str) -> None:
        """List an image that was taken before as one that is left out."""
        source = self.sources[self.source[number]]
        self.rejects.append(Reject(source.name, self.row[number], reason, detail))

    def most_common(self) -> tuple[int, ...]:
        """Shape (C, H, W) of most images; of equally common ones the smallest."""
        times: Counter[tuple[int, ...]] = Counter()
        shapes = {code: shape for (shape, _), code in self.facts.items()}
        for code, n in Counter(self.fact).items():
            times[shapes[code]] += n
        return min(times, key=lambda shape: (-times[shape], shape))


def scan(sources: Sequence[Source], reading: Reading) -> Scan:
    """Read every image once.

    Parameters
    ----------
    sources : sequence of Source
    reading : Reading

    Returns
    -------
    Scan
    """
    found = Scan(sources)
    sizes = [source.path.stat().st_size / _MB for source in sources]
    with progress("reading", round(sum(sizes)), "MB") as advance:
        done = shown = 0.0
        for number, source in enumerate(sources):
            try:
                stack = open_stack(source.path, reading.bands, reading.number)
                if source.rows is not None and len(source.rows) != stack.n_images:
                    raise RejectedError(
                        Reason.NO_LABEL,
                        f"{len(source.rows)} rows of labels for {stack.n_images} images",
                    )
            except RejectedError as error:
                found.rejects.append(Reject(source.name, None, error.reason, error.detail))
                stack = Stack(0, lambda _: np.zeros(0))
            for row in range(stack.n_images):
                _look(found, number, row, stack, reading)
                done += sizes[number] / stack.n_images
                if done - shown >= 1.0:
                    advance(int(done - shown))
                    shown += int(done - shown)
            done += 0.0 if stack.n_images else sizes[number]
        advance(round(sum(sizes)) - int(shown))
    return found


def _look(found: Scan, number: int, row: int, stack: Stack, reading: Reading) -> None:
    source = found.sources[number]
    try:
        image = checked(stack.read(row))
        entry = _entry(source, row, stack.entry(row), reading)
    except RejectedError as error:
        where = row if stack.n_images > 1 else None
        found.rejects.append(Reject(source.name, where, error.reason, error.detail))
        return
    found.add(number, row, image, stack.facts, entry)


def checked(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Image (C, H, W) as float32.

    Raises
    ------
    RejectedError
        If a pixel is not finite, or nothing is to be seen.
    """
    with np.errstate(over="ignore"):
        image = np.ascontiguousarray(pixels, np.float32)
    n_bad = int(np.count_nonzero(~np.isfinite(image)))
    if n_bad:
        raise RejectedError(Reason.NOT_FINITE, f"{n_bad} pixels are no finite float32")
    for plane in image:
        share = float(np.mean(plane == np.median(plane)))
        if share > BLANK_FRACTION:
            raise RejectedError(Reason.BLANK, f"{share:.1%} of the pixels have the same value")
    return image


def _entry(source: Source, row: int, own: Entry, reading: Reading) -> Entry:
    """What is said of an image: by a table before the file, by the file before its place."""
    said = [source.rows[row]] if source.rows is not None else []
    said += [own, source.entry]
    label = next((e.label for e in said if e.label is not None), reading.default_label)
    if label is None:
        raise RejectedError(Reason.NO_LABEL, "neither a folder nor a table says its class")
    split = next((e.split for e in said if e.split is not None), None)
    targets = {name: value for e in reversed(said) for name, value in e.targets.items()}
    name = class_of(label, reading.aliases)
    if not is_class_name(name):
        raise RejectedError(Reason.BAD_LABEL, f"{name[:80]!r} is no name of a class")
    return Entry(name, split, targets)
