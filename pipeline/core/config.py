"""Strict configuration: YAML 1.2 in, one frozen object with one hash out.

``load_config`` reads a file or a named preset, merges ``extends``, applies ``--set a.b=c``, refuses
unknown and duplicate keys, and reports every fault with its file, line and key path.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pipeline.core.errors import ConfigError
from pipeline.core.plugins import use_plugins
from pipeline.core.provenance import canonical_json, sha256_hex
from pipeline.core.units import parse_quantity
from pipeline.core.yaml_source import Origins, Tree, read_yaml, set_value

Key = tuple[str | int, ...]


class StrictModel(BaseModel):
    """Base of every configuration: no unknown key, no coercion, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _name_unknown_keys(cls, data: Any) -> Any:  # Any: raw YAML
        if not isinstance(data, Mapping):
            return data
        unknown = [str(key) for key in data if key not in cls.model_fields]
        if unknown:
            raise PydanticCustomError(
                "unknown_keys", "unknown keys", {"keys": unknown, "known": list(cls.model_fields)}
            )
        return data

    def with_changes(self, **changes: Any) -> Self:  # Any: checked by the model itself
        """Return a copy with some fields replaced, validated like the original."""
        return self.model_validate(
            {**{k: getattr(self, k) for k in type(self).model_fields}, **changes}
        )


def quantity(unit: str, **bounds: Any) -> Any:  # Any: bounds in, a type out
    """Type of a float in ``unit`` that YAML may also write with its unit; bounds as in Field."""
    return Annotated[
        float,
        BeforeValidator(lambda value: parse_quantity(value, unit)),
        Field(json_schema_extra={"unit": unit}, **bounds),
    ]


def dump(model: StrictModel) -> dict[str, Any]:
    """Plain JSON data of a configuration, every default written out."""
    return model.model_dump(mode="json", serialize_as_any=True)


def config_sha256(model: StrictModel) -> str:
    """Hash of everything a configuration says (canonical JSON, SHA-256)."""
    return sha256_hex(canonical_json(dump(model)))


def load_config[ModelT: StrictModel](
    source: str | Path,
    model: type[ModelT],
    overrides: Sequence[str] = (),
    *,
    presets: Path,
) -> ModelT:
    """Read a YAML file, or the preset of that name, into ``model``.

    Parameters
    ----------
    source : str or Path
        A path (anything with a suffix or a separator), or the stem of a file in ``presets``.
    model : type of StrictModel
    overrides : sequence of str
        ``"a.b=c"``; the value is read as YAML.
    presets : Path
        Folder of the named presets; ``extends`` looks there too.

    Raises
    ------
    ConfigError
        One paragraph per fault: file, line, key path, what was found, what was expected.
    """
    tree, origins = resolve(source, presets)
    for text in overrides:
        set_value(tree, origins, text)
    return validate(tree, model, origins, name=str(source))


def resolve(source: str | Path, presets: Path) -> tuple[Tree, Origins]:
    """Plain tree of a file or preset after ``extends``, and where each key came from.

    A line ``plugins: [DIR, ...]``, relative to the file, says where to look for kinds as well; it
    is a place, not a setting, so it does not stay in the tree.
    """
    return _resolve(find_config(source, presets), presets, chain=())


def find_config(source: str | Path, presets: Path) -> Path:
    """Path of a configuration given as a path or as a preset's name.

    Raises
    ------
    ConfigError
        If there is no such file or preset; names the nearest one.
    """
    text = str(source)
    path = Path(text)
    if path.suffix in (".yaml", ".yml") or "/" in text:
        if path.is_file():
            return path
        raise ConfigError(f"{text}: no such file")
    if (presets / f"{text}.yaml").is_file():
        return presets / f"{text}.yaml"
    known = sorted(p.stem for p in presets.glob("*.yaml"))
    raise ConfigError(f"{text!r} is not a preset{hint(text, known)}, and no YAML file of that name")


