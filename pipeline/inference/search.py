"""Find the FITS files among files, folders, globs and lists, each once and in one fixed order.

Nothing found is dropped silently: what cannot be searched becomes a row of its own (a folder that
cannot be listed, a link that runs in a circle), and files that are not FITS by name are counted.
"""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import ScoringError
from pipeline.inference.images import Rejection, RejectReason, UnreadableImageError
from pipeline.inference.stacks import ARRAY_SUFFIXES, Part, is_dataset, list_parts

#: Names that a folder is searched for; letter case does not matter.
SUFFIXES = (
    *(".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fts.gz"),
    *(".fits.bz2", ".fit.bz2", ".fts.bz2", ".fz"),
)


@dataclass(frozen=True)
class Found:
    """One file to score, or one place that could not be searched.

    Attributes
    ----------
    path : Path
        As the user gave it, joined with what was found below; it opens from the same folder.
    name : str
        The row's name: relative to the common root of all inputs, one printable line.
    problem : Rejection or None
        Set where there is nothing to read.
    part : Part or None
        Which image of a file that holds several.
    order : int
        Position among the images of one file.
    """

    path: Path
    name: str
    problem: Rejection | None = None
    part: Part | None = None
    order: int = 0


@dataclass(frozen=True)
class Search:
    """All that was found, sorted by name; ``root`` is what the names are relative to."""

    files: tuple[Found, ...]
    root: str
    n_skipped: int


def find_images(inputs: Sequence[Path | str], n_bands: int = 1) -> Search:
    """Search ``inputs``: files, folders (recursively), globs, and ``@FILE`` with one path a line.

    A file named outright is taken whatever its suffix; in folders and globs the suffix decides.
    A folder reached through links is searched once. ``.npy`` and ``.npz`` stacks and Zarr datasets
    give one item for each of their images.

    Parameters
    ----------
    inputs : sequence of Path or str
    n_bands : int
        Bands of the checkpoint: tells a picture of that many planes from a stack.

    Returns
    -------
    Search

    Raises
    ------
    ScoringError
        If an input does not exist, or nothing at all is found.
    """
    walker = _Walker()
    roots = []
    for path in _expand(inputs):
        if path.is_dir() and not is_dataset(path):
            walker.walk(path)
            roots.append(path)
        else:
            walker.found[path] = None
            roots.append(path.parent)
    walker.follow_links()
    if not walker.found:
        places = ", ".join(str(item) for item in inputs) or "nothing was given"
        others = f" among {walker.n_skipped} other files" if walker.n_skipped else ""
        raise ScoringError(
            f"{places}: no FITS files{others}; looked for names ending in "
            f"{', '.join(SUFFIXES[:3])}, plain or packed (.gz, .bz2, .fz), .npy and .npz"
        )
    root = _common_root(roots)
    candidates = [
        Found(path, printable(os.path.relpath(path, root)), problem)
        for path, problem in walker.found.items()
    ]
    candidates.sort(key=lambda item: (item.name, os.fsencode(item.path)))
    files = [item for place in candidates for item in _parts(place, n_bands)]
    return Search(tuple(files), printable(root), walker.n_skipped)


def _parts(place: Found, n_bands: int) -> list[Found]:
    """The images of a file or dataset that may hold several; a single picture is itself."""
    is_array = place.path.suffix.lower() in ARRAY_SUFFIXES and not place.path.is_dir()
    if place.problem is not None or not (is_array or is_dataset(place.path)):
        return [place]
    try:
        parts = list_parts(place.path, n_bands)
    except UnreadableImageError as error:
        rejection = Rejection(error.rejection.reason, printable(error.rejection.detail))
        return [Found(place.path, place.name, rejection)]
    return [
        Found(place.path, printable(f"{place.name}{part.label}"), None, part, order)
        for order, part in enumerate(parts)
    ]


def printable(name: str) -> str:
    r"""Name on one line of valid UTF-8: control characters and stray bytes become ``\xNN``."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def _expand(inputs: Sequence[Path | str]) -> list[Path]:
    paths: list[Path] = []
    for item in inputs:
        text = os.fspath(item)
        if os.path.lexists(text):
            paths.append(Path(text))
        elif text.startswith("@"):
            paths.extend(_expand(_read_list(Path(text[1:]))))
        elif glob.has_magic(text):
            matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207 - keeps the user's spelling
            paths.extend(path for path in matches if path.is_dir() or is_image_name(path.name))
        else:
            raise ScoringError(f"{text}: no such file or folder")
    return paths


def _read_list(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ScoringError(f"{path}: the list of inputs cannot be read: {error}") from error
    return [line for line in lines if line.strip() and not line.startswith("#")]


def is_fits_name(name: str) -> bool:
    """Whether a file's name says that it is FITS."""
    return name.lower().endswith(SUFFIXES)


def is_image_name(name: str) -> bool:
    """Whether a file's name says that it is FITS or an array."""
    return name.lower().endswith((*SUFFIXES, *ARRAY_SUFFIXES))


class _Walker:
    """Depth-first walk; real folders first, links to folders after all of them."""

    def __init__(self) -> None:
        self.found: dict[Path, Rejection | None] = {}
        self.n_skipped = 0
        self._visited: dict[tuple[int, int], Path] = {}
        self._links: list[Path] = []

    def walk(self, folder: Path) -> None:
        pending = [folder]
        while pending:
            current = pending.pop()
            try:
                status = current.stat()
                with os.scandir(current) as entries:
                    names = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                self._reject(current, f"folder cannot be listed: {error.strerror}")
                continue
            if self._visited.setdefault((status.st_dev, status.st_ino), current) != current:
                continue
            for entry in names:
                path = current / entry.name
                if entry.is_dir(follow_symlinks=False):
                    if is_dataset(path):
                        self.found[path] = None
                    else:
                        pending.append(path)
                elif entry.is_symlink() and path.is_dir():
                    self._links.append(path)
                elif is_image_name(entry.name):
                    self.found[path] = None
                else:
                    self.n_skipped += 1

    def follow_links(self) -> None:
        while self._links:
            link = self._links.pop(0)
            try:
                status = link.stat()
            except OSError as error:
                self._reject(link, f"link cannot be followed: {error.strerror}")
                continue
            seen = self._visited.get((status.st_dev, status.st_ino))
            if seen is None:
                self.walk(link)
            else:
                self._reject(link, f"link to a folder that is searched already: {seen}")

    def _reject(self, path: Path, detail: str) -> None:
        self.found[path] = Rejection(RejectReason.UNREADABLE, printable(detail))


def _common_root(folders: list[Path]) -> str:
    texts = [os.fspath(folder) for folder in folders]
    if len({Path(text).is_absolute() for text in texts}) > 1:
        texts = [os.path.abspath(text) for text in texts]  # noqa: PTH100 - links must stay links
    return os.path.commonpath(texts) or "."
