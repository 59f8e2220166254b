"""Folders of a user's own kinds: searched because the user said so, never otherwise.

A folder holds a sub-folder per family (``models``, ``tasks``, ``substructure``, ``sources``,
``engines``) with one file per kind. It is named by ``--plugins DIR``, by the environment variable
``DEEPLENSE_PLUGINS``, or by ``plugins: [DIR]`` in a configuration that the user hands over. Nothing
that is read from a dataset or a checkpoint can add one.
"""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from pipeline.core.errors import ConfigError

#: Paths, separated as in PATH; child processes inherit them.
VARIABLE = "DEEPLENSE_PLUGINS"
#: What the code of a kind may raise while it is imported; told as the user's error, not as ours.
_FAULTS = (SyntaxError, ImportError, NameError, AttributeError, TypeError, ValueError, OSError)


def plugin_folders() -> tuple[Path, ...]:
    """Folders in the order they were named."""
    return tuple(Path(p) for p in os.environ.get(VARIABLE, "").split(os.pathsep) if p)


def use_plugins(folder: str | Path, *, beside: Path | None = None) -> None:
    """Search one more folder, in this process and its children.

    Parameters
    ----------
    folder : str or Path
    beside : Path, optional
        Folder that a relative path counts from; by default the current one.

    Raises
    ------
    ConfigError
        If there is no such folder.
    """
    path = ((beside or Path()) / folder).resolve()
    if not path.is_dir():
        raise ConfigError(f"plugins: {folder}: no such folder ({path})")
    found = plugin_folders()
    if path not in found:
        os.environ[VARIABLE] = os.pathsep.join(map(str, (*found, path)))


def import_kind(path: Path, family_folder: str) -> ModuleType:
    """Import one file of a plug-in folder.

    Raises
    ------
    ConfigError
        If its code fails.
    """
    name = f"deeplense_plugins.{family_folder}.{path.stem}"
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == str(path):
        return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except _FAULTS as error:
        del sys.modules[name]
        raise ConfigError(f"{path}: cannot be loaded: {type(error).__name__}: {error}") from error
    return module
