"""A plug-in is a file: listed without import, loaded by name, refused with the nearest name."""

import sys
from pathlib import Path

import pytest

from pipeline.core.config import StrictModel, dump, validate
from pipeline.core.errors import ConfigError, UnknownKindError
from pipeline.core.registry import Family, plugin_field

KIND = '''"""A {name} for tests.

More text.
"""
from typing import Literal
from pipeline.core.config import StrictModel

class Config(StrictModel):
    kind: Literal["{name}"] = "{name}"
    size: int = 1
'''


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "toy_kinds"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "base.py").write_text("raise ImportError('never imported')")
    (package / "_heavy.py").write_text("raise ImportError('never imported')")
    for name in ("circle", "square"):
        (package / f"{name}.py").write_text(KIND.format(name=name))
    monkeypatch.syspath_prepend(tmp_path)
    yield Family("shape", "toy_kinds")
    for name in [n for n in sys.modules if n.startswith("toy_kinds")]:
        del sys.modules[name]


def test_kinds_and_summaries_are_read_without_import(family: Family) -> None:
    assert family.kinds() == ("circle", "square")
    assert family.summary("circle") == "A circle for tests."
    assert "toy_kinds.circle" not in sys.modules


def test_config_goes_through_the_kinds_own_model(family: Family) -> None:
    class Drawing(StrictModel):
        shape: plugin_field(family)

    drawing = validate({"shape": {"kind": "square", "size": 4}}, Drawing)
    assert dump(drawing) == {"shape": {"kind": "square", "size": 4}}
    assert validate({"shape": "circle"}, Drawing).shape.kind == "circle"
    with pytest.raises(ConfigError, match=r"shape.siez: unknown key 'siez'.*did you mean 'size'"):
        validate({"shape": {"kind": "square", "siez": 4}}, Drawing)
    with pytest.raises(ConfigError, match=r"'sqare' is not a shape kind.*did you mean 'square'"):
        validate({"shape": {"kind": "sqare"}}, Drawing)
    with pytest.raises(ConfigError, match="kind: NAME"):
        validate({"shape": 3}, Drawing)


def test_an_unknown_kind_names_the_known_ones(family: Family) -> None:
    with pytest.raises(UnknownKindError, match="circle, square"):
        family.load("triangle")
