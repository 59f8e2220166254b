"""The page on physics: its pictures exist and are small, its table is that of the YAML files."""

import importlib.util
import re
from pathlib import Path

import pytest

from pipeline.physics.instrument import instrument_names
from pipeline.physics.substructure.base import SUBSTRUCTURE

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "physics.md"


@pytest.fixture(scope="module")
def script():
    pytest.importorskip("matplotlib")
    path = ROOT / "examples" / "make_physics_figures.py"
    spec = importlib.util.spec_from_file_location("make_physics_figures", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _pictures():
    return re.findall(r"!\[[^\]]+\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8"))


def test_every_picture_of_the_page_exists_and_is_small():
    assert len(_pictures()) > 8
    for name in _pictures():
        assert (PAGE.parent / name).stat().st_size <= 150_000, name


def test_every_kind_of_substructure_has_a_picture_on_the_page(script):
    assert set(script.FAMILIES) == set(SUBSTRUCTURE.kinds())
    assert {f"figures/{kind}.png" for kind in SUBSTRUCTURE.kinds()} <= set(_pictures())


def test_table_of_instruments_is_that_of_the_files(script):
    text = PAGE.read_text(encoding="utf-8")
    shown = text.split("<!-- instruments -->")[1].split("<!-- end of instruments -->")[0].strip()
    assert shown == script.instrument_table(), (
        "write the output of: python examples/make_physics_figures.py --instruments"
    )
    assert shown.count("\n") == len(instrument_names()) + 1


def test_page_says_that_the_vortex_is_excluded():
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert "benchmark observable" in text
    assert "already excluded for all of the dark matter" in text


def test_picture_of_a_family_can_be_drawn_again(script, tmp_path):
    module = script.ENGINES.load("lenstronomy")
    script.draw_family("vortex", tmp_path, module.build(module.Config()))
    assert (tmp_path / "vortex.png").read_bytes().startswith(b"\x89PNG")
