"""MobileViT: inverted residuals and light attention, Mehta & Rastegari (2021, arXiv:2110.02178)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from pipeline.models._shapes import Three
from pipeline.models.base import ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """``dim`` and ``depth`` of the three attention blocks, ``channels`` of the eleven convolutions.

    MobileViT-XXS by default.
    """

    kind: Literal["mobile_vit"] = "mobile_vit"
    dim: Three = (64, 80, 96)
    depth: Three = (2, 4, 3)
    channels: tuple[PositiveInt, ...] = Field(
        (16, 16, 24, 24, 48, 48, 64, 64, 80, 80, 320), min_length=11, max_length=11
    )
    expansion: PositiveInt = 2


VARIANTS = {
    "xxs": Config(),
    "s": Config(
        dim=(144, 192, 240),
        channels=(16, 32, 64, 64, 96, 96, 128, 128, 160, 160, 640),
        expansion=4,
    ),
    "mini": Config(
        dim=(16, 16, 24), depth=(1, 1, 1), channels=(8, 8, 12, 12, 16, 16, 16, 16, 24, 24, 48)
    ),
}


def image_sizes(config: Config) -> ImageSizes:
    """Multiples of 64: patches of two by two must fit the last stage."""
    return ImageSizes(minimum=64, multiple_of=64)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network without its classification layer."""
    from vit_pytorch.mobile_vit import MobileViT  # type: ignore[import-untyped]

    from pipeline.models._headless import headless, read_channels

    backbone = headless(
        lambda n: MobileViT(
            image_size=(image_size, image_size),
            dims=config.dim,
            channels=config.channels,
            num_classes=n,
            expansion=config.expansion,
            depths=config.depth,
        ),
        channels_last=True,
    )
    read_channels(backbone.whole, "conv1.0", in_channels)
    return backbone
