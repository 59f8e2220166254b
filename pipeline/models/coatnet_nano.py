"""CoAtNet nano: convolution, then attention, Dai et al. (2021, arXiv:2106.04803), from timm."""

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat

from pipeline.models._shapes import Four
from pipeline.models.base import ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """Two stages of inverted residuals, two of relative attention: timm's ``coatnet_nano_rw_224``.

    DeepLense's best on its Model II.
    """

    kind: Literal["coatnet_nano"] = "coatnet_nano"
    dim: Four = (64, 128, 256, 512)
    depth: Four = (3, 4, 6, 3)
    dropout: NonNegativeFloat = 0.0
    drop_path: NonNegativeFloat = 0.0


VARIANTS = {"default": Config(), "mini": Config(dim=(32, 32, 32, 64), depth=(1, 1, 1, 1))}


def image_sizes(config: Config) -> ImageSizes:
    """Multiples of 32 that leave two tokens a side in the last stage."""
    return ImageSizes(minimum=64, multiple_of=32)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network without its classification layer."""
    from pipeline.models._timm import timm_backbone

    options = {
        "embed_dim": config.dim,
        "depths": config.depth,
        "drop_rate": config.dropout,
        "drop_path_rate": config.drop_path,
    }
    return timm_backbone(
        "coatnet_nano_rw_224",
        in_channels,
        image_size=image_size,
        channels_last=True,
        options=options,
    )
