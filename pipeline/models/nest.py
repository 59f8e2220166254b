"""NesT: nested blocks of attention, Zhang et al. (2021, arXiv:2105.12723)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from pipeline.models.base import ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """One entry of ``depth`` per level; each level merges four blocks and doubles the width.

    NesT-T by default.
    """

    kind: Literal["nest"] = "nest"
    patch: PositiveInt = 4
    dim: PositiveInt = 96
    heads: PositiveInt = 3
    depth: tuple[PositiveInt, ...] = Field((2, 2, 8), min_length=1)
    mlp_ratio: PositiveInt = 4
    dropout: NonNegativeFloat = 0.0


VARIANTS = {
    "t": Config(),
    "small": Config(dim=48, depth=(1, 1, 4)),
    "mini": Config(dim=16, heads=1, depth=(1, 1), mlp_ratio=2),
}


def image_sizes(config: Config) -> ImageSizes:
    """Multiples of patch and blocks; two tokens a side in every block."""
    step = config.patch * 2 ** (len(config.depth) - 1)
    return ImageSizes(minimum=2 * step, multiple_of=step)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network without its classification layer."""
    from vit_pytorch.nest import NesT  # type: ignore[import-untyped]

    from pipeline.models._headless import headless

    return headless(
        lambda n: NesT(
            image_size=image_size,
            patch_size=config.patch,
            num_classes=n,
            channels=in_channels,
            dim=config.dim,
            heads=config.heads,
            num_hierarchies=len(config.depth),
            block_repeats=config.depth,
            mlp_mult=config.mlp_ratio,
            dropout=config.dropout,
        )
    )
