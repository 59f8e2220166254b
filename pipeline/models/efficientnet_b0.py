"""EfficientNet-B0: scaled inverted residuals, Tan & Le (2019, arXiv:1905.11946), from timm."""

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat

from pipeline.models.base import ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """``dropout`` before the head, ``drop_path`` of residual branches, both while training."""

    kind: Literal["efficientnet_b0"] = "efficientnet_b0"
    dropout: NonNegativeFloat = 0.0
    drop_path: NonNegativeFloat = 0.0


VARIANTS = {"default": Config(), "paper": Config(dropout=0.2, drop_path=0.2)}


def image_sizes(config: Config) -> ImageSizes:
    """Any size that leaves a pixel after five halvings."""
    return ImageSizes(minimum=32)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network without its classification layer."""
    from pipeline.models._timm import timm_backbone

    options = {"drop_rate": config.dropout, "drop_path_rate": config.drop_path}
    return timm_backbone("efficientnet_b0", in_channels, channels_last=True, options=options)
