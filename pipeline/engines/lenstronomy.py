"""The reference: profiles and light of lenstronomy (Birrer et al. 2021), single lens plane."""

from typing import Literal

from pipeline.core.config import StrictModel
from pipeline.engines.base import Engine


class Config(StrictModel):
    """The lenstronomy engine; it has no options."""

    kind: Literal["lenstronomy"] = "lenstronomy"


def build(config: Config) -> Engine:
    """Return the engine; imports lenstronomy."""
    from pipeline.engines._lenstronomy import LenstronomyEngine  # heavy

    return LenstronomyEngine()
