"""Any image classifier of vit-pytorch, by the name of its module; arguments from YAML."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from pipeline.models._shapes import Options
from pipeline.models.base import Fit, ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """``name`` is a module or ``module.Class``; ``options`` are keyword arguments of the class.

    Image size, channels and number of classes are filled in. ``size`` is the image side that the
    network is built for, where that differs from the data's.
    """

    kind: Literal["vit_pytorch"] = "vit_pytorch"
    fit: Fit = "resample"
    name: str = "simple_vit"
    size: PositiveInt | None = None
    options: Options = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _usable_default(cls, data: Any) -> Any:  # Any: raw YAML
        named = isinstance(data, Mapping) and ("name" in data or "options" in data)
        return data if named or not isinstance(data, Mapping) else {**data, "options": _SMALL}


_SMALL: Options = {"patch_size": 8, "dim": 192, "depth": 6, "heads": 3, "mlp_dim": 768}
VARIANTS = {
    "simple_vit": Config(),
    "mini": Config(
        options={"patch_size": 8, "dim": 32, "depth": 2, "heads": 2, "dim_head": 16, "mlp_dim": 64}
    ),
}


def variant(name: str) -> Config:
    """Take any name of vit-pytorch's as a variant: ``vit_pytorch:cvt``."""
    return Config(name=name)


def image_sizes(config: Config) -> ImageSizes:
    """``size`` if it is given, or multiples of a patch; the network is tried when it is built."""
    if config.size is not None:
        return ImageSizes(minimum=config.size, maximum=config.size)
    patch = config.options.get("patch_size")
    step = patch if isinstance(patch, int) else 1
    return ImageSizes(minimum=max(16, 2 * step), multiple_of=step)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network without its classification layer."""
    from pipeline.models._vit_pytorch import vit_pytorch_backbone

    return vit_pytorch_backbone(config.name, in_channels, image_size, config.options)
