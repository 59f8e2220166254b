"""RegionViT: regional tokens lead local ones, Chen, Panda & Fan (2021, arXiv:2106.02689)."""

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat, PositiveInt

from pipeline.models._shapes import Four
from pipeline.models.base import Fit, ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """Four stages of attention between regions, then inside each of them.

    The defaults are DeepLense's: 12.2 M parameters. ``convolutions`` tokenises with three
    convolutions instead of one; ``position`` adds a depthwise convolution before each later stage.
    """

    kind: Literal["regionvit"] = "regionvit"
    fit: Fit = "resample"
    dim: Four = (64, 128, 256, 512)
    depth: Four = (2, 2, 8, 2)
    window: PositiveInt = 7
    convolutions: bool = False
    position: bool = False
    dropout: NonNegativeFloat = 0.0


VARIANTS = {
    "seed": Config(),
    "small": Config(dim=(32, 64, 128, 256), depth=(1, 1, 3, 2), window=4),
    "mini": Config(dim=(16, 16, 32, 32), depth=(1, 1, 1, 2), window=4),
}


def image_sizes(config: Config) -> ImageSizes:
    """Two or four regions a side, or a multiple of eight: the last stage still divides evenly."""
    region = 4 * config.window
    return ImageSizes(minimum=8 * region, multiple_of=8 * region, also=(2 * region, 4 * region))


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network without its classification layer."""
    from vit_pytorch.regionvit import RegionViT  # type: ignore[import-untyped]

    from pipeline.models._headless import headless, read_channels

    backbone = headless(
        lambda n: RegionViT(
            num_classes=n,
            channels=in_channels,
            dim=config.dim,
            depth=config.depth,
            window_size=config.window,
            tokenize_local_3_conv=config.convolutions,
            use_peg=config.position,
            attn_dropout=config.dropout,
            ff_dropout=config.dropout,
        )
    )
    first = "local_encoder.0" if config.convolutions else "local_encoder"
    read_channels(backbone.whole, first, in_channels)
    return backbone
