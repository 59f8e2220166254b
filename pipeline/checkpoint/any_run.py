"""Trained networks of either form: a run folder, or the ONNX file that was exported from one."""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.checkpoint.onnx_file import is_onnx
from pipeline.checkpoint.spec import CheckpointSpec, find_run
from pipeline.core.errors import CheckpointError
from pipeline.dataset.preprocess import Preprocess
from pipeline.tasks.base import Floats, Prediction, Task


class AnyRun(Protocol):
    """What scoring asks of a trained network; nothing here needs torch."""

    @property
    def path(self) -> Path:
        """Folder or file."""

    @property
    def spec(self) -> CheckpointSpec:
        """What the checkpoint says of itself."""

    @property
    def task(self) -> Task:
        """Makes answers of raw outputs."""

    @property
    def tells(self) -> frozenset[str]:
        """Fields of a :class:`Prediction` that the task fills."""

    @property
    def preprocess(self) -> Preprocess:
        """How images are prepared for the network."""

    @property
    def sha256(self) -> str:
        """Hash of specification, weights and reference."""

    @property
    def file_sha256(self) -> str | None:
        """Hash of the file that an exported network is; None of a run folder."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""

    @property
    def leaves_cores(self) -> bool:
        """Whether passes beside each other, one a core, are faster than one after the other."""

    def prepare(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """What :meth:`judged` takes, of images (B, C, H, W) as :meth:`predict` takes them."""

    def judged(self, prepared: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Raw outputs (B, O) and distances (B,) from the training images of prepared images."""

    def rank(self, distance: Floats) -> Floats:
        """Novelty (B,) of distances."""

    def predict(self, images: NDArray[np.float32]) -> Prediction:
        """Score images."""


def load_run(path: Path | str, *, device: str = "cpu", task: str | None = None) -> AnyRun:
    """Load a run folder, or an exported network, which needs no torch.

    Parameters
    ----------
    path : Path or str
        What ``deeplense train`` or ``deeplense export --onnx`` wrote, or the name of a network that
        ships.
    device : str
        ``cpu``, ``cuda`` or ``auto``; an exported network runs on the CPU.
    task : str, optional
        Refuse a checkpoint of another task than this.

    Raises
    ------
    CheckpointError
        Naming what is missing, changed after training, or of another task or format version.
    ConfigError
        If the device is not there.
    """
    path = find_run(path)
    if is_onnx(path):
        from pipeline.checkpoint.onnx_run import open_onnx

        return open_onnx(path, device=device, task=task)
    from pipeline.checkpoint.load import load_run as load_folder

    return load_folder(path, device=device, task=task)


def predict(run: AnyRun, images: NDArray[np.float32]) -> Prediction:
    """Score images (B, C, H, W) as ``Run.predict`` says."""
    expected = (len(run.preprocess.bands), run.spec.image_size, run.spec.image_size)
    if images.ndim != 4 or images.shape[1:] != expected:
        raise CheckpointError(
            f"{run.path}: takes images of shape (B, {', '.join(map(str, expected))}), "
            f"found {images.shape}"
        )
    values, distance = run.judged(run.prepare(np.asarray(images, np.float32)))
    answer = run.task.answer(values, run.spec.calibration)
    return Prediction(novelty=run.rank(distance), **vars(answer))


def require_task(path: Path, spec: CheckpointSpec, task: str | None) -> None:
    """Refuse a checkpoint of another task than the one asked for.

    Raises
    ------
    CheckpointError
    """
    if task is not None and spec.task.kind != task:
        raise CheckpointError(f"{path}: a checkpoint for {spec.task.kind!r}, needed is {task!r}")
