"""Positions on the sky from a table: CSV, ECSV, FITS, VOTable or Parquet with RA and Dec."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import ScoringError

#: Names of columns, lower case, best first.
_RA = ("ra", "ra_deg", "raj2000", "ra_icrs", "alpha_j2000", "right_ascension", "_raj2000")
_DEC = ("dec", "dec_deg", "dej2000", "decj2000", "de_icrs", "delta_j2000", "declination",
        "_dej2000")  # fmt: skip
_NAMES = ("id", "name", "object_id", "objid", "source_id", "objectid", "object", "number")
#: Suffix -> astropy's name of the format.
_FORMATS = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".fits": "fits", ".fit": "fits",
            ".vot": "votable", ".xml": "votable", ".parquet": "parquet", ".txt": "ascii",
            ".dat": "ascii", ".cat": "ascii"}  # fmt: skip


@dataclass(frozen=True)
class SkyCatalogue:
    """Names and positions (degrees; NaN where a line has none), in the order of the table."""

    path: Path
    names: tuple[str, ...]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]

    def where(self, line: int) -> str:
        """Sentence about a position that no mosaic covers."""
        if not (np.isfinite(self.ra[line]) and np.isfinite(self.dec[line])):
            return "the catalogue gives no position"
        return f"no mosaic covers RA {self.ra[line]:.6f}, Dec {self.dec[line]:.6f}"


def read_sky_catalogue(path: Path) -> SkyCatalogue:
    """Read a catalogue of positions.

    Columns are found by their names, whatever the letter case: ra and dec (degrees, or
    sexagesimal text, hours for ra), and id or name, else the number of the line from 1.

    Raises
    ------
    ScoringError
        If it cannot be read or has no such columns.
    """
    from astropy.table import Table  # type: ignore[import-untyped]

    form = _FORMATS.get(path.suffix.lower())
    if form is None:
        raise ScoringError(f"{path}: no catalogue; known suffixes: {', '.join(_FORMATS)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if form == "parquet":
                from pyarrow import parquet  # type: ignore[import-untyped]

                table = Table(parquet.read_table(path).to_pydict())
            else:
                table = Table.read(path, format=form)
    except (OSError, ValueError, KeyError, TypeError, IndexError, ImportError) as error:
        raise ScoringError(f"{path}: the catalogue cannot be read: {error}") from error
    columns = {name.lower(): name for name in table.colnames}
    ra, dec, name = (_first(columns, names) for names in (_RA, _DEC, _NAMES))
    if ra is None or dec is None:
        raise ScoringError(
            f"{path}: no columns of RA and Dec (degrees) among {', '.join(table.colnames)}"
        )
    numbers = range(1, len(table) + 1)
    names = [str(value) for value in (table[name] if name else numbers)]
    return SkyCatalogue(
        path, _unique(names), _degrees(table[ra], "hourangle"), _degrees(table[dec], "deg")
    )


def _first(columns: dict[str, str], names: tuple[str, ...]) -> str | None:
    return next((columns[name] for name in names if name in columns), None)


def _unique(names: list[str]) -> tuple[str, ...]:
    """Names with the line's number where one occurs twice."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return tuple(
        name if counts[name] == 1 else f"{name}@{line}" for line, name in enumerate(names, 1)
    )


def _degrees(column: Any, unit: str) -> NDArray[np.float64]:  # Any: an astropy column
    from astropy.coordinates import Angle  # type: ignore[import-untyped]

    values = np.ma.filled(np.ma.asarray(column), "" if column.dtype.kind in "US" else np.nan)
    if values.dtype.kind in "USO":
        found = np.full(len(values), np.nan)
        for line, text in enumerate(values):
            try:
                is_number = str(text).replace(".", "").lstrip("+-").isdecimal()
                found[line] = float(text) if is_number else Angle(str(text), unit=unit).deg
            except (ValueError, TypeError):
                continue
        return found
    if str(column.unit or "") in ("rad", "radian"):
        return np.degrees(values.astype(np.float64))
    return np.asarray(values, np.float64)
