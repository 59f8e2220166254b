"""YAML 1.2 as plain data with the file and line of every key; duplicate keys are refused."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipeline.core.errors import ConfigError

Tree = dict[str, Any]  # Any: whatever YAML can say
#: Key path -> "FILE:LINE", or the command-line option that set it.
Origins = dict[tuple[str | int, ...], str]


def read_yaml(path: Path) -> tuple[Tree, Origins]:
    """Read a YAML mapping.

    Raises
    ------
    ConfigError
        If the file cannot be read, is not YAML 1.2, repeats a key, or is no mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> tuple[Tree, Origins]:
    """As :func:`read_yaml`, of a text that came from ``where``."""
    loaded = _parse(text, where)
    if not isinstance(loaded, dict):
        raise ConfigError(
            f"{where}: expected 'key: value' lines at the top, found {type(loaded).__name__}"
        )
    origins: Origins = {}
    _note_lines(loaded, (), where, origins)
    return _plain(loaded), origins


def parse_scalar(text: str, where: str) -> Any:  # Any: whatever YAML can say
    """Value of a short YAML text, as given to ``--set``."""
    return _plain(_parse(text, where))


def set_value(tree: Tree, origins: Origins, text: str) -> None:
    """Apply ``a.b.0=value`` to ``tree`` in place.

    Raises
    ------
    ConfigError
        If the text has no ``=``, or the path runs through something that is no mapping or list.
    """
    key, equals, value_text = text.partition("=")
    where = f"--set {text}"
    if not equals or not all(key.strip().split(".")):
        raise ConfigError(f"{where}: expected KEY.KEY=VALUE")
    put_value(tree, key.strip(), parse_scalar(value_text, where), where)
    path = key.strip().split(".")
    origins[tuple(int(p) if p.isdigit() else p for p in path)] = where


def put_value(tree: Tree, key: str, value: Any, where: str) -> None:  # Any: whatever YAML can say
    """Put a value at the dotted ``key`` of ``tree``, in place; ``where`` begins a message.

    Raises
    ------
    ConfigError
        If the path runs through something that is no mapping or list.
    """
    *path, last = key.split(".")
    node: Any = tree
    for part in path:
        node = _step(node, part, where)
    _store(node, last, value, where)


def _step(node: Any, key: str | int, where: str) -> Any:
    if isinstance(node, list):
        return node[_position(node, key, where)]
    if node.get(key) is None:
        node[key] = {}
    if not isinstance(node[key], dict | list):
        raise ConfigError(f"{where}: {key!r} holds {node[key]!r}, which has no keys of its own")
    return node[key]


def _store(node: Any, key: str | int, value: Any, where: str) -> None:
    if isinstance(node, list):
        node[_position(node, key, where)] = value
    else:
        node[key] = value


def _position(node: list[Any], key: str | int, where: str) -> int:
    if not str(key).isdigit() or int(key) >= len(node):
        raise ConfigError(f"{where}: {key!r} is no position in a list of {len(node)}")
    return int(key)


def _parse(text: str, where: str) -> Any:
    try:
        return YAML(typ="rt", pure=True).load(text)
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1
        key = str(error.problem).split('"')[1] if '"' in str(error.problem) else "?"
        raise ConfigError(f"{where}:{line}: key {key!r} is given twice") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line_text = f":{mark.line + 1}" if mark else ""
        raise ConfigError(
            f"{where}{line_text}: not YAML: {error.problem or error.context}"
        ) from error
    except YAMLError as error:
        raise ConfigError(f"{where}: not YAML: {error}") from error


def _note_lines(node: Any, path: tuple[str | int, ...], file: str, origins: Origins) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            origins[(*path, str(key))] = f"{file}:{node.lc.key(key)[0] + 1}"  # type: ignore[attr-defined]
            _note_lines(value, (*path, str(key)), file, origins)
    elif isinstance(node, list):
        for i, value in enumerate(node):
            origins[(*path, i)] = f"{file}:{node.lc.item(i)[0] + 1}"  # type: ignore[attr-defined]
            _note_lines(value, (*path, i), file, origins)


def _plain(node: Any) -> Any:
    """Strip the round-trip types: plain dict, list, str, bool, int, float and None."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    if isinstance(node, bool) or node is None:
        return node
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node
