"""What a kind of source provides, and the family that finds the kinds.

A kind is a module with ``Config``, ``TRUTH`` (its columns of the truth) and
``draw(config, rng) -> DrawnSource``, centred on the origin; the scene moves it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.core.registry import Family
from pipeline.physics.components import LightComponent

SOURCES = Family("source", "pipeline.physics.sources")


@dataclass(frozen=True)
class DrawnSource:
    """One source.

    Attributes
    ----------
    components : tuple of LightComponent
        Around the origin.
    truth : Mapping[str, float]
        The kind's columns, named in its ``TRUTH``.
    group : str
        Identity of a real galaxy, which must stay in one split; "" for parametric sources.
    """

    components: tuple[LightComponent, ...]
    truth: Mapping[str, float]
    group: str = ""
