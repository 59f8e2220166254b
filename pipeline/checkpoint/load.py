"""Read a checkpoint and use it: verified bytes in, calibrated predictions out; no pickle."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.torch import load as load_tensors
from torch import Tensor

from pipeline.checkpoint.any_run import predict, require_task
from pipeline.checkpoint.network import Network, build_network
from pipeline.checkpoint.novelty import Novelty, describe, read_reference
from pipeline.checkpoint.spec import (
    REFERENCE_FILE,
    WEIGHTS_FILE,
    CheckpointSpec,
    read_spec,
)
from pipeline.core.errors import CheckpointError, ConfigError
from pipeline.core.provenance import sha256_hex
from pipeline.dataset.preprocess import Preprocess
from pipeline.tasks.base import Floats, Prediction, Task


@dataclass(frozen=True)
class Run:
    """A trained network with everything needed to use it."""

    path: Path
    spec: CheckpointSpec
    network: Network
    task: Task
    novelty: Novelty
    device: torch.device

    @property
    def preprocess(self) -> Preprocess:
        """How images are prepared for the network."""
        preprocess: Preprocess = self.spec.preprocess
        return preprocess

    @property
    def sha256(self) -> str:
        """Hash of specification, weights and reference."""
        return self.spec.sha256

    @property
    def file_sha256(self) -> None:
        """A folder is no file."""
        return None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return self.spec.class_names

    @property
    def leaves_cores(self) -> bool:
        """Passes on the CPU do, unless fits, which use all cores, come first."""
        return self.device.type == "cpu" and self.preprocess.smooth_fit is None

    def predict(self, images: NDArray[np.float32]) -> Prediction:
        """Score images.

        Parameters
        ----------
        images : NDArray, shape (B, C, H, W)
            Finite, at the checkpoint's pixel scale and size, one channel per band; in electron/s,
            or in any linear unit where the preprocessing measures each image's own noise.

        Returns
        -------
        Prediction
        """
        return predict(self, images)

    @cached_property
    def tells(self) -> frozenset[str]:
        """Fields of a :class:`Prediction` that the task fills."""
        size = self.spec.image_size
        values, _ = self.outputs(torch.zeros((1, self.spec.in_channels, size, size)))
        answer = vars(self.task.answer(values, self.spec.calibration))
        return frozenset(name for name, value in answer.items() if value is not None)

    def prepare(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """What :meth:`judged` takes, of images (B, C, H, W) as :meth:`predict` takes them."""
        return self.preprocess.apply(images)

    def judged(self, prepared: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Raw outputs (B, O) and distances (B,) of prepared images (B, C, H, W)."""
        values, description = self.outputs(torch.from_numpy(prepared))
        return values, self.novelty.distance(description)

    def outputs(self, prepared: Tensor) -> tuple[Floats, Floats]:
        """Raw outputs (B, O) and descriptions (B, D) of prepared images (B, C, H, W)."""
        return network_outputs(self.network, prepared, self.device)

    def rank(self, distance: Floats) -> Floats:
        """Novelty (B,) of distances."""
        return self.novelty.rank(distance)


def network_outputs(
    network: Network, prepared: Tensor, device: torch.device
) -> tuple[Floats, Floats]:
    """Raw outputs (B, O) and descriptions (B, D) of prepared images, in 32-bit precision.

    ``network`` must be in evaluation mode.
    """
    with torch.inference_mode():
        image = prepared.to(device, memory_format=network.memory_format)
        features = network.backbone(image)
        values = network.read(features, image)
        description = describe(network.backbone.pictures(image), features)
    return (
        values.float().cpu().numpy().astype(np.float64),
        description.cpu().numpy().astype(np.float64),
    )


def load_run(path: Path | str, *, device: str = "cpu", task: str | None = None) -> Run:
    """Load a run folder.

    Parameters
    ----------
    path : Path or str
        The folder that ``deeplense train`` wrote.
    device : str
        ``cpu``, ``cuda`` or ``auto``.
    task : str, optional
        Refuse a checkpoint of another task than this.

    Raises
    ------
    CheckpointError
        Naming what is missing, changed after training, or of another task or format version.
    """
    path = Path(path)
    spec = read_spec(path)
    require_task(path, spec, task)
    weights = _verified(path, WEIGHTS_FILE, spec.weights_sha256)
    reference = _verified(path, REFERENCE_FILE, spec.reference_sha256)
    try:
        network, built = build_network(
            spec.model,
            spec.task,
            in_channels=spec.in_channels,
            image_size=spec.image_size,
            class_names=spec.class_names,
            targets=spec.targets,
            constant_channels=spec.preprocess.constant_channels,
        )
        network.load_state_dict(load_tensors(weights), strict=True)
        novelty = read_reference(load_arrays(reference))
    except (ConfigError, SafetensorError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"{path}: the weights do not fit their model: {error}") from error
    chosen = resolve_device(device)
    network = network.to(chosen).to(memory_format=network.memory_format).eval()
    return Run(path, spec, network, built, novelty, chosen)


def resolve_device(device: str) -> torch.device:
    """Device of a ``--device`` flag; ``auto`` is the GPU if there is one.

    Raises
    ------
    ConfigError
        If the device does not exist here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise ConfigError(f"device {device!r} is not available; known here: auto, cpu")
    return torch.device(device)


def _verified(folder: Path, name: str, sha256: str) -> bytes:
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{folder / name}: cannot be read: {error.strerror}") from error
    if sha256_hex(content) != sha256:
        raise CheckpointError(
            f"{folder / name}: does not match the sha256 in checkpoint.json: it was replaced or "
            "damaged, or a kill interrupted its writing (the same 'deeplense train' command "
            "repairs that)"
        )
    return content
