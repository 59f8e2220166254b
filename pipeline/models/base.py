"""The model family: a backbone turns images into features, and declares the sizes it takes.

A kind is a file with ``Config`` (a :class:`ModelConfig`), ``VARIANTS`` (named configurations),
``image_sizes(config)`` and ``build(config, in_channels, image_size) -> Backbone``. Heads belong to
tasks, so every model serves every task.
"""

from typing import TYPE_CHECKING, Literal

from pipeline.core.config import StrictModel
from pipeline.core.errors import ConfigError
from pipeline.core.registry import Family
from pipeline.models._shapes import LIMITS, Fit, ImageSizes, fitted_size

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone

MODELS = Family("model", "pipeline.models", ("Config", "image_sizes", "build"))

__all__ = ["MODELS", "Fit", "ImageSizes", "ModelConfig", "build_model", "image_sizes", "kind_of"]


class ModelConfig(StrictModel):
    """Base of every model's ``Config``.

    ``fit`` is what happens to images of a size that the architecture does not take: ``pad`` repeats
    the border (by at most half the image), ``resample`` interpolates (by at most a factor of four),
    ``exact`` refuses them.
    """

    kind: str
    fit: Literal["exact", "pad", "resample"] = "pad"


def kind_of(config: StrictModel) -> str:
    """Name of the kind whose ``Config`` this is."""
    kind = getattr(config, "kind", None)
    if not isinstance(kind, str):
        raise ConfigError(f"{type(config).__name__} is no model block: it has no field 'kind'")
    return kind


def image_sizes(config: StrictModel) -> ImageSizes:
    """Sizes that a configured model takes as they are."""
    sizes: ImageSizes = MODELS.load(kind_of(config)).image_sizes(config)
    return sizes


def build_model(config: StrictModel, in_channels: int, image_size: int) -> "Backbone":
    """Build the backbone of a model block with freshly initialised weights.

    Parameters
    ----------
    config : StrictModel
        The ``Config`` of any kind of :data:`MODELS`.
    in_channels : int
    image_size : int
        Pixels a side; what the architecture does not take is fitted by the rule in ``config.fit``.

    Raises
    ------
    ConfigError
        If the architecture does not take this image size, fitted or not; says which it takes.
    """
    kind = kind_of(config)
    sizes = image_sizes(config)
    fit: Fit = getattr(config, "fit", "exact")
    inner = fitted_size(sizes, image_size, fit)
    if inner is None:
        other = [rule for rule in ("pad", "resample") if fitted_size(sizes, image_size, rule)]
        raise ConfigError(
            f"model {kind!r} does not take images of {image_size}x{image_size} pixels: it takes "
            f"{sizes}"
            + LIMITS[fit]
            + (f"; 'fit: {other[0]}' would make it take them" if other else "")
        )
    backbone: Backbone = MODELS.load(kind).build(config, in_channels, inner)
    if inner == image_size:
        return backbone
    from pipeline.models._resized import Resized

    return Resized(backbone, inner, fit)
