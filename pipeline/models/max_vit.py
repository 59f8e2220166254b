"""MaxViT: convolution, block attention, grid attention, Tu et al. (2022, arXiv:2204.01697)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from pipeline.models.base import Fit, ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """Stages that halve the size and double the width; MaxViT-T by default."""

    kind: Literal["max_vit"] = "max_vit"
    fit: Fit = "resample"
    dim: PositiveInt = 64
    depth: tuple[PositiveInt, ...] = Field((2, 2, 5, 2), min_length=1)
    window: int = Field(7, ge=2)
    head_dim: PositiveInt = 32
    stem: PositiveInt = 64
    dropout: NonNegativeFloat = 0.1


VARIANTS = {
    "t": Config(),
    "small": Config(dim=32, depth=(1, 1, 2), window=4, stem=32),
    "mini": Config(dim=16, depth=(1, 1), window=4, head_dim=16, stem=8, dropout=0.0),
}


def image_sizes(config: Config) -> ImageSizes:
    """Multiples of the window times the total stride."""
    step = config.window * 2 ** (len(config.depth) + 1)
    return ImageSizes(minimum=step, multiple_of=step)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network without its classification layer."""
    from vit_pytorch.max_vit import MaxViT  # type: ignore[import-untyped]

    from pipeline.models._headless import headless

    return headless(
        lambda n: MaxViT(
            num_classes=n,
            channels=in_channels,
            dim=config.dim,
            depth=config.depth,
            window_size=config.window,
            dim_head=config.head_dim,
            dim_conv_stem=config.stem,
            dropout=config.dropout,
        )
    )
