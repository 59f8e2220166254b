"""Distances, critical surface density and the Einstein radii that follow from them.

Flat Lambda-CDM without radiation (PHYSICS 1); distances agree with astropy's to 1e-12, which takes
a second to import. Every lensing quantity is built from angular-diameter distances, D_ls being the
one *between* the planes.
"""

import functools
import math

import numpy as np
from pydantic import Field

from pipeline.core.config import StrictModel
from pipeline.core.errors import PhysicsError
from pipeline.physics.profiles.array_api import Array

SPEED_OF_LIGHT = 299792458.0  # m/s, exact (SI)
GRAVITATIONAL_CONSTANT = 6.6743e-11  # m^3/kg/s^2 (CODATA 2018)
SOLAR_MASS = 1.988409870698051e30  # kg (IAU 2015 GM_sun over CODATA 2018 G)
MPC = 3.0856775814913673e22  # m (IAU 2015)
ARCSEC = math.pi / 648000.0  # rad
HBAR_C = 1.973269804593025e-07  # eV m (CODATA 2018)

#: Gauss-Legendre nodes and weights on [-1, 1].
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)


class FlatLCDM(StrictModel):
    """Flat Lambda-CDM without radiation."""

    H0: float = Field(default=70.0, gt=0)  # km/s/Mpc
    Om0: float = Field(default=0.3, gt=0, lt=1)

    @property
    def h(self) -> float:
        """H0 in units of 100 km/s/Mpc."""
        return self.H0 / 100.0

    def distance(self, z: float) -> float:
        """Angular-diameter distance to ``z``, Mpc."""
        return _angular_distance(self.H0, self.Om0, 0.0, z)

    def distance_between(self, z1: float, z2: float) -> float:
        """Angular-diameter distance from ``z1`` to ``z2``, Mpc.

        Raises
        ------
        PhysicsError
            If ``z2 <= z1``.
        """
        if z2 <= z1:
            raise PhysicsError(f"source redshift {z2:g} must exceed the lens redshift {z1:g}")
        return _angular_distance(self.H0, self.Om0, z1, z2)

    def luminosity_distance(self, z: float) -> float:
        """Luminosity distance to ``z``, Mpc."""
        return self.distance(z) * (1.0 + z) ** 2

    def kpc_per_arcsec(self, z: float) -> float:
        """Transverse size of one arcsec at ``z``, kpc."""
        return self.distance(z) * 1e3 * ARCSEC

    def critical_density(self, z: Array) -> Array:
        """Critical density of the Universe at ``z``, M_sun/kpc^3."""
        expansion = self.Om0 * (1.0 + z) ** 3 + 1.0 - self.Om0
        hubble2 = (self.H0 * 1e3 / MPC) ** 2 * expansion
        rho = 3.0 * hubble2 / (8.0 * math.pi * GRAVITATIONAL_CONSTANT)
        return rho / SOLAR_MASS * (MPC / 1e3) ** 3


@functools.lru_cache(maxsize=4096)
def _angular_distance(H0: float, Om0: float, z1: float, z2: float) -> float:
    """D = c/H0 integral of dz/E(z) over 1 + z2, with E^2 = Om0 (1+z)^3 + 1 - Om0.

    Gauss-Legendre in ln(1+z), where the integrand is smooth at any redshift.
    """
    start, end = math.log1p(z1), math.log1p(z2)
    growth = np.exp(0.5 * (end - start) * _NODES + 0.5 * (end + start))
    per_hubble = growth / np.sqrt(Om0 * growth**3 + 1.0 - Om0)
    integral = 0.5 * (end - start) * float(_WEIGHTS @ per_hubble)
    return SPEED_OF_LIGHT / 1e3 / H0 * integral / (1.0 + z2)


def critical_surface_density(cosmology: FlatLCDM, z_lens: float, z_source: float) -> float:
    """Critical surface density c^2 D_s / (4 pi G D_l D_ls), equation (1.2).

    Parameters
    ----------
    cosmology : FlatLCDM
    z_lens, z_source : float

    Returns
    -------
    float, M_sun/arcsec^2

    Raises
    ------
    PhysicsError
        If ``z_source <= z_lens``.
    """
    ratio = cosmology.distance(z_source) / (
        cosmology.distance(z_lens) * cosmology.distance_between(z_lens, z_source)
    )
    per_m2 = SPEED_OF_LIGHT**2 / (4.0 * math.pi * GRAVITATIONAL_CONSTANT) * ratio / MPC / SOLAR_MASS
    metre_per_arcsec = cosmology.distance(z_lens) * MPC * ARCSEC
    return per_m2 * metre_per_arcsec**2


def einstein_radius_point(mass: Array, sigma_crit: float) -> Array:
    """Einstein radius of a point mass, theta_E^2 = M / (pi Sigma_cr), equation (1.3).

    Parameters
    ----------
    mass : Array, M_sun
    sigma_crit : float, M_sun/arcsec^2

    Returns
    -------
    Array, arcsec
    """
    return (mass / (math.pi * sigma_crit)) ** 0.5


def einstein_radius_isothermal(
    cosmology: FlatLCDM, sigma_v: float, z_lens: float, z_source: float
) -> float:
    """Einstein radius of an isothermal sphere, 4 pi (sigma_v/c)^2 D_ls/D_s, equation (1.4).

    Parameters
    ----------
    cosmology : FlatLCDM
    sigma_v : float, km/s
    z_lens, z_source : float

    Returns
    -------
    float, arcsec
    """
    ratio = cosmology.distance_between(z_lens, z_source) / cosmology.distance(z_source)
    return 4.0 * math.pi * (sigma_v * 1e3 / SPEED_OF_LIGHT) ** 2 * ratio / ARCSEC


def legacy_critical_surface_density(cosmology: FlatLCDM, z_lens: float, z_source: float) -> float:
    """Surface density that reproduces the Einstein radii of DeepLenseSim (wrong on purpose).

    It takes luminosity distances, D_ls = D_s - D_l and 206265 arcsec per radian (PHYSICS 1).

    Parameters
    ----------
    cosmology : FlatLCDM
    z_lens, z_source : float

    Returns
    -------
    float, M_sun/arcsec^2
    """
    near, far = (cosmology.luminosity_distance(z) for z in (z_lens, z_source))
    per_mass = 4.0 * GRAVITATIONAL_CONSTANT * SOLAR_MASS / SPEED_OF_LIGHT**2 / MPC
    theta2 = per_mass * (far - near) / (near * far) * 206265.0**2
    return 1.0 / (math.pi * theta2)


def source_plane_scaling(
    cosmology: FlatLCDM, z_lens: float, z_source: float, z_convention: float
) -> float:
    """Factor on deflections quoted for a source at ``z_convention``, equation (1.5).

    Parameters
    ----------
    cosmology : FlatLCDM
    z_lens, z_source, z_convention : float

    Returns
    -------
    float
    """

    def efficiency(z: float) -> float:
        return cosmology.distance_between(z_lens, z) / cosmology.distance(z)

    return efficiency(z_source) / efficiency(z_convention)


def reduced_de_broglie_length(axion_mass: float, velocity: float) -> float:
    """Reduced de Broglie wavelength hbar / (m v) of a boson (PHYSICS 4.4).

    Parameters
    ----------
    axion_mass : float, eV
    velocity : float, km/s

    Returns
    -------
    float, kpc
    """
    return HBAR_C * (SPEED_OF_LIGHT / 1e3) / (axion_mass * velocity) / (MPC / 1e3)
