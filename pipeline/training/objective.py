"""What a training step lowers: a network, its task's loss, and what beside it, in one module.

One module, so that mixed precision, compilation and several processes see all of it.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.checkpoint.network import Network
from pipeline.core.errors import ConfigError
from pipeline.core.seeding import RunStream, image_rng
from pipeline.dataset.loader import Batch
from pipeline.tasks.base import NeedsBatch, Task
from pipeline.training.config import Auxiliary

#: Maps with one channel, whatever the bands.
ONE_CHANNEL = ("kappa",)
#: Child of the stream of weights that draws the readout's: steps use the small numbers.
_READOUT = 2**40


class Objective(nn.Module):
    """A batch in, the scalar loss out.

    Parameters
    ----------
    network : Network
    task : Task
    readout : Readout, optional
        Reads maps off the backbone, for a loss on them.
    weight : float
        Factor on that loss.
    """

    def __init__(
        self, network: Network, task: Task, readout: "Readout | None" = None, weight: float = 0.0
    ) -> None:
        super().__init__()
        self.network = network
        self.readout = readout
        self.helper = task.helper if isinstance(task, NeedsBatch) else None
        self._weight = weight
        self._task = task

    def forward(self, batch: Batch) -> Tensor:
        """Loss of a batch, averaged over its images."""
        if isinstance(self._task, NeedsBatch):
            return self._task.batch_loss(self.network, batch)
        if self.readout is None:
            return self._task.loss(self.network(batch.image), batch.label, batch.target)
        backbone = self.network.backbone
        features = backbone.features_map(batch.image)
        outputs = self.network.read(backbone.pooled(features), batch.image)
        loss = self._task.loss(outputs, batch.label, batch.target)
        return loss + self._weight * self.readout.loss(features, batch.extra)


class Readout(nn.Module):
    """One 1x1 convolution from a features map to maps at the resolution of the image.

    A cell of the features map answers for all pixels below it. Each map is divided by its spread
    over the batch, so that the loss is the fraction of it that is not explained.
    """

    def __init__(self, width: int, ratio: int, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.channels = dict(channels)
        self.ratio = ratio
        self.convolution = nn.Conv2d(width, sum(channels.values()) * ratio**2, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, all channels, H, W), in the order of ``channels``."""
        return functional.pixel_shuffle(self.convolution(features), self.ratio)

    def loss(self, features: Tensor, extra: Mapping[str, Tensor]) -> Tensor:
        """Mean squared error of the standardised maps, averaged over the maps."""
        predicted = self(features).float().split(list(self.channels.values()), dim=1)
        losses = []
        for name, found in zip(self.channels, predicted, strict=True):
            true = extra[name].float()
            spread = true.std().clamp(min=torch.finfo(torch.float32).tiny)
            losses.append((found - true / spread).square().mean())
        return torch.stack(losses).mean()


def make_objective(
    network: Network,
    task: Task,
    auxiliary: Auxiliary | None,
    *,
    image_size: int,
    in_channels: int,
    n_bands: int,
    seed: int,
) -> Objective:
    """Build what a step lowers; the readout's weights are a function of ``seed``.

    Raises
    ------
    ConfigError
        If there are maps to learn but the backbone has no features map that fits the image.
    """
    if auxiliary is None:
        return Objective(network, task)
    if isinstance(task, NeedsBatch):
        raise ConfigError("auxiliary: this task has a loss of its own and takes no maps beside it")
    backbone = network.backbone
    if not backbone.map_channels:
        raise ConfigError(
            "auxiliary: this model has no features map to read maps from; lens_hybrid has one"
        )
    was_training = backbone.training
    with torch.no_grad():
        image = torch.zeros((1, in_channels, image_size, image_size))
        side = backbone.eval().features_map(image).shape[-1]
    backbone.train(was_training)
    if image_size % side:
        raise ConfigError(
            f"auxiliary: a features map of {side}x{side} does not divide {image_size} pixels"
        )
    channels = {name: 1 if name in ONE_CHANNEL else n_bands for name in auxiliary.maps}
    with torch.random.fork_rng(devices=[]):
        drawn = image_rng(seed, _READOUT, RunStream.WEIGHTS).integers(2**62)
        torch.manual_seed(int(drawn))
        readout = Readout(backbone.map_channels, image_size // side, channels)
    return Objective(network, task, readout, auxiliary.weight)
