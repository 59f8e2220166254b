"""Which of the images that were found make the dataset, in what order, and in which split.

Most of them decide: what has another shape, pixel scale or unit is left out with a reason. Order
and, where nothing else says it, split follow from the hash of the pixels alone.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.core.config import StrictModel, validate
from pipeline.core.errors import ConfigError, DatasetError
from pipeline.core.logs import get_logger
from pipeline.dataset.config import Splits
from pipeline.dataset.duplicates import one_split_each, same_pixels
from pipeline.dataset.splits import SPLITS, content_split_codes
from pipeline.exchange.rejects import Reason
from pipeline.exchange.scan import Scan
from pipeline.exchange.sources import class_order
from pipeline.exchange.stacks import Facts
from pipeline.inference.prepare import SCALE_TOLERANCE

_logger = get_logger("import")


class ImportConfig(StrictModel):
    """How images are taken over.

    Without ``bands`` images have one, named by their files. ``pixel_scale`` (arcsec) and ``unit``
    stand for images whose files do not say; files that say
    something else are rejected. ``number`` names the value beside an image in an array of objects.
    ``splits_from`` says whether folders and tables named like splits are heard.
    """

    bands: tuple[str, ...] = ()
    pixel_scale: float | None = Field(None, gt=0)
    unit: str | None = None
    number: str = "axion_mass"
    label: str | None = None
    aliases: dict[str, str] = Field(default_factory=dict)
    splits_from: Literal["given", "content"] = "given"
    splits: Splits = Splits()
    seed: int = Field(0, ge=0)
    shard_size: int = Field(500, gt=0)


def import_config(
    *,
    aliases: Sequence[str] = (),
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    **given: Any,  # Any: checked by the model
) -> ImportConfig:
    """Configuration from what a command line says.

    Parameters
    ----------
    aliases : sequence of str
        ``"FOLDER=CLASS"``.
    fractions : tuple of float
        Train, validation, test.
    **given
        Other fields of :class:`ImportConfig`.

    Raises
    ------
    ConfigError
    """
    wrong = [text for text in aliases if not all(text.partition("=")[::2])]
    if wrong:
        raise ConfigError(f"--alias {wrong[0]!r}: expected FOLDER=CLASS, e.g. cdm=subhalo")
    splits = split_fractions(fractions)
    pairs = dict(text.split("=", 1) for text in aliases)
    data = {**given, "aliases": pairs, "splits": splits}
    return validate(data, ImportConfig, name="import")


def split_fractions(fractions: tuple[float, float, float]) -> Splits:
    """Fractions of train, validation and test.

    Raises
    ------
    ConfigError
        If they do not add up to 1.
    """
    return validate(dict(zip(SPLITS, fractions, strict=True)), Splits, name="--fractions")


@dataclass(frozen=True)
class Chosen:
    """The images of the dataset, in its order.

    Attributes
    ----------
    index : NDArray, shape (n,)
        Their numbers in the scan.
    digests : NDArray of uint8, shape (n, 16)
    group : NDArray, shape (n,)
        Images with equal pixels share one.
    label, split : NDArray, shape (n,)
    n_moved : int
        Images taken out of a split because of a duplicate in an earlier one.
    class_names : tuple of str
    shape : tuple of int
        Bands, rows, columns.
    pixel_scale : float, arcsec
    bands : tuple of str
    unit : str
    """

    index: NDArray[np.int64]
    digests: NDArray[np.uint8]
    group: NDArray[np.int64]
    label: NDArray[np.int16]
    split: NDArray[np.int8]
    n_moved: int
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    pixel_scale: float
    bands: tuple[str, ...]
    unit: str


def choose(seen: Scan, config: ImportConfig) -> Chosen:
    """Leave out what does not go with the others; order and split the rest.

    Parameters
    ----------
    seen : Scan
        Gains a reject for each image that is left out.
    config : ImportConfig

    Raises
    ------
    ConfigError
        If no file says how large its pixels are, and the configuration does not either.
    DatasetError
        If nothing is left.
    """
    shape, scale, bands, unit = _common(seen, config)
    codes = {code: key for key, code in seen.facts.items()}
    verdicts = {code: _misfit(*key, shape, scale, unit) for code, key in codes.items()}
    kept = []
    for number, code in enumerate(seen.fact):
        if verdict := verdicts[code]:
            seen.reject(number, *verdict)
        else:
            kept.append(number)
    index = np.array(kept, np.int64)
    digests = np.frombuffer(b"".join(seen.digest), np.uint8).reshape(len(seen), -1)[index]
    group = same_pixels(digests)
    label = np.array(seen.label, np.int64)[index]
    good = _uncontradicted(seen, index, group, label)
    index, digests, group, label = index[good], digests[good], group[good], label[good]
    if not len(index):
        raise DatasetError("every image was rejected: nothing is left to make a dataset of")
    source, row = np.array(seen.source)[index], np.array(seen.row)[index]
    order = np.lexsort((row, source, group))  # groups are numbered in the order of their hashes
    index, digests, group, label = index[order], digests[order], group[order], label[order]
    split = content_split_codes(digests, config.splits.train, config.splits.val, config.seed)
    n_moved = 0
    if config.splits_from == "given":
        given = np.array(seen.split, np.int8)[index]
        split, n_moved = one_split_each(np.where(given >= 0, given, split), group)
    of_code = {code: name for name, code in seen.labels.items()}
    names = class_order({of_code[code] for code in np.unique(label).tolist()})
    place = np.array([names.index(n) if n in names else -1 for n in seen.labels], np.int16)
    labels = place[label]
    _warn_of_gaps(labels, split, names)
    return Chosen(index, digests, group, labels, split, n_moved, names, shape, scale, bands, unit)


def _common(
    seen: Scan, config: ImportConfig
) -> tuple[tuple[int, int, int], float, tuple[str, ...], str]:
    """Shape, pixel scale, bands and unit that most images have, or that the configuration says."""
    n_bands, rows, columns = seen.most_common()
    times = Counter(seen.fact)
    facts = [(fact, times[code]) for (_, fact), code in seen.facts.items()]
    scale = config.pixel_scale
    if scale is None:
        stated = sorted((f.pixel_scale, n) for f, n in facts if f.pixel_scale is not None)
        if not stated:
            raise ConfigError("no file says how large its pixels are; give --pixel-scale (arcsec)")
        scale = _weighted_median(stated)
    bands = config.bands or (_most_said([(f.band, n) for f, n in facts]),)
    unit = config.unit or _most_said([(f.unit, n) for f, n in facts])
    return (n_bands, rows, columns), float(scale), bands, unit


def _most_said(pairs: list[tuple[str | None, int]]) -> str:
    """Text that most images have; of equally common ones the first in the alphabet."""
    times = Counter[str]()
    for text, n in pairs:
        if text is not None:
            times[text.strip()] += n
    return min(times, key=lambda text: (-times[text], text)) if times else "unknown"


def _weighted_median(pairs: list[tuple[float, int]]) -> float:
    half, passed = sum(n for _, n in pairs) / 2, 0
    for value, n in pairs:
        passed += n
        if passed >= half:
            return value
    return pairs[-1][0]


def _misfit(
    shape: tuple[int, ...],
    facts: Facts,
    wanted: tuple[int, int, int],
    scale: float,
    unit: str,
) -> tuple[str, str] | None:
    """Reason and detail if images like this do not go with the others."""
    if shape != wanted:
        found, asked = (" x ".join(map(str, s)) for s in (shape, wanted))
        return Reason.WRONG_SHAPE, f"{found}; most images are {asked} (band, rows, columns)"
    if facts.pixel_scale is not None and abs(facts.pixel_scale / scale - 1) > SCALE_TOLERANCE:
        return (
            Reason.PIXEL_SCALE_MISMATCH,
            f"pixels of {facts.pixel_scale:.4g} arcsec, the others' are {scale:.4g} arcsec",
        )
    if facts.unit is not None and facts.unit.strip() != unit:
        return Reason.UNIT_MISMATCH, f"unit {facts.unit!r}, the others' is {unit!r}"
    return None


def _uncontradicted(
    seen: Scan, index: NDArray[np.int64], group: NDArray[np.int64], label: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Leave out images whose pixels occur under two labels: one of them lies."""
    lowest = np.full(int(group.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    highest = np.full(len(lowest), -1)
    np.minimum.at(lowest, group, label)
    np.maximum.at(highest, group, label)
    good = np.asarray((lowest == highest)[group])
    names = {code: name for name, code in seen.labels.items()}
    said = defaultdict[int, set[str]](set)
    for i in np.flatnonzero(~good):
        said[int(group[i])].add(names[int(label[i])])
    for i in np.flatnonzero(~good):
        both = " and ".join(sorted(said[int(group[i])]))
        seen.reject(int(index[i]), Reason.CONTRADICTORY, f"the same pixels occur as {both}")
    return good


def _warn_of_gaps(
    label: NDArray[np.int16], split: NDArray[np.int8], names: tuple[str, ...]
) -> None:
    for k, name in enumerate(names):
        empty = [s for j, s in enumerate(SPLITS) if not ((label == k) & (split == j)).any()]
        if empty:
            _logger.warning(
                "class %s has no images to %s with; --split content, or another --seed, divides "
                "anew",
                name,
                " or ".join({"val": "validate"}.get(s, s) for s in empty),
            )
