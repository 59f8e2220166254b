"""Plug-in families: a kind is a file, its name is what YAML says, and it is imported on use.

A family lists its kinds from the file names of one package and from installed entry points in the
group ``deeplense.FAMILY``, without importing any of them.
"""

import ast
import functools
import importlib
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from pipeline.core.config import StrictModel, hint
from pipeline.core.errors import ConfigError, UnknownKindError


class Family:
    """One family of plug-ins, e.g. ``Family("substructure", "pipeline.physics.substructure")``.

    Parameters
    ----------
    name : str
        Used in messages and in the entry-point group ``deeplense.NAME``.
    package : str
        Import name of the folder that holds the kinds.
    """

    def __init__(self, name: str, package: str) -> None:
        self.name = name
        self.package = package

    def kinds(self) -> tuple[str, ...]:
        """Names of all kinds, sorted; imports none of them."""
        return tuple(sorted(self._sources))

    def summary(self, kind: str) -> str:
        """First line of a kind's docstring, read as text (entry points: their module's name)."""
        source = self._source(kind)
        if isinstance(source, EntryPoint):
            return source.value
        doc = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8")))
        return (doc or "").partition("\n")[0]

    def load(self, kind: str) -> ModuleType:
        """Import the module of one kind.

        Raises
        ------
        UnknownKindError
            Naming the known kinds and the closest match.
        """
        source = self._source(kind)
        if isinstance(source, EntryPoint):
            module = source.load()
            assert isinstance(module, ModuleType)
            return module
        return importlib.import_module(f"{self.package}.{kind}")

    def config(self, data: object) -> StrictModel:
        """Validate ``{kind: NAME, ...}`` (or a bare name) through the ``Config`` of its kind.

        Raises
        ------
        ConfigError
        """
        if isinstance(data, StrictModel):
            return data
        block = {"kind": data} if isinstance(data, str) else data
        if not isinstance(block, dict) or not isinstance(block.get("kind"), str):
            known = ", ".join(self.kinds())
            raise ConfigError(
                f"expected a {self.name} block with 'kind: NAME', NAME one of {known}"
            )
        config: type[StrictModel] = self.load(block["kind"]).Config
        return config.model_validate(block)

    @functools.cached_property
    def _sources(self) -> dict[str, Path | EntryPoint]:
        spec = find_spec(self.package)
        assert spec is not None and spec.submodule_search_locations is not None
        folder = Path(next(iter(spec.submodule_search_locations)))
        found: dict[str, Path | EntryPoint] = {
            path.stem: path
            for path in folder.glob("*.py")
            if path.stem != "base" and not path.stem.startswith("_")
        }
        for entry in entry_points(group=f"deeplense.{self.name}"):
            if entry.name in found:
                raise ConfigError(
                    f"two {self.name} plug-ins are called {entry.name!r}: {entry.value}"
                )
            found[entry.name] = entry
        return found

    def _source(self, kind: str) -> Path | EntryPoint:
        if kind not in self._sources:
            raise UnknownKindError(f"{kind!r} is not a {self.name} kind{hint(kind, self.kinds())}")
        return self._sources[kind]


def plugin_field(family: Callable[[], Family] | Family) -> Any:  # Any: an annotated type
    """Type of a configuration field that holds the ``Config`` of any kind of ``family``."""

    def check(value: object) -> StrictModel:
        return (family if isinstance(family, Family) else family()).config(value)

    return Annotated[SerializeAsAny[StrictModel], BeforeValidator(check)]
