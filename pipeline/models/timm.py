"""Any model of timm, by its name there; random weights, nothing is downloaded."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from pipeline.models._shapes import Options
from pipeline.models.base import Fit, ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """``name`` as in ``timm.list_models()``; ``options`` are keyword arguments of its builder.

    ``size`` is the image side that the network is built for, where that differs from the data's.
    """

    kind: Literal["timm"] = "timm"
    fit: Fit = "resample"
    name: str = "resnet18"
    size: PositiveInt | None = None
    options: Options = Field(default_factory=dict)


VARIANTS = {"default": Config()}


def variant(name: str) -> Config:
    """Take any name of timm's as a variant: ``timm:convnext_nano``."""
    return Config(name=name)


def image_sizes(config: Config) -> ImageSizes:
    """``size`` if it is given; else the network is tried when it is built."""
    if config.size is not None:
        return ImageSizes(minimum=config.size, maximum=config.size)
    return ImageSizes(minimum=32)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network without its classification layer."""
    from pipeline.models._timm import any_timm_backbone

    return any_timm_backbone(config.name, in_channels, image_size, config.options)
