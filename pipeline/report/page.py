"""One self-contained HTML page from plain data: no script, no network, no external file.

Everything a page shows is one of the blocks below; the template next to this module lays them out
and escapes every text. SVG and picture addresses come from ``figures`` and ``pictures`` only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pipeline.core.files import atomic_write


@dataclass(frozen=True)
class Tile:
    """A headline number: ``value`` large, ``label`` above it, ``note`` small below."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture address and what to say about it; ``note`` stands under the picture."""

    uri: str
    alt: str
    note: str = ""


@dataclass(frozen=True)
class PictureRow:
    """Pictures beside one another; ``series`` is the class's colour (None: no colour)."""

    name: str
    pictures: tuple[Picture, ...]
    series: int | None = None


@dataclass(frozen=True)
class Gallery:
    """Rows of pictures, e.g. one row a class, under optional column headings."""

    kind: ClassVar[str] = "gallery"
    rows: tuple[PictureRow, ...]
    caption: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chart:
    """An inline SVG and its caption."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Charts:
    """Charts that share a row where the window is wide enough; ``wide`` ones take it all."""

    kind: ClassVar[str] = "charts"
    charts: tuple[Chart, ...]
    wide: bool = False


@dataclass(frozen=True)
class Confusion:
    """Counts of true class (row) against named class (column)."""

    kind: ClassVar[str] = "confusion"
    class_names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    caption: str

    @property
    def shares(self) -> tuple[tuple[float, ...], ...]:
        """Counts as shares of their row; a class without images has zeros."""
        return tuple(tuple(n / max(sum(row), 1) for n in row) for row in self.counts)


@dataclass(frozen=True)
class Table:
    """A plain table; ``numeric`` columns are right-aligned, ``whole`` ones never wrapped."""

    kind: ClassVar[str] = "table"
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    numeric: tuple[int, ...] = ()
    whole: tuple[int, ...] = ()


@dataclass(frozen=True)
class Listing:
    """Text as it is, e.g. a configuration, folded away under its title."""

    kind: ClassVar[str] = "listing"
    title: str
    text: str


@dataclass(frozen=True)
class ScoreCard:
    """One scored file: its picture, a bar per class, its flags, and the truth where known."""

    name: str
    picture: Picture | None
    probabilities: tuple[tuple[str, float], ...]
    label: str
    trusted: bool
    flags: tuple[str, ...] = ()
    truth: str = ""
    note: str = ""


@dataclass(frozen=True)
class ScoreCards:
    """Scored files beside one another."""

    kind: ClassVar[str] = "cards"
    cards: tuple[ScoreCard, ...]
    caption: str


@dataclass(frozen=True)
class Section:
    """A chapter of the page; ``lead`` is its opening paragraph."""

    title: str
    lead: str
    blocks: tuple[Gallery | Charts | Confusion | Table | Listing | ScoreCards, ...]

    @property
    def anchor(self) -> str:
        """Fragment identifier made from the title."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


@dataclass(frozen=True)
class Page:
    """All of a report.

    Parameters
    ----------
    title, subtitle : str
    tiles : tuple of Tile
    sections : tuple of Section
    next_steps : mapping of str to str
        What one might want, and the command line that does it.
    provenance : mapping of str to str
        Hashes and versions of everything the page was made from.
    """

    title: str
    subtitle: str
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]
    next_steps: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)


def render(page: Page) -> str:
    """Lay a page out as one HTML document."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pipeline.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(page=page)


def write_page(page: Page, out: Path) -> Path:
    """Write a page, whole or not at all, and return its path."""
    atomic_write(out, render(page))
    return out
