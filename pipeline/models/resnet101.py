"""ResNet-101: residual bottlenecks of He et al. (2015, arXiv:1512.03385), from timm."""

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat

from pipeline.models._shapes import Four
from pipeline.models.base import ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """Blocks and width of the four stages; ``dropout`` before the head."""

    kind: Literal["resnet101"] = "resnet101"
    blocks: Four = (3, 4, 23, 3)
    width: Four = (64, 128, 256, 512)
    dropout: NonNegativeFloat = 0.0


VARIANTS = {"default": Config(), "mini": Config(blocks=(1, 1, 1, 1), width=(8, 16, 24, 32))}


def image_sizes(config: Config) -> ImageSizes:
    """Any size that leaves a pixel after five halvings."""
    return ImageSizes(minimum=32)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network without its classification layer."""
    from pipeline.models._timm import timm_backbone

    options = {
        "layers": config.blocks,
        "channels": config.width,
        "drop_rate": config.dropout,
    }
    return timm_backbone("resnet101", in_channels, options=options)
