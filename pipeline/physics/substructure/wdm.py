"""Warm dark matter: the subhalos of cold dark matter, thinned and made less concentrated.

Numbers after Lovell (2020), concentrations after Bose et al. (2016) (PHYSICS 4.5). The halos are
those of the cold twin of the same seed, so the warm set is a subset of the cold one.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np

from pipeline.core.priors import Uniform
from pipeline.physics.components import Floats, TruthColumn
from pipeline.physics.host import Host
from pipeline.physics.quantities import Log10MassPrior
from pipeline.physics.subhalos import SubhaloConfig, draw_halos, thinned, truncated_halos
from pipeline.physics.substructure import cdm
from pipeline.physics.substructure.base import Population

TRUTH: Mapping[str, TruthColumn] = {
    **cdm.TRUTH,
    "log10_m_hm": TruthColumn("", "log10 of the half-mode mass in M_sun"),
}


class Config(SubhaloConfig):
    """Subhalos of warm dark matter; ``n_min`` counts halos before the thinning."""

    kind: Literal["wdm"] = "wdm"
    log10_half_mode_mass: Log10MassPrior = Uniform(low=7.0, high=9.5)  # of M_sun


def draw(config: Config, host: Host, rng: np.random.Generator) -> Population:
    """Draw the cold subhalos and keep those that warm dark matter keeps.

    Parameters
    ----------
    config : Config
    host : Host
    rng : numpy.random.Generator

    Returns
    -------
    Population
    """
    sigma_sub, cold = draw_halos(config, host, rng)
    prior_rng, thin_rng = rng.spawn(2)
    log10_m_hm = config.log10_half_mode_mass.draw(prior_rng)
    m_hm = 10.0**log10_m_hm
    keep = thin_rng.random(len(cold.mass)) < subhalo_suppression(cold.mass, m_hm)
    warm = thinned(cold, keep)
    factor = concentration_factor(warm.mass, m_hm, host.z_lens)
    warm = dataclasses.replace(warm, concentration=warm.concentration * factor)
    return Population(
        perturbers=(truncated_halos(warm, host),),
        truth={"sigma_sub": sigma_sub, "log10_m_hm": log10_m_hm},
        disc_radius=config.field_radius * host.theta_E,
    )


def half_mode_mass(particle_mass: float) -> float:
    """Half-mode mass of a thermal relic, 5e8 (m/3 keV)^(-10/3) M_sun.

    Parameters
    ----------
    particle_mass : float, keV

    Returns
    -------
    float, M_sun
    """
    return float(5e8 * (particle_mass / 3.0) ** (-10.0 / 3.0))


def subhalo_suppression(mass: Floats, m_hm: float) -> Floats:
    """Fraction of subhalos kept, (1 + (4.2 M_hm/m)^2.5)^-0.2 (Lovell 2020).

    Parameters
    ----------
    mass : Floats, shape (n,), M_sun
    m_hm : float, M_sun

    Returns
    -------
    Floats, shape (n,)
    """
    return np.asarray((1.0 + (4.2 * m_hm / mass) ** 2.5) ** -0.2)


def field_suppression(mass: Floats, m_hm: float) -> Floats:
    """Fraction of field halos kept, (1 + (2.3 M_hm/m)^0.8)^-1 (Lovell 2020).

    Parameters
    ----------
    mass : Floats, shape (n,), M_sun
    m_hm : float, M_sun

    Returns
    -------
    Floats, shape (n,)
    """
    return np.asarray(1.0 / (1.0 + (2.3 * m_hm / mass) ** 0.8))


def concentration_factor(mass: Floats, m_hm: float, z: Floats | float) -> Floats:
    """Warm over cold concentration, (1+z)^(0.026z - 0.04) (1 + 60 M_hm/m)^-0.17 (Bose et al. 2016).

    Parameters
    ----------
    mass : Floats, shape (n,), M_sun
    m_hm : float, M_sun
    z : Floats or float

    Returns
    -------
    Floats, shape (n,)
    """
    growth = (1.0 + z) ** (0.026 * z - 0.04)
    return np.asarray(growth * (1.0 + 60.0 * m_hm / mass) ** -0.17)
