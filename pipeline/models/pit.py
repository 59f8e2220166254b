"""PiT: a transformer that pools its tokens, Heo et al. (2021, arXiv:2103.16302)."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from pipeline.models.base import ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """Overlapping patches; between stages a depthwise convolution halves the side.

    Widths of the paper's PiT-Ti, patches of 8 pixels (the paper: 16) for small images.
    """

    kind: Literal["pit"] = "pit"
    patch: int = Field(8, ge=2, multiple_of=2)
    dim: PositiveInt = 64
    depth: tuple[PositiveInt, ...] = (2, 6, 4)
    heads: tuple[PositiveInt, ...] = (2, 4, 8)
    head_dim: PositiveInt = 32
    mlp_ratio: PositiveInt = 4
    dropout: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not len(self.depth) == len(self.heads) >= 1:
            raise ValueError("depth and heads need one entry per stage")
        return self


VARIANTS = {
    "ti": Config(),
    "small": Config(depth=(1, 3, 2)),
    "mini": Config(dim=16, depth=(1, 1), heads=(1, 2), head_dim=16, mlp_ratio=2),
}


def image_sizes(config: Config) -> ImageSizes:
    """Multiples of the patch, at least two of them."""
    return ImageSizes(minimum=2 * config.patch, multiple_of=config.patch)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network without its classification layer."""
    from vit_pytorch.pit import PiT  # type: ignore[import-untyped]

    from pipeline.models._headless import headless

    return headless(
        lambda n: PiT(
            image_size=image_size,
            patch_size=config.patch,
            num_classes=n,
            channels=in_channels,
            dim=config.dim,
            depth=config.depth,
            heads=config.heads,
            dim_head=config.head_dim,
            mlp_dim=config.mlp_ratio * config.dim,
            dropout=config.dropout,
            emb_dropout=config.dropout,
        )
    )
