"""Find the files of images, and what their places say: the class from the folder, the split too.

``FOLDER/cdm/17.npy``, ``FOLDER/train/cdm/17.npy``, ``FOLDER/cdm.npy`` and a table of labels are all
understood. Folders named like a split are that split; of the others, the innermost one that is
known as a class counts, else the innermost.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import ConfigError
from pipeline.dataset.splits import SPLIT_NAMES
from pipeline.exchange.labels import Entry, Labels
from pipeline.exchange.rejects import Reason, Reject
from pipeline.inference.search import is_fits_name, printable

#: Names of the field's folders and what they mean here; letter case does not matter.
ALIASES = {
    **dict.fromkeys(("no", "no_sub", "nosub", "no_substructure", "sphere", "smooth"), "no"),
    **dict.fromkeys(("subhalo", "subhalos", "sub", "cdm", "cdm_sub", "point_mass"), "subhalo"),
    **dict.fromkeys(("vortex", "vort", "axion"), "vortex"),
}
#: Classes that come first, in this order.
FIRST = ("no", "subhalo", "vortex")
#: Longest name of a class.
_MAX_NAME = 64
NUMPY_SUFFIXES = (".npy", ".npz")


@dataclass(frozen=True)
class Source:
    """One file, and what its place or a table says about the images in it.

    Attributes
    ----------
    path : Path
    name : str
        Relative to what was imported, one printable line.
    entry : Entry
        About every image in the file.
    rows : tuple of Entry, optional
        About each image of a stack, where a table has a row for each.
    """

    path: Path
    name: str
    entry: Entry
    rows: tuple[Entry, ...] | None = None


@dataclass(frozen=True)
class Found:
    """Files to read, sorted by name; files that were left out at once; how many were no images."""

    sources: tuple[Source, ...]
    rejects: tuple[Reject, ...]
    n_skipped: int


def find_sources(
    root: Path, labels: Labels | None = None, aliases: Mapping[str, str] | None = None
) -> Found:
    """Find the images below a folder, or in one file.

    Parameters
    ----------
    root : Path
        Folder, ``.npy``, ``.npz`` or FITS file.
    labels : Labels, optional
        A table; without paths, its rows are those of the one stack that ``root`` is.
    aliases : mapping of str to str, optional
        More names of folders that are classes (:func:`class_of` says which).

    Returns
    -------
    Found

    Raises
    ------
    ConfigError
        If nothing is there, or the table does not fit.
    """
    known = {**ALIASES, **{k.lower(): v for k, v in (aliases or {}).items()}}
    if root.is_file():
        return Found((_single(root, labels, known),), (), 0)
    if not root.is_dir():
        raise ConfigError(f"{root}: no such file or folder")
    paths = sorted(p for p in root.rglob("*") if p.is_file())
    images = [p for p in paths if _is_image(p)]
    if not images:
        raise ConfigError(
            f"{root}: no images among {len(paths)} files; looked for .npy, .npz and FITS"
        )
    names = [printable(p.relative_to(root).as_posix()) for p in images]
    if labels is None:
        entries: Sequence[Entry | None] = [_placed(name, known) for name in names]
    else:
        entries = _from_table(names, labels)
    sources, rejects = [], []
    for path, name, entry in zip(images, names, entries, strict=True):
        if entry is None:
            rejects.append(Reject(name, None, Reason.NO_LABEL, "the table does not name it"))
        else:
            sources.append(Source(path, name, entry))
    missing = _not_there(names, labels)
    return Found(tuple(sources), (*rejects, *missing), len(paths) - len(images))


def class_of(label: str, aliases: Mapping[str, str] | None = None) -> str:
    """Name of the class that a folder's name or a table's label means."""
    known = {**ALIASES, **{k.lower(): v for k, v in (aliases or {}).items()}}
    return known.get(label.lower(), label)


def is_class_name(name: str) -> bool:
    """Whether a class may be called so: it becomes a folder, a column and a word in a header."""
    plain = name.isprintable() and name == name.strip() and not name.startswith(".")
    return plain and 0 < len(name) <= _MAX_NAME and not set(name) & set("/\\")


def class_order(names: set[str]) -> tuple[str, ...]:
    """Classes in the order of their labels: those of this project first, the others sorted."""
    return tuple(sorted(names, key=lambda n: (FIRST.index(n) if n in FIRST else len(FIRST), n)))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in NUMPY_SUFFIXES or is_fits_name(path.name)


def _single(root: Path, labels: Labels | None, known: Mapping[str, str]) -> Source:
    if not _is_image(root):
        raise ConfigError(f"{root}: neither .npy, .npz nor FITS")
    name = printable(root.name)
    if labels is None:
        return Source(root, name, _placed(name, known))
    if labels.paths is None:
        return Source(root, name, Entry(), labels.entries)
    entry = _from_table([name], labels)[0]
    if entry is None:
        raise ConfigError(f"{labels.name}: names no {name!r}")
    return Source(root, name, entry)


def _placed(name: str, known: Mapping[str, str]) -> Entry:
    """What a place like ``train/cdm/17.npy`` says."""
    *folders, file = name.split("/")
    splits = [SPLIT_NAMES[f.lower()] for f in folders if f.lower() in SPLIT_NAMES]
    others = [f for f in folders if f.lower() not in SPLIT_NAMES]
    classes = [f for f in others if f.lower() in known]
    stem = file.split(".")[0]
    if not others and stem.lower() in known:
        classes = [stem]
    said = classes or others
    label = said[-1] if said else None
    return Entry(label, splits[-1] if splits else None)


def _from_table(names: Sequence[str], labels: Labels) -> list[Entry | None]:
    """Entry of each file: by its path, else by its bare name where that is unique."""
    table = {path.removeprefix("./"): entry for path, entry in labels.by_path().items()}
    bare = [name.rsplit("/", 1)[-1] for name in names]
    times = Counter(bare)
    found = []
    for name, short in zip(names, bare, strict=True):
        entry = table.get(name)
        if entry is None and times[short] == 1:
            entry = table.get(short)
        found.append(entry)
    return found


def _not_there(names: Sequence[str], labels: Labels | None) -> list[Reject]:
    """Rows of the table without a file."""
    if labels is None or labels.paths is None:
        return []
    there = {*names, *(name.rsplit("/", 1)[-1] for name in names)}
    return [
        Reject(printable(path), None, Reason.UNREADABLE, "the table names it, no file is there")
        for path in labels.paths
        if path.removeprefix("./") not in there
    ]
