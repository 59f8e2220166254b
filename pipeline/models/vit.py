"""ViT: plain vision transformer of Dosovitskiy et al. (2021), from vit-pytorch."""

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat, PositiveInt

from pipeline.models.base import ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """Square patches of ``patch`` pixels, a class token, ``depth`` layers of attention."""

    kind: Literal["vit"] = "vit"
    patch: PositiveInt = 8
    dim: PositiveInt = 192
    depth: PositiveInt = 6
    heads: PositiveInt = 3
    head_dim: PositiveInt = 64
    mlp_ratio: PositiveInt = 4
    dropout: NonNegativeFloat = 0.1


VARIANTS = {
    "default": Config(),
    "mini": Config(dim=32, depth=2, heads=2, head_dim=16, mlp_ratio=2),
}


def image_sizes(config: Config) -> ImageSizes:
    """Multiples of the patch; at least two patches a side, or there is nothing to attend to."""
    return ImageSizes(minimum=2 * config.patch, multiple_of=config.patch)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network without its classification layer."""
    from pipeline.models._vit import VitBackbone

    return VitBackbone(config, in_channels, image_size)
