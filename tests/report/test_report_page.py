"""A page is one file that needs nothing else, shows what it is given, and trusts no text."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from pipeline.report.figures import curves, reliability, roc_curves
from pipeline.report.page import (
    Chart,
    Charts,
    Confusion,
    Gallery,
    Page,
    Picture,
    PictureRow,
    ScoreCard,
    ScoreCards,
    Section,
    Table,
    Tile,
    render,
    write_page,
)
from pipeline.report.pictures import difference_picture, grey_picture, stretch_limits

NAMES = ("no", "subhalo", "vortex")
HOSTILE = '<script>alert("x")</script>&.fits'


@pytest.fixture(scope="module")
def page() -> Page:
    rng = np.random.default_rng(0)
    rate = np.linspace(0.0, 1.0, 30)
    roc = {"no": (rate, rate**0.5), "subhalo": (rate, rate**0.3), "vortex": (rate, rate)}
    bins = (np.linspace(0, 1, 5), [0, 20, 30, 50], [np.nan, 0.4, 0.6, 0.9], [np.nan, 0.5, 0.6, 1.0])
    epochs = np.arange(1, 6)
    picture = Picture(grey_picture(rng.normal(size=(8, 8)), -1.0, 3.0), HOSTILE, "#1")
    card = ScoreCard(
        HOSTILE,
        picture,
        tuple(zip(NAMES, (0.1, 0.7, 0.2), strict=True)),
        "subhalo",
        False,
        ("ood",),
    )
    charts = (
        Chart(roc_curves(roc, {"no": 0.7, "subhalo": 0.8, "vortex": 0.5}), "ROC"),
        Chart(reliability(*bins), "calibration"),
        Chart(curves("Loss", "epoch", {"train": (epochs, 1 / epochs)}, best=3), "loss"),
    )
    blocks = (
        Gallery((PictureRow("no", (picture,), 0),), "pictures", ("first",)),
        Charts(charts),
        Confusion(NAMES, ((8, 1, 1), (0, 9, 1), (0, 0, 0)), "confusion"),
        ScoreCards((card,), "cards"),
        Table(("file", "reason"), ((HOSTILE, "blank"),), "rejected"),
    )
    section = Section("What was found", "A lead.", blocks)
    return Page("Title", "Sub", (Tile("AUC", "0.9", "note"),), (section,), {"more": "deeplense x"})


class _Collector(HTMLParser):
    """Tags, and every address an attribute names."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = ("src", "href", "xlink:href", "data", "action", "srcset")
        self.addresses += [value or "" for name, value in attrs if name in names]


def test_page_refers_to_nothing_outside_itself(page: Page) -> None:
    html = render(page)
    collector = _Collector()
    collector.feed(html)
    assert collector.tags.count("svg") == 3
    assert collector.tags.count("img") == 2
    assert not {"script", "link", "iframe", "object"} & set(collector.tags)
    assert all(a.startswith(("data:image/png;base64,", "#")) for a in collector.addresses)
    assert not re.search(r"url\((?!#)|@import", html)


def test_page_escapes_file_names(page: Page) -> None:
    html = render(page)
    assert "<script>" not in html
    assert html.count("&lt;script&gt;") >= 3


def test_references_inside_the_page_resolve_and_ids_are_unique(page: Page) -> None:
    html = render(page)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    references = set(re.findall(r'(?:href="#|url\(#)([^")]+)', html))
    assert references <= set(ids)


def test_charts_use_the_colours_of_the_page_and_keep_no_placeholder(page: Page) -> None:
    html = render(page)
    for name in ("--ink", "--muted", "--line", "--c0", "--c1", "--c2"):
        assert f"var({name})" in html
    assert not re.search(r"#0\d0a0b|#010203|#020304|#030405", html)


def test_confusion_shows_shares_of_each_true_class(page: Page) -> None:
    block = Confusion(NAMES, ((8, 1, 1), (0, 9, 1), (0, 0, 0)), "")
    assert block.shares == ((0.8, 0.1, 0.1), (0.0, 0.9, 0.1), (0.0, 0.0, 0.0))
    assert "80 %<small>8</small>" in render(page)


def test_same_page_gives_the_same_bytes(page: Page, tmp_path: Path) -> None:
    first = write_page(page, tmp_path / "a.html").read_bytes()
    assert first == write_page(page, tmp_path / "b.html").read_bytes()


def test_picture_has_row_zero_at_the_bottom() -> None:
    import base64
    import io

    from matplotlib.image import imread

    image = np.zeros((4, 4))
    image[0, 1] = 1.0
    data = base64.b64decode(grey_picture(image, 0.0, 1.0).partition(",")[2])
    pixels = imread(io.BytesIO(data))[..., 0]
    assert pixels[-1, 1] == 1.0
    assert pixels[:-1].max() == 0.0


def test_stretch_is_finite_for_blank_and_for_broken_images() -> None:
    for images in (np.zeros((2, 5, 5)), np.full((1, 5, 5), np.nan)):
        black, white = stretch_limits(images)
        assert np.isfinite([black, white]).all()
        assert white > black


def test_difference_of_nothing_is_the_middle_of_the_scale() -> None:
    assert difference_picture(np.zeros((3, 3)), 1.0) == difference_picture(np.zeros((3, 3)), 9.0)
    assert difference_picture(np.ones((3, 3)), 1.0) != difference_picture(-np.ones((3, 3)), 1.0)


def test_roc_leaves_out_a_class_that_cannot_have_a_curve() -> None:
    svg = roc_curves({"no": ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0]), "vortex": ([], [])}, {"no": 1.0})
    assert ">no  1.000<" in svg
    assert "vortex" not in svg


def test_reliability_takes_perfect_bins_and_empty_ones() -> None:
    svg = reliability([0.0, 0.5, 1.0], [0, 10], [float("nan"), 0.9], [float("nan"), 1.0])
    assert svg.startswith("<svg")
    assert "nan" not in svg
