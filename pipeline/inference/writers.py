"""Write a scores table as ECSV, FITS, VOTable, CSV or Parquet, whole or not at all.

A table never holds a clock or a host; its header names the checkpoint that made it, so equal inputs
give equal tables. CSV has no header: there the checkpoint is one more column. The two text formats
are written row by row, in memory that does not depend on the number of rows.
"""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import ConfigError, MissingExtraError
from pipeline.core.files import atomic_path
from pipeline.inference.catalogue import Catalogue

#: Suffixes a table can be written under.
FORMATS = (".ecsv", ".fits", ".vot", ".votable", ".csv", ".parquet")


def require_format(out: Path) -> str:
    """Suffix of ``out`` if a table can be written there.

    Raises
    ------
    ConfigError
        For any other suffix.
    MissingExtraError
        For ``.parquet`` without pyarrow.
    """
    suffix = out.suffix.lower()
    if suffix not in FORMATS:
        raise ConfigError(
            f"{out}: cannot write a table with suffix {suffix or 'none'!r}; "
            f"known: {', '.join(FORMATS)}"
        )
    if suffix == ".parquet":
        _pyarrow()
    return suffix


def write_catalogue(catalogue: Catalogue, meta: Mapping[str, Any], out: Path) -> None:
    """Write a scores table in the format of ``out``'s suffix.

    Parameters
    ----------
    catalogue : Catalogue
    meta : mapping
        ``checkpoint_sha256``, ``files``, ``scored``, ``rejected``, ``versions`` and more.
    out : Path

    Raises
    ------
    OutputError
        If it cannot be written; what was there before is untouched.
    """
    suffix = require_format(out)
    with atomic_path(out) as temporary:
        if suffix in (".ecsv", ".csv"):
            _write_text(catalogue, meta, temporary, is_ecsv=suffix == ".ecsv")
        elif suffix == ".fits":
            _for_fits(catalogue.table(meta)).write(temporary, format="fits")
        elif suffix in (".vot", ".votable"):
            _write_votable(catalogue.table(meta), temporary)
        else:
            _write_parquet(catalogue.table(meta), temporary)


def _write_text(
    catalogue: Catalogue, meta: Mapping[str, Any], path: Path, *, is_ecsv: bool
) -> None:
    header = catalogue.header(meta)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if is_ecsv:
            text = io.StringIO()
            header.write(text, format="ascii.ecsv", delimiter=",")
            stream.write(text.getvalue())
            writer.writerows(catalogue.rows())
        else:
            writer.writerow([*header.colnames, "checkpoint_sha256"])
            sha256 = meta["checkpoint_sha256"]
            writer.writerows([*row, sha256] for row in catalogue.rows())


def _for_fits(table: Any) -> Any:  # astropy Tables
    """Copy that FITS can hold: ASCII text, no masked booleans, keywords of eight letters."""
    plain = table.copy()
    for name in table.colnames:
        if table[name].dtype.kind == "U":
            ascii_text = np.char.encode(table[name].filled(""), "ascii", "backslashreplace")
            plain.replace_column(name, type(table[name])(ascii_text, name=name))
        elif table[name].dtype.kind == "b":
            plain.replace_column(name, type(table[name])(table[name].filled(False), name=name))
        plain[name].description = table[name].description
    meta = table.meta
    plain.meta = {
        "CKPTSHA": meta["checkpoint_sha256"],
        "NFILES": meta["files"],
        "NSCORED": meta["scored"],
        "NREJECT": meta["rejected"],
        "NOTE": meta.get("note", ""),
        "POPULAT": json.dumps(meta.get("population", {})),
        "VERSIONS": json.dumps(meta["versions"]),
    }
    return plain


def _write_votable(table: Any, path: Path) -> None:  # an astropy Table
    from astropy.io.votable import from_table  # type: ignore[import-untyped]
    from astropy.io.votable.tree import Info  # type: ignore[import-untyped]

    meta, table.meta = table.meta, {}
    content = from_table(table, table_id="scores")
    for name, value in meta.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        content.resources[0].infos.append(Info(name=name, value=text, ID=name))
    content.to_xml(str(path), tabledata_format="tabledata")


def _write_parquet(table: Any, path: Path) -> None:  # an astropy Table
    pyarrow, parquet = _pyarrow()
    arrays = {
        name: pyarrow.array(np.asarray(table[name].data.data), mask=np.asarray(table[name].mask))
        for name in table.colnames
    }
    units = {name: str(table[name].unit) for name in table.colnames if table[name].unit}
    meta = {"deeplense": json.dumps({**table.meta, "units": units}, ensure_ascii=False)}
    parquet.write_table(pyarrow.table(arrays).replace_schema_metadata(meta), path)


def _pyarrow() -> tuple[Any, Any]:  # pyarrow carries no types
    try:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError(
            "writing .parquet needs pyarrow: pip install 'deeplense-pipeline[parquet]'"
        ) from error
    return pyarrow, pyarrow.parquet
