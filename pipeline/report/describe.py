"""A configuration as YAML with the unit of every number, which can be read back as it is."""

import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import get_args

from pydantic.fields import FieldInfo

from pipeline.core.config import StrictModel, resolve
from pipeline.core.priors import AnyPrior, Constant

_WIDTH = 92
_PLAIN = re.compile(r"[A-Za-z_][\w .,;()/^-]*[\w)]|[A-Za-z_]")
#: Words that YAML 1.1 or 1.2 reads as something other than text.
_RESERVED = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


@dataclass(frozen=True)
class PresetLine:
    """One preset of a listing."""

    name: str
    summary: str


def list_presets(folder: Path) -> tuple[PresetLine, ...]:
    """Name and first sentence of the description of every preset, sorted by name.

    Parameters
    ----------
    folder : Path
        Every ``*.yaml`` directly in it is a preset.
    """
    lines = []
    for path in sorted(folder.glob("*.yaml")):
        description = " ".join(str(resolve(path, folder)[0].get("description", "")).split())
        sentence, dot, _ = description.partition(". ")
        lines.append(PresetLine(path.stem, sentence + dot.strip()))
    return tuple(lines)


def resolved_yaml(config: StrictModel) -> str:
    """Every value of a configuration, defaults included, each with its unit as a comment.

    Parameters
    ----------
    config : StrictModel

    Returns
    -------
    str
        YAML 1.2 that reads back as an equal configuration.
    """
    return "".join(f"{line}\n" for line in _block(config, None))


def _block(model: StrictModel, unit: str | None) -> list[str]:
    """Lines of one block; ``unit`` is that of a prior's numbers, which its fields do not know."""
    lines = []
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if value is None:
            continue
        own = _unit(field) or (unit if name not in ("weights", "kind") else None)
        lines += _entry(name, value, own)
    return lines


def _entry(key: str, value: object, unit: str | None) -> list[str]:
    """Lines of ``key: value``, nested blocks indented below it."""
    key = _scalar(key)
    comment = f"  # {unit}" if unit and _is_number(value) else ""
    if isinstance(value, Constant):
        return [f"{key}: {_scalar(value.value)}{comment}"]
    if isinstance(value, StrictModel):
        return _nested(key, _block(value, unit if isinstance(value, AnyPrior) else None))
    if isinstance(value, Mapping):
        return _nested(key, [x for k, v in value.items() for x in _entry(str(k), v, unit)])
    if isinstance(value, tuple | list) and any(isinstance(v, StrictModel) for v in value):
        items = []
        for item in value:
            first, *rest = _block(item, unit)
            items += [f"- {first}", *(f"  {line}" for line in rest)]
        return _nested(key, items)
    if isinstance(value, tuple | list):
        return [f"{key}: [{', '.join(_scalar(v) for v in value)}]{comment}"]
    if isinstance(value, str) and len(value) > _WIDTH and value == " ".join(value.split()):
        return [f"{key}: >-", *(f"  {line}" for line in textwrap.wrap(value, _WIDTH))]
    return [f"{key}: {_scalar(value)}{comment}"]


def _nested(key: str, lines: list[str]) -> list[str]:
    return [f"{key}:", *(f"  {line}" for line in lines)] if lines else [f"{key}: {{}}"]


def _scalar(value: object) -> str:
    """One value as YAML; text that some YAML reader could take for another type is quoted."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    return json.dumps(value, ensure_ascii=False)


def _float(value: float) -> str:
    """Shortest text that reads back as the same number; large and small ones with an exponent."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return repr(value)
    texts = (f"{value:.{digits}e}" for digits in range(1, 18))
    mantissa, _, exponent = next(t for t in texts if float(t) == value).partition("e")
    return f"{mantissa}e{int(exponent)}"


def _is_number(value: object) -> bool:
    if isinstance(value, Constant):
        return True
    if isinstance(value, tuple):
        return bool(value) and all(_is_number(item) for item in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unit(field: FieldInfo) -> str | None:
    """Unit of a field's type, also where the type is optional."""
    return _unit_of(field) or _unit_in(field.annotation)


def _unit_in(annotation: object) -> str | None:
    for part in (*getattr(annotation, "__metadata__", ()), *get_args(annotation)):
        found = _unit_of(part) if isinstance(part, FieldInfo) else _unit_in(part)
        if found:
            return found
    return None


def _unit_of(field: FieldInfo) -> str | None:
    extra = field.json_schema_extra
    unit = extra.get("unit") if isinstance(extra, dict) else None
    return str(unit) if unit else None
