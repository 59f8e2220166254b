"""One elliptical Sersic galaxy."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from pipeline.core.config import StrictModel
from pipeline.physics.components import LightComponent, TruthColumn
from pipeline.physics.quantities import MagnitudePrior, PositiveAnglePrior, SersicIndexPrior
from pipeline.physics.shapes import ShapeConfig
from pipeline.physics.sources.base import DrawnSource

TRUTH: Mapping[str, TruthColumn] = {
    "source_magnitude": TruthColumn("mag", "unlensed AB magnitude in the first band"),
    "source_r_eff": TruthColumn("arcsec", "half-light radius, intermediate axis"),
    "source_n": TruthColumn("", "Sersic index"),
    "source_e1": TruthColumn("", "ellipticity of the source"),
    "source_e2": TruthColumn("", "ellipticity of the source"),
}


class Config(StrictModel):
    """A Sersic source of given unlensed magnitude."""

    kind: Literal["sersic"] = "sersic"
    magnitude: MagnitudePrior
    r_eff: PositiveAnglePrior
    n: SersicIndexPrior
    shape: ShapeConfig
    colours: tuple[float, ...] = ()  # magnitude of each further band minus that of the first


def draw(config: Config, rng: np.random.Generator) -> DrawnSource:
    """Draw one source around the origin.

    Parameters
    ----------
    config : Config
    rng : numpy.random.Generator

    Returns
    -------
    DrawnSource
    """
    magnitude = config.magnitude.draw(rng)
    r_eff, n = config.r_eff.draw(rng), config.n.draw(rng)
    e1, e2 = config.shape.draw(rng)
    component = LightComponent(
        profile="sersic",
        params={"r_eff": r_eff, "n": n, "e1": e1, "e2": e2, "center_x": 0.0, "center_y": 0.0},
        magnitude=magnitude + np.array([0.0, *config.colours]),
    )
    truth = {
        "source_magnitude": magnitude,
        "source_r_eff": r_eff,
        "source_n": n,
        "source_e1": e1,
        "source_e2": e2,
    }
    return DrawnSource(components=(component,), truth=truth)
