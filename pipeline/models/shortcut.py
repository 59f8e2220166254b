"""Shortcut: boosted trees on 41 plain image statistics, the floor under every network."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from pipeline.models.base import ImageSizes, ModelConfig
from pipeline.statistics.leaks import MIN_SIZE

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """Histogram gradient boosting on the statistics of ``deeplense audit``, channel by channel.

    The trees are fitted at once, without gradients: ``rounds`` of them for each class or target,
    with at least ``leaf`` images in a leaf. ``scores`` is how many classes and targets there may
    be. The defaults are the audit's.
    """

    kind: Literal["shortcut"] = "shortcut"
    rounds: PositiveInt = 80
    depth: PositiveInt = 3
    learning_rate: float = Field(0.08, gt=0)
    leaf: PositiveInt = 20
    scores: PositiveInt = 8


VARIANTS = {
    "audit": Config(),
    "deep": Config(rounds=300, depth=5, learning_rate=0.05),
    "mini": Config(rounds=20, depth=2, learning_rate=0.2, leaf=5),
}


def image_sizes(config: Config) -> ImageSizes:
    """Any size that fills every radial and spectral bin."""
    return ImageSizes(minimum=MIN_SIZE)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the model with no trees yet."""
    from pipeline.models._shortcut import Shortcut

    return Shortcut(config, in_channels)
