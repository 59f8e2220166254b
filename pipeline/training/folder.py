"""The run folder: begun once, resumed only by the configuration and dataset that began it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.checkpoint.load import load_run
from pipeline.checkpoint.spec import (
    CONFIG_FILE,
    DATASET_FILE,
    LAST_FOLDER,
)
from pipeline.checkpoint.yaml_text import yaml_text
from pipeline.core.config import StrictModel, dump
from pipeline.core.errors import CheckpointError
from pipeline.core.files import PARTIAL, atomic_write, require_writable_parent
from pipeline.core.yaml_source import read_yaml
from pipeline.training.state import Identity, read_state, state_path

Plain = dict[str, Any]  # Any: tensors and plain values

#: What a kill before the first saved state can leave behind.
FIRST_FILES = {CONFIG_FILE, DATASET_FILE, LAST_FOLDER}
#: Differing keys that a refusal names.
NAMED_KEYS = 5


def begin_or_resume(
    out: Path, identity: Identity, contents: Mapping[str, StrictModel]
) -> Plain | None:
    """Make a new run folder, or read the state of the one that is there.

    Parameters
    ----------
    out : Path
    identity : Identity
        Of the configuration and dataset at hand.
    contents : mapping of str to StrictModel
        Configurations that a new run folder starts with, by file name.

    Returns
    -------
    dict or None
        The saved state; None for a new run.

    Raises
    ------
    CheckpointError
        If the folder belongs to another configuration or dataset, or is no run folder.
    OutputError
        If the folder cannot be written.
    """
    if state_path(out).is_file():
        state = read_state(out)
        _require_same(out, identity, Identity(**state["identity"]), contents)
        for leftover in out.rglob(f".*{PARTIAL}"):
            leftover.unlink(missing_ok=True)
        return state
    if out.exists() and not out.is_dir():
        raise CheckpointError(f"{out}: a file lies there; a run needs a folder")
    if out.is_dir():
        strange = sorted(
            p.name for p in out.iterdir() if p.name not in FIRST_FILES and PARTIAL not in p.name
        )
        if strange:
            raise CheckpointError(
                f"{out}: not empty and no run that can go on (found {', '.join(strange[:3])}); "
                "choose another folder"
            )
    require_writable_parent(out / CONFIG_FILE)
    for name, config in contents.items():
        atomic_write(out / name, yaml_text(config))
    return None


def has_sound_checkpoint(out: Path) -> bool:
    """Whether the run folder holds a checkpoint whose hashes match."""
    try:
        load_run(out)
    except CheckpointError:
        return False
    return True


def _require_same(
    out: Path, here: Identity, there: Identity, contents: Mapping[str, StrictModel]
) -> None:
    if here.dataset_sha256 != there.dataset_sha256:
        raise CheckpointError(
            f"{out}: holds a run on another dataset ({there.dataset_sha256[:12]}, here "
            f"{here.dataset_sha256[:12]}); choose another folder"
        )
    if here.domain_sha256 != there.domain_sha256:
        raise CheckpointError(
            f"{out}: holds a run whose task.target had other images ({there.domain_sha256[:12]}, "
            f"here {here.domain_sha256[:12]}); choose another folder"
        )
    if here.config_sha256 != there.config_sha256:
        found = differences(out / CONFIG_FILE, contents[CONFIG_FILE])
        raise CheckpointError(
            f"{out}: holds a run of another configuration{found}; choose another folder, or go on "
            f"with the one in {out / CONFIG_FILE}"
        )


def differences(stored: Path, config: StrictModel, within: str = "") -> str:
    """Keys whose values differ from a stored file, as words in brackets; empty if it cannot tell.

    Parameters
    ----------
    stored : Path
        YAML file of the same kind of configuration.
    config : StrictModel
    within : str
        Beginning of the keys that count.
    """
    if not stored.is_file():
        return ""
    old = dict(_flat(read_yaml(stored)[0]))
    new = dict(_flat(dump(config)))
    keys = [k for k in sorted({*old, *new}) if old.get(k) != new.get(k) and k != "description"]
    keys = [k for k in keys if k.startswith(within)]
    said = [f"{k} was {old.get(k)!r}, is {new.get(k)!r}" for k in keys[:NAMED_KEYS]]
    return f" ({'; '.join(said)})" if said else ""


def _flat(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node
