"""Subhalos as point masses, the way DeepLenseSim makes its CDM class.

Power law in mass, radius uniform between two values, so surface density ~ 1/r (PHYSICS 4.2). Its
faults are switches: ``slope_bug`` draws from a slope one too shallow, which makes the mean mass 110
times too large; ``count_bug`` ignores the drawn number and takes the mean.
"""

import math
from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from pipeline.core.config import StrictModel
from pipeline.physics.components import Perturbers, TruthColumn
from pipeline.physics.host import Host
from pipeline.physics.quantities import Angle, Mass, NonNegativeAngle
from pipeline.physics.substructure.base import Population, power_law

TRUTH: Mapping[str, TruthColumn] = {}


class Config(StrictModel):
    """Point-mass subhalos (legacy CDM)."""

    kind: Literal["point_masses"] = "point_masses"
    n_mean: float = Field(default=25.0, ge=0)  # DeepLenseSim
    m_min: Mass = 1e6
    m_max: Mass = 1e10
    slope: float = -1.9  # dN/dm ~ m^slope, as DeepLenseSim intends
    r_min: NonNegativeAngle = 0.25  # from the lens centre
    r_max: Angle = 2.0
    slope_bug: bool = False
    count_bug: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.m_min < self.m_max:
            raise ValueError(f"m_min {self.m_min:g} must be below m_max {self.m_max:g} M_sun")
        if not self.r_min < self.r_max:
            raise ValueError(f"r_min {self.r_min:g} must be below r_max {self.r_max:g} arcsec")
        return self


def draw(config: Config, host: Host, rng: np.random.Generator) -> Population:
    """Draw the point masses.

    Parameters
    ----------
    config : Config
    host : Host
    rng : numpy.random.Generator

    Returns
    -------
    Population
    """
    count, mass, place, turn = rng.spawn(4)
    n = int(count.poisson(config.n_mean))
    if config.count_bug:
        n = round(config.n_mean)
    slope = config.slope + 1.0 if config.slope_bug else config.slope
    masses = power_law(mass.random(n), config.m_min, config.m_max, slope)
    radius = place.uniform(config.r_min, config.r_max, n)
    angle = turn.uniform(0.0, 2.0 * math.pi, n)
    perturbers = Perturbers(
        profile="point_mass",
        z=np.full(n, host.z_lens),
        params={
            "theta_E": host.einstein_radius(masses),
            "center_x": host.center_x + radius * np.cos(angle),
            "center_y": host.center_y + radius * np.sin(angle),
        },
        mass=masses,
    )
    return Population(perturbers=(perturbers,))
