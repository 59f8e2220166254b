"""ScalableViT: attention of scalable context, Yang et al. (2022, arXiv:2203.10790)."""

import math
from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat, PositiveInt

from pipeline.models._shapes import Four
from pipeline.models.base import ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """Four stages; keys reduced by ``reduction``, then attention over the whole map.

    The defaults are those of vit-pytorch's example; widths double from stage to stage.
    """

    kind: Literal["scalable_vit"] = "scalable_vit"
    dim: PositiveInt = 64
    depth: Four = (2, 2, 20, 2)
    heads: Four = (2, 4, 8, 16)
    reduction: Four = (8, 4, 2, 1)
    mlp_ratio: PositiveInt = 4
    dropout: NonNegativeFloat = 0.1


VARIANTS = {
    "default": Config(),
    "small": Config(dim=32, depth=(1, 1, 4, 1), heads=(1, 2, 4, 8)),
    "mini": Config(dim=8, depth=(1, 1, 1, 1), heads=(1, 1, 2, 2), mlp_ratio=2, dropout=0.0),
}


def image_sizes(config: Config) -> ImageSizes:
    """Multiples of every stage's reduction times its stride; two tokens a side in the last."""
    step = math.lcm(*(n * 4 * 2**stage for stage, n in enumerate(config.reduction)))
    return ImageSizes(minimum=max(step, 64), multiple_of=step)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network without its classification layer."""
    from vit_pytorch.scalable_vit import ScalableViT  # type: ignore[import-untyped]

    from pipeline.models._headless import headless

    return headless(
        lambda n: ScalableViT(
            num_classes=n,
            channels=in_channels,
            dim=config.dim,
            depth=config.depth,
            heads=config.heads,
            reduction_factor=config.reduction,
            ff_expansion_factor=config.mlp_ratio,
            dropout=config.dropout,
        ),
        channels_last=True,
    )
