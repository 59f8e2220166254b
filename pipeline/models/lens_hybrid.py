"""Lens hybrid: strided convolutions, then attention over the arc; learns on two CPU cores."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from pipeline.models.base import ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """Convolution stages that halve the image, then attention over the remaining tokens.

    Parameters
    ----------
    channels : tuple of int
        Width after each halving of the image.
    blocks : tuple of int
        Residual blocks in each stage.
    dense : int
        Stages whose blocks are two dense 3x3 convolutions. Those of later stages are a depthwise
        5x5 convolution and two of 1x1: on small maps half the price on a CPU, with more reach, but
        slower to learn.
    activation : str
        After convolutions.
    depth, heads, mlp_ratio : int
        Attention layers, their heads, and the width of their hidden layer over the token width.
    coordinates : bool
        Give the first layer x, y and radius beside the pixels: a lens sits in the middle.
    """

    kind: Literal["lens_hybrid"] = "lens_hybrid"
    channels: tuple[PositiveInt, ...] = (24, 48, 96)
    blocks: tuple[NonNegativeInt, ...] = (0, 1, 1)
    dense: NonNegativeInt = 3
    activation: Literal["relu", "silu", "gelu"] = "gelu"
    depth: NonNegativeInt = 1
    heads: PositiveInt = 4
    mlp_ratio: PositiveInt = 2
    dropout: NonNegativeFloat = 0.0
    coordinates: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.channels or len(self.channels) != len(self.blocks):
            raise ValueError("channels and blocks need one entry per stage")
        if self.channels[-1] % self.heads:
            raise ValueError(f"heads {self.heads} does not divide the width {self.channels[-1]}")
        return self


VARIANTS = {
    "tiny": Config(),
    "small": Config(channels=(32, 64, 128), blocks=(1, 2, 2), depth=2),
    "base": Config(channels=(48, 96, 192), blocks=(2, 3, 3), depth=4, heads=6),
    "mini": Config(channels=(8, 16, 16), blocks=(0, 1, 0), depth=1, heads=2),
}


def image_sizes(config: Config) -> ImageSizes:
    """Multiples of the total stride, so that every halving is exact; at least two tokens a side."""
    stride = 2 ** len(config.channels)
    return ImageSizes(minimum=2 * stride, multiple_of=stride)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network; token positions are learnt for this image size."""
    from pipeline.models._lens_hybrid import LensHybrid

    return LensHybrid(config, in_channels, image_size)
