"""What a table beside images says: label, split and numbers of every file or row.

CSV or ECSV. ``path`` names the file (relative to the folder of the images), ``label`` its class,
``split`` its split; every other column of numbers is a truth, with the unit that ECSV gives it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError
from pipeline.dataset.splits import SPLIT_NAMES
from pipeline.physics.components import TruthColumn

#: Names that other people give the columns.
_PATHS = ("path", "file", "filename", "name", "image")
_LABELS = ("label", "class", "class_name", "truth")
#: Columns that number images or files and measure nothing.
_NO_TRUTH = ("index", "row", "id")


@dataclass(frozen=True)
class Entry:
    """What is said about one image; None where nothing is."""

    label: str | None = None
    split: str | None = None
    targets: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Labels:
    """A table: its rows in order, their paths if it has a column of paths, and its truths."""

    name: str
    paths: tuple[str, ...] | None
    entries: tuple[Entry, ...]
    columns: Mapping[str, TruthColumn]

    def by_path(self) -> dict[str, Entry]:
        """Entry of each path.

        Raises
        ------
        ConfigError
            If the table has no paths, or one twice.
        """
        if self.paths is None:
            raise ConfigError(
                f"{self.name}: no column of paths; expected one of {', '.join(_PATHS)}"
            )
        found = dict(zip(self.paths, self.entries, strict=True))
        if len(found) < len(self.paths):
            twice = Counter(self.paths).most_common(1)[0][0]
            raise ConfigError(f"{self.name}: path {twice!r} stands there twice")
        return found


def read_labels(path: Path) -> Labels:
    """Read a table of labels.

    Parameters
    ----------
    path : Path
        ``.csv`` or ``.ecsv``.

    Returns
    -------
    Labels

    Raises
    ------
    ConfigError
        If it cannot be read, has no column of labels, or names a split nobody knows.
    """
    table = _read(path)
    label_column = next((c for c in _LABELS if c in table.colnames), None)
    if label_column is None:
        found = ", ".join(table.colnames)
        raise ConfigError(
            f"{path}: no column of labels; expected one of {', '.join(_LABELS)}, found {found}"
        )
    path_column = next((c for c in _PATHS if c in table.colnames), None)
    used = {label_column, path_column, "split", *_NO_TRUTH}
    columns = {
        name: TruthColumn(str(table[name].unit or ""), str(table[name].description or ""))
        for name in table.colnames
        if name not in used and table[name].dtype.kind in "fiu" and table[name].ndim == 1
    }
    truths = {name: _numbers(table[name]) for name in columns}
    labels = _texts(table[label_column])
    splits = _splits(path, table) if "split" in table.colnames else [None] * len(table)
    entries = [
        Entry(labels[i], splits[i], {name: float(values[i]) for name, values in truths.items()})
        for i in range(len(table))
    ]
    paths = None
    if path_column is not None:
        paths = tuple(text or "" for text in _texts(table[path_column]))
    return Labels(str(path), paths, tuple(entries), columns)


def _read(path: Path) -> Any:  # an astropy Table
    from astropy.table import Table  # type: ignore[import-untyped]  # heavy
    from astropy.utils.exceptions import AstropyWarning  # type: ignore[import-untyped]

    formats = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv"}
    suffix = path.suffix.lower()
    if suffix not in formats:
        raise ConfigError(f"{path}: a table of labels is {' or '.join(formats)}")
    try:
        return Table.read(path, format=formats[suffix])
    except (OSError, ValueError, TypeError, AstropyWarning) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"{path}: the table of labels cannot be read: {text}") from error


def _texts(column: Any) -> list[str | None]:
    """Cells as text; None where the cell is empty."""
    mask = np.broadcast_to(np.asarray(getattr(column, "mask", False)), (len(column),))
    texts = [str(cell).strip() for cell in np.asarray(column)]
    return [None if gone or not text else text for text, gone in zip(texts, mask, strict=True)]


def _numbers(column: Any) -> NDArray[np.float64]:
    values = np.asarray(column, np.float64).copy()
    mask = getattr(column, "mask", None)
    if mask is not None:
        values[np.asarray(mask)] = np.nan
    return values


def _splits(path: Path, table: Any) -> list[str | None]:
    found = [None if text is None else text.lower() for text in _texts(table["split"])]
    unknown = sorted({text for text in found if text is not None and text not in SPLIT_NAMES})
    if unknown:
        known = ", ".join(dict.fromkeys(SPLIT_NAMES.values()))
        raise ConfigError(f"{path}: split {unknown[0]!r} is none of {known}")
    return [None if text is None else SPLIT_NAMES[text] for text in found]
