"""CrossViT: two patch sizes exchange class tokens, Chen et al. (2021, arXiv:2103.14899)."""

import math
from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat, PositiveInt

from pipeline.models.base import ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone

Pair = tuple[PositiveInt, PositiveInt]


class Config(ModelConfig):
    """A branch of small patches, one of large patches, and cross-attention between them.

    Pairs are (small, large). Widths of the paper's CrossViT-Ti; patches of 8 and 16 pixels (the
    paper: 12 and 16) so that small images divide.
    """

    kind: Literal["cross_vit"] = "cross_vit"
    patch: Pair = (8, 16)
    dim: Pair = (96, 192)
    encoder_depth: Pair = (1, 4)
    cross_depth: PositiveInt = 1
    depth: PositiveInt = 3
    heads: PositiveInt = 3
    head_dim: PositiveInt = 64
    mlp_ratio: PositiveInt = 4
    dropout: NonNegativeFloat = 0.0


VARIANTS = {
    "ti": Config(),
    "small": Config(dim=(64, 128), encoder_depth=(1, 2), depth=2, head_dim=32),
    "mini": Config(dim=(16, 24), encoder_depth=(1, 1), depth=1, heads=2, head_dim=16, mlp_ratio=2),
}


def image_sizes(config: Config) -> ImageSizes:
    """Multiples of both patches; at least two large ones a side."""
    step = math.lcm(*config.patch)
    return ImageSizes(minimum=step * (1 + (step == max(config.patch))), multiple_of=step)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network; its features are both class tokens."""
    from pipeline.models._cross_vit import CrossVitBackbone

    return CrossVitBackbone(config, in_channels, image_size)
