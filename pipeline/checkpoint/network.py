"""A whole network: a model's backbone and a task's head, built from what a checkpoint stores."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipeline.core.config import StrictModel
from pipeline.core.seeding import RunStream, image_rng
from pipeline.models._backbone import Backbone
from pipeline.models._constants import WithConstants
from pipeline.models.base import build_model
from pipeline.tasks.base import TargetTransform, Task, build_task


class Network(nn.Module):
    """Images (B, C, H, W) to raw outputs (B, O)."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, image: Tensor) -> Tensor:
        """Return raw outputs (B, O)."""
        return self.read(self.backbone(image), image)

    def read(self, features: Tensor, image: Tensor) -> Tensor:
        """Raw outputs (B, O) of the features (B, F) of images."""
        outputs: Tensor = self.head(features, image) if self.sees_image else self.head(features)
        return outputs

    @property
    def sees_image(self) -> bool:
        """Whether the head is called with the image beside its features."""
        return bool(getattr(self.head, "sees_image", False))

    @property
    def memory_format(self) -> torch.memory_format:
        """Memory layout in which the backbone is fastest."""
        last = self.backbone.channels_last
        return torch.channels_last if last else torch.contiguous_format

    @property
    def n_parameters(self) -> int:
        """Number of trained numbers."""
        return sum(parameter.numel() for parameter in self.parameters())


def build_network(
    model: StrictModel,
    task: StrictModel,
    *,
    in_channels: int,
    image_size: int,
    class_names: tuple[str, ...],
    targets: tuple[TargetTransform, ...],
    constant_channels: tuple[int, ...] = (),
    seed: int = 0,
) -> tuple[Network, Task]:
    """Build network and task with weights that are a function of ``seed``.

    ``constant_channels`` hold one number an image and go around the backbone, unless it is fitted
    at once. The caller's random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(image_rng(seed, 0, RunStream.WEIGHTS).integers(2**62)))
        backbone = _build_backbone(model, in_channels, image_size, constant_channels)
        shape = (in_channels, image_size, image_size)
        built = build_task(task, backbone.n_features, class_names, targets, shape)
        network = Network(backbone, built.head)  # a task may make its head when it is asked for
    return network.to(memory_format=network.memory_format), built


def _build_backbone(
    model: StrictModel, in_channels: int, image_size: int, constant_channels: tuple[int, ...]
) -> Backbone:
    pictures = in_channels - len(constant_channels)
    backbone = build_model(model, pictures, image_size)
    if not constant_channels:
        return backbone
    if backbone.is_fitted:
        return build_model(model, in_channels, image_size)
    return WithConstants(backbone, constant_channels, in_channels)


def plain_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy of a state dict on the CPU in the default memory layout, ready to be written."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
