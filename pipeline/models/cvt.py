"""CvT: convolutional vision transformer of Wu et al. (2021), at the seed's settings."""

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat

from pipeline.models._shapes import Three
from pipeline.models.base import ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """Three stages of convolutional embedding and attention; one entry per stage.

    The defaults are vit-pytorch's own with dropout 0.1, as DeepLense uses them: 19.6 M parameters.
    """

    kind: Literal["cvt"] = "cvt"
    dim: Three = (64, 192, 384)
    depth: Three = (1, 2, 10)
    heads: Three = (1, 3, 6)
    embedding_kernel: Three = (7, 3, 3)
    embedding_stride: Three = (4, 2, 2)
    projection_kernel: Three = (3, 3, 3)
    key_value_stride: Three = (2, 2, 2)
    mlp_ratio: Three = (4, 4, 4)
    dropout: NonNegativeFloat = 0.1


#: Small enough for tests and laptops.
VARIANTS = {
    "seed": Config(),
    "mini": Config(dim=(24, 48, 96), depth=(1, 1, 2), heads=(1, 1, 2)),
}


def image_sizes(config: Config) -> ImageSizes:
    """Any size that leaves two keys a side in the last stage: with one, attention does nothing."""
    first, second, third = config.embedding_stride
    return ImageSizes(minimum=first * second * third * config.key_value_stride[2] + 1)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network without its classification layer."""
    from pipeline.models._cvt import CvtBackbone

    return CvtBackbone(config, in_channels)
