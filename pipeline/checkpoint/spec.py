"""What a checkpoint says about itself: ``checkpoint.json``, versioned and hashed."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt

from pipeline.checkpoint.onnx_file import is_onnx, onnx_text
from pipeline.core.config import StrictModel, dump, validate
from pipeline.core.errors import CheckpointError, ConfigError
from pipeline.core.files import atomic_write
from pipeline.core.provenance import canonical_json, sha256_hex
from pipeline.core.registry import plugin_field
from pipeline.core.resources import sim_params
from pipeline.dataset.preprocess import Preprocess
from pipeline.models.base import MODELS
from pipeline.tasks.base import TASKS, TargetTransform

FORMAT = "deeplense-checkpoint"
#: Raise with every change that an older reader would misunderstand; say so in CHANGELOG.md.
FORMAT_VERSION = 2

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
#: Texts of a run folder that say what it is; an exported network carries them along.
TEXT_FILES = (SPEC_FILE, CONFIG_FILE, DATASET_FILE, EVALUATION_FILE, CARD_FILE)


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


def shipped_runs() -> tuple[str, ...]:
    """Names of the trained networks that are part of the package, sorted."""
    return tuple(sorted(path.parent.name for path in _shipped().glob(f"*/{SPEC_FILE}")))


def find_run(path: Path | str) -> Path:
    """Folder of a trained network that is part of the package, if this is its name.

    Any other path, and a path that exists, is returned as it is.
    """
    path = Path(path)
    named = not path.exists() and str(path) in shipped_runs()
    return _shipped() / path.name if named else path


def is_run(path: Path) -> bool:
    """Whether a path is named as a run folder or an exported network; nothing is read."""
    return is_onnx(path) or (path / SPEC_FILE).is_file()


def _shipped() -> Path:
    return sim_params() / "networks"


def run_text(run: Path, name: str) -> str | None:
    """A text of a run folder or an exported network; None if it has no such file."""
    if is_onnx(run):
        return onnx_text(run, name)
    path = Path(run) / name
    return path.read_text(encoding="utf-8") if path.is_file() else None


def run_texts(run: Path) -> dict[str, str]:
    """All of :data:`TEXT_FILES` that a run has, by name."""
    found = {name: run_text(run, name) for name in TEXT_FILES}
    return {name: text for name, text in found.items() if text is not None}


def read_spec(folder: Path) -> CheckpointSpec:
    """Read and check ``checkpoint.json`` of a run folder or of an exported network.

    Raises
    ------
    CheckpointError
        If it is missing, unreadable, of another format or a newer version, or was changed.
    """
    folder = Path(folder)
    path = folder / SPEC_FILE
    return parse_spec(_read_text(folder, path), path)


def parse_spec(text: str, path: Path) -> CheckpointSpec:
    """Check the text of a ``checkpoint.json`` that came from ``path``, as :func:`read_spec`."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a deeplense checkpoint: no JSON object")
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


def _read_text(folder: Path, path: Path) -> str:
    if not folder.is_dir() and not is_onnx(folder):
        raise CheckpointError(
            f"{folder}: no such run folder; networks that ship: {', '.join(shipped_runs())}"
        )
    try:
        text = run_text(folder, SPEC_FILE)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    if text is None:
        begun = (folder / LAST_FOLDER / STATE_FILE).exists()
        raise CheckpointError(
            f"{folder}: no {SPEC_FILE} in it"
            + (
                "; training has begun but saved no checkpoint yet: run the same 'deeplense train' "
                "command again to go on"
                if begun
                else ": not a run folder of 'deeplense train'"
            )
        )
    return text
