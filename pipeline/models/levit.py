"""LeViT: convolutions, then shrinking attention, Graham et al. (2021, arXiv:2104.01136)."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import NonNegativeFloat, PositiveInt, model_validator

from pipeline.models.base import ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """Four convolutions that divide the size by 16, then attention stages that halve it.

    One entry per stage; the defaults are the paper's LeViT-128S.
    """

    kind: Literal["levit"] = "levit"
    dim: tuple[PositiveInt, ...] = (128, 256, 384)
    depth: tuple[PositiveInt, ...] = (2, 3, 4)
    heads: tuple[PositiveInt, ...] = (4, 6, 8)
    mlp_ratio: PositiveInt = 2
    key: PositiveInt = 16
    dropout: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not len(self.dim) == len(self.depth) == len(self.heads) >= 1:
            raise ValueError("dim, depth and heads need one entry per stage")
        return self


VARIANTS = {
    "128s": Config(),
    "small": Config(dim=(128, 256), depth=(2, 3), heads=(4, 8)),
    "mini": Config(dim=(32, 48), depth=(1, 1), heads=(2, 2)),
}


def image_sizes(config: Config) -> ImageSizes:
    """Multiples of 16; two tokens a side must be left in the last stage."""
    smallest = 16 * (2 ** (len(config.dim) - 1) + 1)
    return ImageSizes(minimum=smallest, multiple_of=16)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network without its classification layer."""
    from vit_pytorch.levit import LeViT  # type: ignore[import-untyped]

    from pipeline.models._headless import headless, read_channels

    backbone = headless(
        lambda n: LeViT(
            image_size=image_size,
            num_classes=n,
            stages=len(config.dim),
            dim=config.dim,
            depth=config.depth,
            heads=config.heads,
            mlp_mult=config.mlp_ratio,
            dim_key=config.key,
            dim_value=2 * config.key,
            dropout=config.dropout,
        ),
        channels_last=True,
    )
    read_channels(backbone.whole, "conv_embedding.0", in_channels)
    return backbone