def validate[ModelT: StrictModel](
    data: Any,  # Any: plain JSON or YAML data
    model: type[ModelT],
    origins: Mapping[Key, str] | None = None,
    *,
    name: str = "configuration",
) -> ModelT:
    """Check plain data against ``model``; faults become one ConfigError.

    Raises
    ------
    ConfigError
        Listing every fault with its place (as far as ``origins`` knows it) and key path.
    """
    try:
        return model.model_validate(freeze(data))
    except ValidationError as error:
        lines = _describe(error, origins or {}, name)
        raise ConfigError("\n".join(dict.fromkeys(lines))) from error


def validate_json[ModelT: StrictModel](text: str, model: type[ModelT], *, name: str) -> ModelT:
    """Check a JSON text written by :func:`dump`.

    Raises
    ------
    ConfigError
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{name}: not JSON: {error}") from error
    return validate(data, model, name=name)


def freeze(value: Any) -> Any:  # Any: plain data
    """Lists to tuples, all the way down: configurations hold no mutable sequence."""
    if isinstance(value, Mapping):
        return {key: freeze(item) for key, item in value.items()}
    return tuple(freeze(item) for item in value) if isinstance(value, list | tuple) else value


def hint(found: str, known: Iterable[str]) -> str:
    """Text ``; known: a, b (did you mean 'a'?)`` for a name that was not found."""
    names = list(known)
    near = difflib.get_close_matches(found, names, n=1, cutoff=0.5)
    guess = f" (did you mean {near[0]!r}?)" if near else ""
    return f"; known: {', '.join(names)}{guess}" if names else ""


def _resolve(path: Path, presets: Path, chain: tuple[Path, ...]) -> tuple[Tree, Origins]:
    if path.resolve() in chain:
        raise ConfigError(f"{path}: extends itself through {' -> '.join(p.name for p in chain)}")
    tree, origins = read_yaml(path)
    folders = tree.pop("plugins", ())
    for folder in [folders] if isinstance(folders, str) else folders:
        use_plugins(str(folder), beside=path.parent)
    parent = tree.pop("extends", None)
    if parent is None:
        return tree, origins
    where = origins.get(("extends",), str(path))
    if not isinstance(parent, str):
        raise ConfigError(f"{where}: extends: {parent!r} is not the name of a preset or file")
    beside = path.parent / parent
    try:
        base_path = beside if beside.is_file() else find_config(parent, presets)
    except ConfigError as error:
        raise ConfigError(f"{where}: extends: {error}") from error
    base, base_origins = _resolve(base_path, presets, (*chain, path.resolve()))
    return _merge(base, tree), {**base_origins, **origins}


def _merge(base: Tree, over: Tree) -> Tree:
    """Mappings merge key by key; lists, scalars and blocks of another ``kind`` replace."""
    if "kind" in over and over["kind"] != base.get("kind", over["kind"]):
        return over
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _describe(error: ValidationError, origins: Mapping[Key, str], name: str) -> list[str]:
    lines = []
    faults = error.errors()
    for fault in faults:
        # A sequence whose only item is at fault is also called too short.
        if fault["type"] == "too_short" and any(_inside(f["loc"], fault["loc"]) for f in faults):
            continue
        path = tuple(p for p in fault["loc"] if not (isinstance(p, str) and "[" in p))
        if fault["type"] == "unknown_keys":
            context = fault["ctx"]
            for key in context["keys"]:
                where = _where((*path, key), origins, name)
                lines.append(f"{where}: unknown key {key!r}{hint(key, context['known'])}")
            continue
        message = fault["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:] if message[:1].isupper() else message
        found = fault.get("input")
        shown = (
            "" if fault["type"] == "missing" or isinstance(found, dict) else f"; found {found!r}"
        )
        lines.append(f"{_where(path, origins, name)}: {message}{shown}")
    return lines


def _inside(path: Key, outer: Key) -> bool:
    return len(path) > len(outer) and path[: len(outer)] == outer


def _where(path: Key, origins: Mapping[Key, str], name: str) -> str:
    dotted = ".".join(str(p) for p in path)
    for n in range(len(path), 0, -1):
        if path[:n] in origins:
            return f"{origins[path[:n]]}: {dotted}"
    return f"{name}: {dotted}" if dotted else name
