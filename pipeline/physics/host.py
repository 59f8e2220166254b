"""The lens galaxy as its substructure sees it: redshifts, total Einstein radius, mass scales."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.physics.cosmology import ARCSEC, SPEED_OF_LIGHT, FlatLCDM


@dataclass(frozen=True)
class Host:
    """The lens galaxy; ``theta_E`` is the total Einstein radius, whatever substructure adds.

    Attributes
    ----------
    z_lens, z_source : float
    theta_E : float, arcsec
        Total (macro plus substructure) Einstein radius.
    m200 : float, M_sun
        Mass of the dark halo.
    sigma_v : float, km/s
        Velocity dispersion of the isothermal sphere with this ``theta_E``.
    cosmology : FlatLCDM
    sigma_crit : float, M_sun/arcsec^2
        Surface density that turns masses into deflections. The critical one, unless a defect of
        the legacy presets is asked for.
    kpc_per_arcsec : float
        At ``z_lens``.
    center_x, center_y : float, arcsec
    slope : float
        Three-dimensional logarithmic slope of the macro lens.
    """

    z_lens: float
    z_source: float
    theta_E: float
    m200: float
    sigma_v: float
    cosmology: FlatLCDM
    sigma_crit: float
    kpc_per_arcsec: float
    center_x: float
    center_y: float
    slope: float

    def einstein_radius(self, mass: NDArray[np.float64]) -> NDArray[np.float64]:
        """Einstein radius of point masses, theta_E^2 = M/(pi Sigma_cr).

        Parameters
        ----------
        mass : array, M_sun

        Returns
        -------
        array, arcsec
        """
        return np.sqrt(mass / (math.pi * self.sigma_crit))


def velocity_dispersion(
    cosmology: FlatLCDM, theta_E: float, z_lens: float, z_source: float
) -> float:
    """Dispersion of the isothermal sphere of Einstein radius ``theta_E`` (arcsec), km/s."""
    ratio = cosmology.distance(z_source) / cosmology.distance_between(z_lens, z_source)
    return SPEED_OF_LIGHT / 1e3 * math.sqrt(theta_E * ARCSEC * ratio / (4.0 * math.pi))
