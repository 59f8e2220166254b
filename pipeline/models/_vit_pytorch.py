"""Find a classifier in vit-pytorch, check its arguments, build it and try it on a blank image."""

import ast
import functools
import importlib
import inspect
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.core.config import hint
from pipeline.core.errors import ConfigError, UnknownKindError
from pipeline.models._headless import Headless, headless

#: Arguments that are filled in, by the names that vit-pytorch's classes give them.
_CLASSES = "num_classes"
_SIZE = ("image_size", "img_size")
_CHANNELS = ("channels", "n_input_channels")


def vit_pytorch_backbone(
    name: str, in_channels: int, image_size: int, options: Mapping[str, object]
) -> Headless:
    """Build a network of vit-pytorch without its classification layer.

    Parameters
    ----------
    name : str
        ``module`` or ``module.Class``.
    in_channels, image_size : int
    options : mapping
        Keyword arguments of the class, checked against its signature.

    Raises
    ------
    UnknownKindError
        Naming the nearest module or class.
    ConfigError
        Naming an argument that is unknown or missing, or why the network cannot be used so.
    """
    found = _find(name)
    label = f"vit_pytorch model {name!r}"
    arguments = _arguments(found, label, in_channels, image_size, options)
    try:
        backbone = headless(lambda n: found(**arguments, **{_CLASSES: n}))
        # einops reports a shape that does not divide as a RuntimeError of its own
        with torch.no_grad():
            blank = torch.zeros(1, in_channels, image_size, image_size)
            features = backbone.eval()(blank)
    except (
        AssertionError,
        RuntimeError,
        ValueError,
        TypeError,
        IndexError,
        ArithmeticError,
    ) as error:
        raise ConfigError(
            f"{label} cannot be used for {in_channels} channels of {image_size}x{image_size} "
            f"pixels: {type(error).__name__}: {' '.join(str(error).split())[:300]}. "
            "'size: N' resamples images to N pixels"
        ) from error
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise ConfigError(f"{label} does not give one vector per image")
    backbone.n_features = features.shape[1]
    return backbone.train()


def _find(name: str) -> type[nn.Module]:
    classes = classifiers()
    module, _, class_name = name.partition(".")
    if module not in classes:
        near = hint(module, classes)
        raise UnknownKindError(f"{name!r} is not a classifier of vit_pytorch{near}")
    class_name = class_name or classes[module][-1]
    if class_name not in classes[module]:
        near = hint(class_name, classes[module])
        raise UnknownKindError(f"vit_pytorch.{module} has no classifier {class_name!r}{near}")
    found: type[nn.Module] = getattr(importlib.import_module(f"vit_pytorch.{module}"), class_name)
    return found


@functools.cache
def classifiers() -> dict[str, tuple[str, ...]]:
    """Classes with an argument ``num_classes`` by module; read as text, nothing is imported."""
    spec = find_spec("vit_pytorch")
    assert spec is not None and spec.origin is not None
    found = {}
    for path in sorted(Path(spec.origin).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [n.name for n in tree.body if isinstance(n, ast.ClassDef) and _classifies(n)]
        if names:
            found[path.stem] = tuple(names)
    return found


def _classifies(node: ast.ClassDef) -> bool:
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return any(a.arg == _CLASSES for a in (*part.args.args, *part.args.kwonlyargs))
    return False


def _arguments(
    found: type[nn.Module],
    label: str,
    in_channels: int,
    image_size: int,
    options: Mapping[str, object],
) -> dict[str, object]:
    signature = inspect.signature(found)
    named = {
        key: p
        for key, p in signature.parameters.items()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    ours: dict[str, object] = {key: image_size for key in _SIZE if key in named}
    ours |= {key: in_channels for key in _CHANNELS if key in named}
    if not any(key in named for key in _CHANNELS) and in_channels != 3:
        raise ConfigError(f"{label} reads three channels only; the data have {in_channels}")
    theirs = {key: p for key, p in named.items() if key not in ours and key != _CLASSES}
    for key in options:
        if key in ours or key == _CLASSES:
            raise ConfigError(f"{label}: option {key!r} is filled in and not yours to set")
        if key not in theirs and not _takes_any(signature):
            raise ConfigError(f"{label}: unknown option {key!r}{hint(key, theirs)}")
    missing = [k for k, p in theirs.items() if p.default is p.empty and k not in options]
    if missing:
        raise ConfigError(f"{label} needs options: {', '.join(missing)}")
    return {**ours, **options}


def _takes_any(signature: inspect.Signature) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
