"""The second opinion: profiles and ray tracing of PyAutoLens (Nightingale et al. 2021)."""

from typing import Literal

from pipeline.core.config import StrictModel
from pipeline.engines.base import Engine


class Config(StrictModel):
    """The PyAutoLens engine; it has no options."""

    kind: Literal["autolens"] = "autolens"


def build(config: Config) -> Engine:
    """Return the engine; imports autolens."""
    from pipeline.engines._autolens import AutolensEngine  # heavy

    return AutolensEngine()
