"""An exported network in use: ONNX Runtime in the place of torch, the same answers."""

import base64
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.checkpoint.any_run import predict, require_task
from pipeline.checkpoint.onnx_file import OnnxFile, read_onnx
from pipeline.checkpoint.spec import SPEC_FILE, CheckpointSpec, parse_spec
from pipeline.core.cores import usable_cores
from pipeline.core.errors import CheckpointError, ConfigError, MissingExtraError
from pipeline.dataset.preprocess import Preprocess
from pipeline.statistics.distance import quantile_in
from pipeline.tasks.base import Answer, Floats, Prediction, Task, build_task

#: Name of a graph's input, and of the outputs that scoring asks for.
INPUT, RAW_OUTPUTS = "image", ("values", "distance")
#: Metadata: sorted distances of the validation images, base64 of little-endian float64.
KNOWN = "val_distances"


@dataclass(frozen=True)
class OnnxRun:
    """A network that was exported, with everything needed to use it."""

    path: Path
    spec: CheckpointSpec
    task: Task
    val_distances: Floats
    file_sha256: str
    session: Any  # Any: an onnxruntime.InferenceSession, which carries no types

    @property
    def preprocess(self) -> Preprocess:
        """How images are prepared; the graph does it itself."""
        preprocess: Preprocess = self.spec.preprocess
        return preprocess

    @property
    def sha256(self) -> str:
        """Hash of the checkpoint that was exported."""
        return self.spec.sha256

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return self.spec.class_names

    @property
    def leaves_cores(self) -> bool:
        """ONNX Runtime shares its threads among all passes."""
        return False

    @property
    def tells(self) -> frozenset[str]:
        """Fields of a :class:`Prediction` that the task fills."""
        return frozenset(self.outputs_of_graph).intersection(f.name for f in fields(Answer))

    @property
    def outputs_of_graph(self) -> tuple[str, ...]:
        """Names of everything the graph tells."""
        return tuple(output.name for output in self.session.get_outputs())

    @property
    def n_batch(self) -> int | None:
        """Images in a pass if the graph takes no other number; None if it takes any."""
        first = self.session.get_inputs()[0].shape[0]
        return first if isinstance(first, int) else None

    def predict(self, images: NDArray[np.float32]) -> Prediction:
        """Score images (B, C, H, W) as the run would."""
        return predict(self, images)

    def prepare(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Images as they are."""
        return images

    def judged(self, prepared: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Raw outputs (B, O) and distances (B,) of images (B, C, H, W)."""
        found = self.session.run(RAW_OUTPUTS, {INPUT: np.ascontiguousarray(prepared)})
        values, distance = (np.asarray(part, np.float64) for part in found)
        return values, np.where(np.isfinite(distance), distance, np.inf)

    def rank(self, distance: Floats) -> Floats:
        """Novelty (B,) of distances."""
        return quantile_in(distance, self.val_distances)

    def tell(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Everything the graph itself tells about images (B, C, H, W), by name."""
        found = self.session.run(None, {INPUT: np.ascontiguousarray(images)})
        return dict(zip(self.outputs_of_graph, found, strict=True))


def open_onnx(
    path: Path, *, device: str = "cpu", task: str | None = None, n_threads: int | None = None
) -> OnnxRun:
    """Load what ``deeplense export RUN --onnx`` wrote.

    ``n_threads`` is every usable core unless given, or as many as ``OMP_NUM_THREADS`` says, which
    torch obeys as well.

    Raises
    ------
    CheckpointError
        If the file is missing, foreign or changed, of another task, or cannot be run. A file that
        is not whole and ours is never given to the runtime.
    ConfigError
        If another device than the CPU is asked for.
    MissingExtraError
        If ONNX Runtime is not installed.
    """
    if device not in ("cpu", "auto"):
        raise ConfigError(
            f"device {device!r}: an exported network runs on the CPU; known: auto, cpu"
        )
    run = run_of(read_onnx(path), n_threads)
    require_task(path, run.spec, task)
    return run


def run_of(file: OnnxFile, n_threads: int | None = None) -> OnnxRun:
    """The network in the content of a file; raises as :func:`open_onnx`."""
    path = file.path
    spec = parse_spec(file.texts.get(SPEC_FILE, ""), path / SPEC_FILE)
    try:
        content = base64.b64decode(file.texts.get(KNOWN, ""), validate=True)
        known = np.frombuffer(content, "<f8")
    except ValueError as error:
        raise CheckpointError(f"{path}: its {KNOWN} are damaged: {error}") from error
    built = build_task(  # its head is in the graph
        spec.task, 1, spec.class_names, spec.targets,
        (spec.in_channels, spec.image_size, spec.image_size),
    )  # fmt: skip
    return OnnxRun(path, spec, built, known, file.sha256, _session(path, file.model, n_threads))


def encoded(val_distances: Floats) -> str:
    """What stands under :data:`KNOWN`."""
    return base64.b64encode(val_distances.astype("<f8").tobytes()).decode("ascii")


def _session(
    path: Path, model: bytes, n_threads: int | None
) -> Any:  # Any: an onnxruntime.InferenceSession
    try:
        import onnxruntime  # type: ignore[import-untyped]
        from onnxruntime.capi import onnxruntime_pybind11_state as failure  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: needs the package onnxruntime: install deeplense-pipeline[onnx]"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads or _usual_threads()
    options.log_severity_level = 3  # errors
    # Threads that spin while they wait starve each other on a busy machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except (failure.Fail, failure.InvalidGraph, failure.InvalidProtobuf, failure.NotImplemented,
            failure.InvalidArgument, failure.RuntimeException) as error:  # fmt: skip
        raise CheckpointError(f"{path}: ONNX Runtime cannot run it: {error}") from error
    names = {output.name for output in session.get_outputs()}
    inputs = [value.name for value in session.get_inputs()]
    if inputs != [INPUT] or not names.issuperset(RAW_OUTPUTS):
        raise CheckpointError(f"{path}: the graph takes {inputs} and tells {sorted(names)}")
    return session


def _usual_threads() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else usable_cores()
