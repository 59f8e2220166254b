"""The population of subhalos that every family of halos starts from, drawn as cold dark matter.

Normalisation of Gilman et al. (2020), concentrations of Dutton & Maccio (2014), truncation with
the distance from the host's centre (PHYSICS 4.3). Families thin these halos or change their inner
structure, so one seed gives all of them the same halos in the same places.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.core.config import StrictModel
from pipeline.core.errors import PhysicsError
from pipeline.core.priors import LogUniform
from pipeline.core.seeding import spawned
from pipeline.physics.components import Floats, Perturbers
from pipeline.physics.cosmology import FlatLCDM
from pipeline.physics.host import Host
from pipeline.physics.profiles.halos import tnfw_total_mass
from pipeline.physics.quantities import Length, Mass, SurfaceNumberPrior
from pipeline.physics.substructure.base import power_law, power_law_moment

#: Pivot mass of the subhalo mass function, M_sun (Gilman et al. 2020).
PIVOT_MASS = 1e8
#: Scatter of the concentration at fixed mass, dex (Dutton & Maccio 2014).
CONCENTRATION_SCATTER = 0.11
_MAX_ATTEMPTS = 10_000


class SubhaloConfig(StrictModel):
    """Mass function and places of subhalos."""

    sigma_sub: SurfaceNumberPrior = LogUniform(low=0.01, high=0.1)  # PHYSICS 4.3
    m_min: Mass = 1e7  # infall mass
    m_max: Mass = 1e10
    slope: float = -1.9  # dN/dm ~ m^slope; Gilman et al. 2020
    field_radius: float = Field(default=2.5, gt=0)  # of the populated disc, in theta_E
    core_radius: Length = 60.0  # r_c of the density of subhalos 1/(r_c^2 + r^2) in the host
    max_radius: Length = 500.0  # extent of the host along the line of sight
    n_min: int = Field(default=0, ge=0)  # redraw until this many lie within ...
    n_min_radius: float = Field(default=1.5, gt=0)  # ... this radius, in theta_E

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.m_min < self.m_max:
            raise ValueError(f"m_min {self.m_min:g} must be below m_max {self.m_max:g} M_sun")
        if self.n_min > 0 and self.sigma_sub.support()[0] <= 0:
            raise ValueError("n_min needs a sigma_sub that is never 0")
        return self


@dataclass(frozen=True)
class Halos:
    """Infall properties and places of drawn halos, each of shape (n,)."""

    mass: Floats  # M_sun, M200 at infall
    radius: Floats  # arcsec, projected, from the lens centre
    angle: Floats  # rad
    radius_3d: Floats  # kpc, from the host's centre
    concentration: Floats


def draw_halos(config: SubhaloConfig, host: Host, rng: np.random.Generator) -> tuple[float, Halos]:
    """Draw sigma_sub (kpc^-2) and the halos; redraw the halos until ``n_min`` is met.

    Raises
    ------
    PhysicsError
        If ``n_min`` is not met in 10 000 attempts.
    """
    sigma_sub = config.sigma_sub.draw(rng)
    density = number_density(
        config.m_min, config.m_max, sigma_sub, config.slope, host.m200, host.z_lens
    )
    field = config.field_radius * host.theta_E
    area = math.pi * (field * host.kpc_per_arcsec) ** 2
    for _ in range(_MAX_ATTEMPTS):
        child = spawned(rng, 6)
        n = int(child(0).poisson(density * area))
        radius = field * np.sqrt(child(2).random(n))
        if np.count_nonzero(radius < config.n_min_radius * host.theta_E) < config.n_min:
            continue
        mass, turn, depth, scatter = child(1), child(3), child(4), child(5)
        masses = power_law(mass.random(n), config.m_min, config.m_max, config.slope)
        projected = radius * host.kpc_per_arcsec
        a = np.hypot(config.core_radius, projected)
        along = a * np.tan(depth.uniform(-1.0, 1.0, n) * np.arctan(config.max_radius / a))
        median = concentration(masses, host.z_lens, host.cosmology)
        return sigma_sub, Halos(
            mass=masses,
            radius=radius,
            angle=turn.uniform(0.0, 2.0 * math.pi, n),
            radius_3d=np.hypot(projected, along),
            concentration=median * 10.0 ** (CONCENTRATION_SCATTER * scatter.standard_normal(n)),
        )
    raise PhysicsError(
        f"{density * area:.3g} subhalos are expected in the field, and {_MAX_ATTEMPTS} draws "
        f"gave none with {config.n_min} within {config.n_min_radius:g} theta_E; raise sigma_sub or "
        "lower m_min"
    )


def thinned(halos: Halos, keep: NDArray[np.bool_]) -> Halos:
    """Return the halos where ``keep``, shape (n,), is true."""
    return Halos(
        mass=halos.mass[keep],
        radius=halos.radius[keep],
        angle=halos.angle[keep],
        radius_3d=halos.radius_3d[keep],
        concentration=halos.concentration[keep],
    )


def truncated_halos(halos: Halos, host: Host) -> Perturbers:
    """Truncated NFW perturbers of drawn halos; their mass is the bound one, equation (4.4)."""
    scale_mass = nfw_scale_mass(halos.mass, halos.concentration)
    scale_radius = nfw_scale_radius(halos.mass, halos.concentration, host.z_lens, host.cosmology)
    tau = truncation_radius(halos.mass, halos.radius_3d) / scale_radius
    return Perturbers(
        profile="tnfw",
        z=np.full(len(halos.mass), host.z_lens),
        params={
            "theta_E": host.einstein_radius(scale_mass),
            "scale_radius": scale_radius / host.kpc_per_arcsec,
            "tau": tau,
            "center_x": host.center_x + halos.radius * np.cos(halos.angle),
            "center_y": host.center_y + halos.radius * np.sin(halos.angle),
        },
        mass=scale_mass * tnfw_total_mass(tau),
    )


def number_density(
    m_min: float, m_max: float, sigma_sub: float, slope: float, host_mass: float, z_lens: float
) -> float:
    """Subhalos per kpc^2 between two infall masses, integral of equation (4.5).

    Parameters
    ----------
    m_min, m_max : float, M_sun
    sigma_sub : float, kpc^-2
    slope : float
    host_mass : float, M_sun
    z_lens : float

    Returns
    -------
    float, kpc^-2
    """
    moment = power_law_moment(m_min / PIVOT_MASS, m_max / PIVOT_MASS, slope, 0)
    return host_scaling(host_mass, z_lens) * sigma_sub * moment


def host_scaling(host_mass: float, z_lens: float) -> float:
    """Factor F_host of equation (4.5): 10^(0.88 log10(M/1e13) + 1.7 log10(z + 0.5))."""
    return float((host_mass / 1e13) ** 0.88 * (z_lens + 0.5) ** 1.7)


def concentration(mass: Floats, z: Floats | float, cosmology: FlatLCDM) -> Floats:
    """Median c200 of Dutton & Maccio (2014).

    Parameters
    ----------
    mass : Floats, shape (n,), M_sun
    z : Floats or float
    cosmology : FlatLCDM

    Returns
    -------
    Floats, shape (n,)
    """
    b = -0.101 + 0.026 * z
    a = 0.520 + (0.905 - 0.520) * np.exp(-0.617 * z**1.21)
    return np.asarray(10.0 ** (a + b * np.log10(mass * cosmology.h / 1e12)))


def nfw_scale_mass(mass: Floats, concentration: Floats) -> Floats:
    """Return M0 = 4 pi rho_s r_s^3 = M200/[ln(1+c) - c/(1+c)], M_sun."""
    return mass / (np.log1p(concentration) - concentration / (1.0 + concentration))


def nfw_scale_radius(
    mass: Floats, concentration: Floats, z: Floats | float, cosmology: FlatLCDM
) -> Floats:
    """Return r_s = r200/c, kpc; r200 holds 200 times the critical density at ``z``."""
    density = 200.0 * cosmology.critical_density(z)
    return np.asarray(np.cbrt(3.0 * mass / (4.0 * math.pi * density)) / concentration)


def truncation_radius(mass: Floats, radius_3d: Floats) -> Floats:
    """Tidal radius 1.4 kpc (m/1e7 M_sun)^(1/3) (r/50 kpc)^(2/3), kpc (Gilman et al. 2020)."""
    return np.asarray(1.4 * np.cbrt(mass / 1e7) * np.cbrt(radius_3d / 50.0) ** 2)
