"""C8 steerable CNN: eight rotations built in, Weiler & Cesa (2019, arXiv:1911.08251), by e2cnn."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from pipeline.models.base import Fit, ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone

Six = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt]


class Config(ModelConfig):
    """Six steerable convolutions with pooling after every two, then a pool over the group.

    ``channels`` counts regular fields of C8, eight numbers each; ``kernels`` are odd; ``dense`` is
    the width of the layer after the pool. The defaults are DeepLense's and e2cnn's own example.
    """

    kind: Literal["c8_steerable_cnn"] = "c8_steerable_cnn"
    fit: Fit = "resample"
    channels: Six = (24, 48, 48, 96, 96, 64)
    kernels: Six = (7, 5, 5, 5, 5, 5)
    dense: PositiveInt = 64
    dropout: NonNegativeFloat = Field(0.0, lt=1.0)


VARIANTS = {
    "seed": Config(),
    "small": Config(channels=(8, 16, 16, 24, 24, 32)),
    "mini": Config(channels=(2, 3, 3, 4, 4, 4), kernels=(7, 5, 5, 5, 5, 5), dense=16),
}


def image_sizes(config: Config) -> ImageSizes:
    """Multiples of eight plus one: with odd sizes at every pooling a quarter turn is exact."""
    return ImageSizes(minimum=33, multiple_of=8, remainder=1)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network with invariant features."""
    from pipeline.models._c8_steerable_cnn import SteerableCnn

    return SteerableCnn(config, in_channels, image_size)
