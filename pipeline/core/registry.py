"""Plug-in families: a kind is a file, its name is what YAML says, and it is imported on use.

A family lists its kinds from the file names of one package, from installed entry points in the
group ``deeplense.FAMILY`` and from the folders of :mod:`pipeline.core.plugins`, without importing
any of them.
"""

import ast
import importlib
import os
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from pipeline.core.config import StrictModel, hint
from pipeline.core.errors import ConfigError, UnknownKindError
from pipeline.core.plugins import VARIABLE, import_kind, plugin_folders
from pipeline.core.provenance import sha256_hex


class Family:
    """One family of plug-ins, e.g. ``Family("substructure", "pipeline.physics.substructure")``.

    Parameters
    ----------
    name : str
        Used in messages and in the entry-point group ``deeplense.NAME``.
    package : str
        Import name of the folder that holds the kinds; its last part is the sub-folder that a
        plug-in folder has for them.
    needs : tuple of str
        What the module of every kind must define.
    """

    def __init__(self, name: str, package: str, needs: tuple[str, ...] = ("Config",)) -> None:
        self.name = name
        self.package = package
        self.needs = needs
        self.folder = package.rpartition(".")[2]
        # Kept until the variable that names plug-in folders changes: drawing a scene asks often.
        self._variable: str | None = None
        self._found: dict[str, Path | EntryPoint] = {}
        self._loaded: dict[str, ModuleType] = {}

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
        ConfigError
            If the file of a plug-in folder fails, or lacks what its family needs.
        """
        # The sources first: what is loaded is forgotten when the folders change.
        if kind in self._sources and kind in self._loaded:
            return self._loaded[kind]
        source = self._source(kind)
        if isinstance(source, EntryPoint):
            module = source.load()
            assert isinstance(module, ModuleType)
        elif self.is_plugin(kind):
            module = import_kind(source, self.folder)
        else:
            module = importlib.import_module(f"{self.package}.{kind}")
        for name in self.needs:
            if not hasattr(module, name):
                raise ConfigError(f"{self.name} {kind!r} ({module.__file__}) has no {name!r}")
        self._loaded[kind] = module
        return module

    def is_plugin(self, kind: str) -> bool:
        """Whether a kind comes from a folder of the user's."""
        source = self._source(kind)
        return isinstance(source, Path) and source.parent.parent in plugin_folders()

    def fingerprint(self, kind: str) -> dict[str, str]:
        """Hash of a plug-in's file under the name ``FAMILY:KIND``; empty for other kinds."""
        source = self._source(kind)
        if isinstance(source, EntryPoint) or not self.is_plugin(kind):
            return {}
        return {f"{self.name}:{kind}": sha256_hex(source.read_bytes())}

    def config(self, data: object) -> StrictModel:
        """Validate ``{kind: NAME, ...}`` (or a bare name) through the ``Config`` of its kind.

        ``variant: V`` starts from that named configuration instead of the defaults, and ``NAME:V``
        says the same in one word.

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
        kind, _, variant = block["kind"].partition(":")
        named = block.get("variant", variant or None)
        rest = {k: v for k, v in block.items() if k != "variant"} | {"kind": kind}
        if named is not None:
            return self.variant(kind, named).with_changes(**rest)
        config: type[StrictModel] = self.load(kind).Config
        return config.model_validate(rest)

    def variant(self, kind: str, name: object) -> StrictModel:
        """Named configuration of a kind: one of its ``VARIANTS``, or what its ``variant()`` makes.

        Raises
        ------
        UnknownKindError
            Naming the nearest variant.
        """
        module = self.load(kind)
        known: dict[str, StrictModel] = getattr(module, "VARIANTS", {})
        if isinstance(name, str) and name in known:
            return known[name]
        if isinstance(name, str) and hasattr(module, "variant"):
            made: StrictModel = module.variant(name)
            return made
        raise UnknownKindError(
            f"{self.name} {kind!r} has no variant {name!r}{hint(str(name), known)}"
        )

    @property
    def _sources(self) -> dict[str, Path | EntryPoint]:
        variable = os.environ.get(VARIABLE, "")
        if variable != self._variable:
            self._found, self._loaded = self._search(plugin_folders()), {}
            self._variable = variable
        return self._found

    def _search(self, folders: tuple[Path, ...]) -> dict[str, Path | EntryPoint]:
        spec = find_spec(self.package)
        assert spec is not None and spec.submodule_search_locations is not None
        found: dict[str, Path | EntryPoint] = {}
        own = Path(next(iter(spec.submodule_search_locations)))
        for folder in (own, *(f / self.folder for f in folders)):
            for path in folder.glob("*.py"):
                if path.stem == "base" or path.stem.startswith("_"):
                    continue
                if path.stem in found:
                    raise ConfigError(
                        f"two {self.name} plug-ins are called {path.stem!r}: {found[path.stem]} "
                        f"and {path}"
                    )
                found[path.stem] = path
        for entry in entry_points(group=f"deeplense.{self.name}"):
            if entry.name in found:
                raise ConfigError(
                    f"two {self.name} plug-ins are called {entry.name!r}: {entry.value}"
                )
            found[entry.name] = entry
        return found

    def _source(self, kind: str) -> Path | EntryPoint:
        if kind not in self._sources:
            raise UnknownKindError(
                f"{kind!r} is not a {self.name} kind{hint(kind, self.kinds())}; a kind of your own "
                f"is found with --plugins DIR or {VARIABLE}"
            )
        return self._sources[kind]


def plugin_field(family: Callable[[], Family] | Family) -> Any:  # Any: an annotated type
    """Type of a configuration field that holds the ``Config`` of any kind of ``family``."""

    def check(value: object) -> StrictModel:
        return (family if isinstance(family, Family) else family()).config(value)

    return Annotated[SerializeAsAny[StrictModel], BeforeValidator(check)]
