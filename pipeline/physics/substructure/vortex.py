"""A vortex of an axion condensate: a straight rod of mass through the lens.

The half length falls with the axion mass as the de Broglie length does (PHYSICS 4.4). These axion
masses are excluded for all of the dark matter by present bounds: the vortex is a benchmark
observable, not a live model.
"""

import math
from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from pipeline.core.config import StrictModel
from pipeline.core.priors import Uniform
from pipeline.physics.components import Floats, Perturbers, TruthColumn
from pipeline.physics.host import Host
from pipeline.physics.quantities import (
    Log10AxionMassPrior,
    MassPrior,
    NonNegativeAngle,
    PhasePrior,
)
from pipeline.physics.substructure.base import Population

TRUTH: Mapping[str, TruthColumn] = {
    "log10_axion_mass": TruthColumn("", "log10 of the axion mass in eV"),
    "axion_mass": TruthColumn("eV", "mass of the axion"),
    "vortex_half_length": TruthColumn("arcsec", "half length of the vortex"),
    "vortex_angle": TruthColumn("rad", "position angle of the vortex"),
    "vortex_x": TruthColumn("arcsec", "centre of the vortex"),
    "vortex_y": TruthColumn("arcsec", "centre of the vortex"),
    "vortex_core": TruthColumn("arcsec", "Plummer core of the vortex"),
}

#: Half length at 1e-22 eV, arcsec, as DeepLenseSim fixes it for every lens.
LEGACY_HALF_LENGTH = 0.03
#: The same in kpc: 0.03 arcsec at z = 0.5 in the default cosmology (6.10421 kpc/arcsec).
HALF_LENGTH_KPC = 0.1831263
#: Below this log10 mass the 100 points of DeepLenseSim are resolved and must be kept.
LEGACY_POINTS_BELOW = -23.1


class Config(StrictModel):
    """A vortex: closed-form rod, or the row of points of DeepLenseSim."""

    kind: Literal["vortex"] = "vortex"
    mass: MassPrior
    log10_axion_mass: Log10AxionMassPrior = Uniform(low=-23.75, high=-22.25)  # of eV
    angle: PhasePrior = Uniform(low=0.0, high=math.pi)
    center_radius: float = Field(default=0.3, ge=0)  # of the disc of centres, in theta_E
    core: NonNegativeAngle = 0.03  # Plummer core; 0 with core_fraction 0 is the thin rod
    core_fraction: float = Field(default=0.1, ge=0)  # of the half length; the larger one counts
    n_points: int = Field(default=0, ge=0)  # 100: the point masses of DeepLenseSim; 0: the rod

    @model_validator(mode="after")
    def _points_are_thin(self) -> Self:
        if self.n_points == 1:
            raise ValueError("n_points must be 0 (a rod) or at least 2")
        if self.n_points and (self.core > 0 or self.core_fraction > 0):
            raise ValueError("the points of n_points have no core: set core and core_fraction to 0")
        return self


def half_length_legacy(log10_axion_mass: Floats | float) -> Floats:
    """Half length 0.03 (1e-22 eV/m) arcsec of DeepLenseSim, equation (4.6).

    Parameters
    ----------
    log10_axion_mass : Floats or float
        log10 of the mass in eV.

    Returns
    -------
    Floats, arcsec
    """
    return np.asarray(LEGACY_HALF_LENGTH * 10.0 ** (-22.0 - log10_axion_mass))


def draw(config: Config, host: Host, rng: np.random.Generator) -> Population:
    """Draw one vortex.

    Parameters
    ----------
    config : Config
    host : Host
    rng : numpy.random.Generator

    Returns
    -------
    Population
    """
    mass = config.mass.draw(rng)
    log10_mass = config.log10_axion_mass.draw(rng)
    angle = config.angle.draw(rng)
    radius = config.center_radius * host.theta_E * math.sqrt(rng.random())
    direction = 2.0 * math.pi * rng.random()
    x = host.center_x + radius * math.cos(direction)
    y = host.center_y + radius * math.sin(direction)
    if config.n_points:
        length = float(half_length_legacy(log10_mass))
    else:
        length = HALF_LENGTH_KPC * 10.0 ** (-22.0 - log10_mass) / host.kpc_per_arcsec
    core = max(config.core, config.core_fraction * length)
    if config.n_points and log10_mass < LEGACY_POINTS_BELOW:
        perturbers = _points(config.n_points, mass, length, angle, x, y, host)
    else:
        # A row of n points with both ends on the rod is the midpoint rule of a longer rod.
        stretch = config.n_points / (config.n_points - 1) if config.n_points else 1.0
        perturbers = _rod(mass, length * stretch, angle, x, y, core, host)
    truth = {
        "log10_axion_mass": log10_mass,
        "axion_mass": 10.0**log10_mass,
        "vortex_half_length": length,
        "vortex_angle": angle,
        "vortex_x": x,
        "vortex_y": y,
        "vortex_core": core,
    }
    return Population(perturbers=(perturbers,), truth=truth)


def _rod(
    mass: float, length: float, angle: float, x: float, y: float, core: float, host: Host
) -> Perturbers:
    masses = np.array([mass])
    return Perturbers(
        profile="rod",
        z=np.array([host.z_lens]),
        params={
            "theta_E": host.einstein_radius(masses),
            "half_length": np.array([length]),
            "phi": np.array([angle]),
            "core": np.array([core]),
            "center_x": np.array([x]),
            "center_y": np.array([y]),
        },
        mass=masses,
    )


def _points(
    n: int, mass: float, length: float, angle: float, x: float, y: float, host: Host
) -> Perturbers:
    masses = np.full(n, mass / n)
    along = np.linspace(-length, length, n)
    return Perturbers(
        profile="point_mass",
        z=np.full(n, host.z_lens),
        params={
            "theta_E": host.einstein_radius(masses),
            "center_x": x + along * math.cos(angle),
            "center_y": y + along * math.sin(angle),
        },
        mass=masses,
    )
