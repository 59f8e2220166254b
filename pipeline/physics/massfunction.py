"""The mean number of field halos: Sheth & Tormen (1999) with a smooth Eisenstein & Hu spectrum.

Linear power k^n T(k)^2 with the transfer function without wiggles of Eisenstein & Hu (1998,
equations 26 and 28-31), normalised by sigma_8, variance in spheres that hold the mass (top hat),
growth of flat Lambda-CDM, and the multiplicity of Sheth & Tormen (1999): the mass function that
pyHalo and Gilman et al. (2020) draw their field halos from. All volumes are comoving.
"""

import functools
import math

import numpy as np

from pipeline.core.config import StrictModel
from pipeline.physics.components import Floats
from pipeline.physics.cosmology import FlatLCDM

#: Collapse threshold of the linear density contrast.
DELTA_C = 1.686
#: Sheth & Tormen (1999): normalisation, threshold factor and slope at low peaks.
_ST_A, _ST_THRESHOLD, _ST_P = 0.3222, 0.707, 0.3
#: Temperature of the microwave background over 2.7 K.
_THETA = 2.7255 / 2.7
#: Wave numbers of the integrals, h/Mpc, and the masses at which the variance is kept, M_sun.
_K = np.logspace(-4.0, 4.0, 4000)
_MASSES = np.logspace(4.0, 16.0, 241)


class Spectrum(StrictModel):
    """Linear power spectrum today; Planck Collaboration (2020), rounded."""

    baryons: float = 0.049  # Omega_b
    sigma_8: float = 0.81
    tilt: float = 0.965  # n_s


def transfer(k: Floats, cosmology: FlatLCDM, spectrum: Spectrum) -> Floats:
    """Transfer function of Eisenstein & Hu (1998) without baryon wiggles.

    Parameters
    ----------
    k : Floats, shape (n,), h/Mpc
    cosmology : FlatLCDM
    spectrum : Spectrum

    Returns
    -------
    Floats, shape (n,)
    """
    matter = cosmology.Om0 * cosmology.h**2
    baryons = spectrum.baryons * cosmology.h**2
    share = baryons / matter
    horizon = 44.5 * math.log(9.83 / matter) / math.sqrt(1.0 + 10.0 * baryons**0.75)  # Mpc
    alpha = (
        1.0 - 0.328 * math.log(431.0 * matter) * share + 0.38 * math.log(22.3 * matter) * share**2
    )
    gamma = (
        cosmology.Om0
        * cosmology.h
        * (alpha + (1.0 - alpha) / (1.0 + (0.43 * k * cosmology.h * horizon) ** 4))
    )
    q = k * _THETA**2 / gamma
    log = np.log(2.0 * math.e + 1.8 * q)
    return np.asarray(log / (log + (14.2 + 731.0 / (1.0 + 62.5 * q)) * q**2))


def growth(z: Floats, cosmology: FlatLCDM) -> Floats:
    """Linear growth factor, 1 today.

    Parameters
    ----------
    z : Floats, shape (n,)
    cosmology : FlatLCDM

    Returns
    -------
    Floats, shape (n,)
    """
    # D = H int da/(a H)^3, in a^(5/2) so that the integrand is smooth at a = 0.
    t, weight = np.polynomial.legendre.leggauss(64)
    ends = (1.0 / (1.0 + np.append(np.asarray(z, np.float64), 0.0))) ** 2.5
    u = 0.5 * ends[:, None] * (t + 1.0)
    a = u**0.4
    expansion = np.sqrt(cosmology.Om0 / a**3 + 1.0 - cosmology.Om0)
    integral = np.sum(weight * 0.5 * ends[:, None] * 0.4 * a**-1.5 / (a * expansion) ** 3, axis=1)
    now = np.sqrt(cosmology.Om0 / ends**1.2 + 1.0 - cosmology.Om0)
    grown = now * integral
    return np.asarray(grown[:-1] / grown[-1])


def matter_density(cosmology: FlatLCDM) -> float:
    """Mean comoving matter density, M_sun/Mpc^3."""
    return float(cosmology.Om0 * cosmology.critical_density(0.0) * 1e9)


def sigma(mass: Floats, cosmology: FlatLCDM, spectrum: Spectrum) -> Floats:
    """Rms linear density contrast today in spheres that hold ``mass`` (M_sun)."""
    ln_sigma, _ = _variance(cosmology, spectrum)
    return np.asarray(np.exp(np.interp(np.log(mass), np.log(_MASSES), ln_sigma)))


def halo_number(mass: Floats, z: float, cosmology: FlatLCDM, spectrum: Spectrum) -> Floats:
    """Comoving number of halos per unit mass and volume of Sheth & Tormen (1999).

    Parameters
    ----------
    mass : Floats, shape (n,), M_sun
    z : float
    cosmology : FlatLCDM
    spectrum : Spectrum

    Returns
    -------
    Floats, shape (n,), 1/(M_sun Mpc^3)
    """
    _, slope = _variance(cosmology, spectrum)
    steepness = -np.interp(np.log(mass), np.log(_MASSES), slope)
    rms = sigma(mass, cosmology, spectrum) * growth(np.array([z]), cosmology)[0]
    nu2 = _ST_THRESHOLD * (DELTA_C / rms) ** 2
    multiplicity = _ST_A * np.sqrt(2.0 * nu2 / math.pi) * (1.0 + nu2**-_ST_P) * np.exp(-0.5 * nu2)
    return np.asarray(multiplicity * matter_density(cosmology) / mass**2 * steepness)


@functools.lru_cache(maxsize=16)
def _variance(cosmology: FlatLCDM, spectrum: Spectrum) -> tuple[Floats, Floats]:
    """Return ln sigma and d ln sigma/d ln M at ``_MASSES``."""
    volume = 3.0 * _MASSES / (4.0 * math.pi * matter_density(cosmology))
    radius = np.append(np.cbrt(volume) * cosmology.h, 8.0)  # Mpc/h
    power = _K**spectrum.tilt * transfer(_K, cosmology, spectrum) ** 2
    x = _K[None, :] * radius[:, None]
    window = np.where(x < 1e-2, 1.0 - x**2 / 10.0, 3.0 * (np.sin(x) - x * np.cos(x)) / x**3)
    variance = np.trapezoid(power * window**2 * _K**3, np.log(_K), axis=1)
    ln_sigma = 0.5 * np.log(variance[:-1] / variance[-1]) + math.log(spectrum.sigma_8)
    return ln_sigma, np.gradient(ln_sigma, np.log(_MASSES))
