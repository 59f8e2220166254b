"""A resolved configuration as YAML 1.2: blocks of keys, and values as JSON, which is YAML."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.core.config import StrictModel, dump

#: Keys that no YAML reader takes for anything but text.
_PLAIN_KEY = re.compile(r"[A-Za-z]\w*")
_RESERVED = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


def yaml_text(config: StrictModel) -> str:
    """Every value of a configuration, defaults included; reads back as an equal one."""
    return "".join(f"{line}\n" for line in _block(dump(config)))


def _block(data: Mapping[str, Any]) -> Iterator[str]:  # Any: plain JSON data
    for key, value in data.items():
        plain = _PLAIN_KEY.fullmatch(key) and key.lower() not in _RESERVED
        name = key if plain else json.dumps(key, ensure_ascii=False)
        if isinstance(value, dict) and value:
            yield f"{name}:"
            yield from (f"  {line}" for line in _block(value))
        else:
            yield f"{name}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
