"""Exact resume: where a run stands, in ``last/state.pt``, written whole or not at all.

The position is (epoch, step); order, augmentation and dropout are functions of it, so there is no
random state to save. ``state.pt`` holds all that a resume needs; ``last/weights.safetensors`` is
the same network for other readers.
"""

import io
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import nn

from pipeline.checkpoint.network import plain_state
from pipeline.checkpoint.spec import LAST_FOLDER, STATE_FILE, WEIGHTS_FILE
from pipeline.core.errors import CheckpointError
from pipeline.core.files import atomic_write

FORMAT = "deeplense-training-state"
FORMAT_VERSION = 1


@dataclass
class Position:
    """Where a run stands.

    ``step`` counts optimiser steps of the run, ``epoch_step`` those of the current epoch;
    ``elapsed`` is training time in seconds over all sessions, ``core_elapsed`` processor time;
    ``best`` is the monitored metric of the kept weights, ``stale`` the evaluations since then;
    ``loss_sum`` over ``loss_steps`` of the current epoch; ``metric`` names ``best``; ``finished``
    says why training ended, if it did.
    """

    epoch: int = 0
    epoch_step: int = 0
    step: int = 0
    elapsed: float = 0.0
    core_elapsed: float = 0.0
    best: float | None = None
    best_epoch: int = 0
    stale: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    metric: str = ""
    finished: str = ""

    def move_to(self, values: Mapping[str, Any]) -> None:  # Any: of the fields
        """Take the values of another position, as ``asdict`` gives them."""
        for name, value in values.items():
            setattr(self, name, value)


@dataclass(frozen=True)
class Learner:
    """The mutable torch objects of a run, by role."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    readout: nn.Module | None
    average: nn.Module | None
    precision: Any  # Any: Fabric's precision plug-in, whose state is that of a gradient scaler
    helper: nn.Module | None = None


@dataclass(frozen=True)
class Identity:
    """What a run folder was made from; a resume needs the same.

    ``domain_sha256`` is of the images of a second domain; empty without one.
    """

    config_sha256: str
    dataset_sha256: str
    domain_sha256: str = ""


def state_path(run: Path) -> Path:
    """Path of the resume state of a run folder."""
    return run / LAST_FOLDER / STATE_FILE


def save_state(run: Path, identity: Identity, position: Position, learner: Learner) -> None:
    """Write the resume state of a run."""
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "identity": asdict(identity),
        "position": asdict(position),
        "network": learner.network.state_dict(),
        "optimiser": learner.optimiser.state_dict(),
        "readout": learner.readout.state_dict() if learner.readout else {},
        "helper": learner.helper.state_dict() if learner.helper else {},
        "average": learner.average.state_dict() if learner.average else {},
        "precision": learner.precision.state_dict(),
    }
    weights = save_tensors(plain_state(learner.network.state_dict()), metadata={"format": "pt"})
    atomic_write(run / LAST_FOLDER / WEIGHTS_FILE, weights)
    # Through memory: torch reports a full disk as a RuntimeError, a file write as an OSError.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    atomic_write(state_path(run), buffer.getvalue())


def read_state(run: Path) -> dict[str, Any]:  # Any: tensors and plain values
    """Read and check the resume state of a run.

    Raises
    ------
    CheckpointError
        If it cannot be read or is of another version.
    """
    path = state_path(run)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path}: cannot be read, so the run cannot go on: {error}"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not the state of a deeplense training run")
    if content["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: state version {content['format_version']}, this release reads "
            f"{FORMAT_VERSION}"
        )
    return content


def restore(content: dict[str, Any], learner: Learner) -> Position:  # Any: from read_state
    """Put a state back into the torch objects; return the position."""
    try:
        learner.network.load_state_dict(content["network"], strict=True)
        learner.optimiser.load_state_dict(content["optimiser"])
        if learner.readout is not None:
            learner.readout.load_state_dict(content["readout"], strict=True)
        if learner.helper is not None:
            learner.helper.load_state_dict(content["helper"], strict=True)
        if learner.average is not None:
            learner.average.load_state_dict(content["average"], strict=True)
        learner.precision.load_state_dict(content["precision"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"the saved training state does not fit: {error}") from error
    return Position(**content["position"])
