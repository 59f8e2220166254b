"""The model family: a backbone turns images into features, and declares the sizes it takes.

A kind is a file with ``Config``, ``VARIANTS`` (named configurations, one of them ``mini`` for
tests), ``image_sizes(config)`` and ``build(config, in_channels, image_size) -> Backbone``.
Heads belong to tasks, so every model serves every task.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.core.config import StrictModel
from pipeline.core.errors import ConfigError
from pipeline.core.registry import Family

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone

MODELS = Family("model", "pipeline.models")


@dataclass(frozen=True)
class ImageSizes:
    """Square image sizes (pixels a side) that an architecture takes: a range and a divisor."""

    minimum: int
    multiple_of: int = 1
    maximum: int | None = None

    def __contains__(self, size: int) -> bool:
        fits = size >= self.minimum and (self.maximum is None or size <= self.maximum)
        return fits and size % self.multiple_of == 0

    def __str__(self) -> str:
        span = f"from {self.minimum}" + (f" to {self.maximum}" if self.maximum else "")
        step = f"multiples of {self.multiple_of} " if self.multiple_of > 1 else "any size "
        return f"{step}{span} pixels" + ("" if self.maximum else " up")

    def examples(self, n: int = 2) -> tuple[int, ...]:
        """Return the ``n`` smallest sizes that fit."""
        found: list[int] = []
        size = self.minimum
        while len(found) < n and (self.maximum is None or size <= self.maximum):
            if size in self:
                found.append(size)
            size += 1
        return tuple(found)


def kind_of(config: StrictModel) -> str:
    """Name of the kind whose ``Config`` this is."""
    kind = getattr(config, "kind", None)
    if not isinstance(kind, str):
        raise ConfigError(f"{type(config).__name__} is no model block: it has no field 'kind'")
    return kind


def image_sizes(config: StrictModel) -> ImageSizes:
    """Sizes that a configured model takes."""
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
        Pixels a side.

    Raises
    ------
    ConfigError
        If the architecture does not take this image size; says which it takes.
    """
    kind = kind_of(config)
    sizes = image_sizes(config)
    if image_size not in sizes:
        raise ConfigError(
            f"model {kind!r} does not take images of {image_size}x{image_size} pixels: "
            f"it takes {sizes}"
        )
    backbone: Backbone = MODELS.load(kind).build(config, in_channels, image_size)
    return backbone
