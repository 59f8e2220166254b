"""What a checkpoint says about itself: ``checkpoint.json``, versioned and hashed."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt

from pipeline.core.config import StrictModel, dump, validate
from pipeline.core.errors import CheckpointError, ConfigError
from pipeline.core.files import atomic_write
from pipeline.core.provenance import canonical_json, sha256_hex
from pipeline.core.registry import plugin_field
from pipeline.dataset.preprocess import Preprocess
from pipeline.models.base import MODELS
from pipeline.tasks.base import TASKS, TargetTransform

FORMAT = "deeplense-checkpoint"
#: Raise with every change that an older reader would misunderstand; say so in CHANGELOG.md.
FORMAT_VERSION = 1

SPEC_FILE = "checkpoint.json"
WEIGHTS_FILE = "weights.safetensors"
REFERENCE_FILE = "reference.safetensors"
CONFIG_FILE = "config.yaml"
DATASET_FILE = "dataset.yaml"
METRICS_FILE = "metrics.jsonl"
CARD_FILE = "MODEL_CARD.md"
LAST_FOLDER = "last"
STATE_FILE = "state.pt"
EVALUATION_FILE = "evaluation.json"


class CheckpointSpec(StrictModel):
    """Everything needed to use the weights, and where they came from.

    ``calibration`` was fitted on the validation split; ``metrics`` are those of the validation
    split; the three ``*_sha256`` of data, configuration and files close the chain of hashes.
    """

    format: Literal["deeplense-checkpoint"] = "deeplense-checkpoint"
    format_version: int = FORMAT_VERSION
    task: plugin_field(TASKS)  # type: ignore[valid-type]
    model: plugin_field(MODELS)  # type: ignore[valid-type]
    in_channels: PositiveInt
    image_size: PositiveInt
    class_names: tuple[str, ...]
    targets: tuple[TargetTransform, ...]
    preprocess: Preprocess
    calibration: dict[str, float]
    n_parameters: PositiveInt
    n_train: PositiveInt
    n_val: PositiveInt
    seed: int = Field(ge=0)
    epoch: int = Field(ge=0)
    step: int = Field(ge=0)
    metrics: dict[str, float]
    dataset_sha256: str
    simulated_on_the_fly: bool = False
    config_sha256: str
    weights_sha256: str
    reference_sha256: str
    versions: dict[str, str]

    @property
    def sha256(self) -> str:
        """Hash of this specification, and through it of weights and reference."""
        return sha256_hex(canonical_json(dump(self)))


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics that have a value; one that is undefined on this split is left out."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def write_spec(folder: Path, spec: CheckpointSpec) -> None:
    """Write ``checkpoint.json``; the last file of a checkpoint, since it vouches for the others."""
    content = {**dump(spec), "sha256": spec.sha256}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    atomic_write(folder / SPEC_FILE, text + "\n")


def read_spec(folder: Path) -> CheckpointSpec:
    """Read and check ``checkpoint.json``.

    Raises
    ------
    CheckpointError
        If it is missing, unreadable, of another format or a newer version, or was changed.
    """
    folder = Path(folder)
    path = folder / SPEC_FILE
    content = _read_json(folder, path)
    if content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a deeplense checkpoint: no 'format: {FORMAT}' in it")
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        raise CheckpointError(
            f"{path}: format version {version!r}, but this release reads version {FORMAT_VERSION}"
            + ("; a newer deeplense-pipeline wrote it" if newer else "")
        )
    stored = content.pop("sha256", None)
    if sha256_hex(canonical_json(content)) != stored:
        raise CheckpointError(
            f"{path}: the text does not match its own sha256: it was edited or damaged after "
            "training"
        )
    try:
        return validate(content, CheckpointSpec, name=str(path))
    except ConfigError as error:
        raise CheckpointError(f"{path}: not a valid checkpoint: {error}") from error


def _read_json(folder: Path, path: Path) -> dict[str, Any]:  # Any: whatever JSON can say
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such run folder")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        begun = (folder / LAST_FOLDER / STATE_FILE).exists()
        raise CheckpointError(
            f"{folder}: no {SPEC_FILE} in it"
            + (
                "; training has begun but saved no checkpoint yet: run the same 'deeplense train' "
                "command again to go on"
                if begun
                else ": not a run folder of 'deeplense train'"
            )
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a deeplense checkpoint: no JSON object")
    return content
