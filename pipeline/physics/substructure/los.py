"""Cold subhalos and the field halos along the line of sight, effective in the lens plane.

Field halos of a double cone that closes at the observer and at the source. Each bends light by its
own critical density and is multiplied by 1 - b, with b the coupling of its plane to the lens
(PHYSICS 4.5). That is an effective single-plane population, good to 10-20 % in amplitude: the
coupling of planes beyond it, and the clustering of halos around the lens, are left out.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline.core.priors import AnyPrior, Uniform, prior
from pipeline.physics import cosmology
from pipeline.physics.components import Floats, Perturbers, TruthColumn
from pipeline.physics.cosmology import FlatLCDM
from pipeline.physics.host import Host
from pipeline.physics.massfunction import Spectrum, halo_number
from pipeline.physics.profiles.halos import tnfw_total_mass
from pipeline.physics.quantities import Log10MassPrior
from pipeline.physics.subhalos import (
    CONCENTRATION_SCATTER,
    SubhaloConfig,
    concentration,
    draw_halos,
    nfw_scale_mass,
    nfw_scale_radius,
    truncated_halos,
)
from pipeline.physics.substructure import cdm, wdm
from pipeline.physics.substructure.base import Population, power_law

if TYPE_CHECKING:
    type AmplitudePrior = AnyPrior
else:
    AmplitudePrior = prior(ge=0, le=100)

TRUTH: Mapping[str, TruthColumn] = {
    **cdm.TRUTH,
    "n_los": TruthColumn("", "number of field halos along the line of sight"),
    "delta_los": TruthColumn("", "field halos over their mean number"),
    "f_los": TruthColumn("", "mean convergence of the field halos in the lens plane over 1/2"),
}

#: Slices of the cone, and how near its ends come to observer and source, in redshift.
_N_SLICES = 96
_Z_EDGE = 1e-3
#: Mean density of a field halo inside its truncation, critical densities (Gilman et al. 2020).
_TRUNCATION_DENSITY = 50.0


class Config(SubhaloConfig):
    """Subhalos as in ``cdm`` and field halos of the same masses; ``sigma_sub`` 0 for these alone.

    ``log10_half_mode_mass`` thins the field halos, and only these, as warm dark matter does.
    """

    kind: Literal["los"] = "los"
    delta_los: AmplitudePrior = Uniform(low=0.8, high=1.2)
    log10_half_mode_mass: Log10MassPrior | None = None  # of M_sun
    spectrum: Spectrum = Spectrum()


@dataclass(frozen=True)
class Cone:
    """The double cone of unit angular radius, at redshifts from the observer to the source.

    Attributes
    ----------
    z : Floats, shape (n,)
    number : Floats, shape (n,), 1/arcsec^2
        Mean number of halos in front of each redshift, per square of the cone's radius.
    kpc_per_arcsec : Floats, shape (n,)
    efficiency : Floats, shape (n,), arcsec^2/M_sun
        Square of the effective Einstein radius of a unit mass, (1 - b)/(pi Sigma_cr).
    """

    z: Floats
    number: Floats
    kpc_per_arcsec: Floats
    efficiency: Floats


def draw(config: Config, host: Host, rng: np.random.Generator) -> Population:
    """Draw the subhalos, then the field halos inside a cone of ``field_radius`` Einstein radii.

    Parameters
    ----------
    config : Config
    host : Host
    rng : numpy.random.Generator

    Returns
    -------
    Population
    """
    sigma_sub, subhalos = draw_halos(config, host, rng)
    delta_rng, field_rng = rng.spawn(2)
    delta = config.delta_los.draw(delta_rng)
    field = config.field_radius * host.theta_E
    halos = _field_halos(config, host, delta, field, field_rng)
    truth = {
        "sigma_sub": sigma_sub,
        "n_los": float(len(halos)),
        "delta_los": delta,
        "f_los": 2.0 * float(halos.mass.sum()) / (host.sigma_crit * math.pi * field**2),
    }
    return Population(
        perturbers=(truncated_halos(subhalos, host), halos),
        truth=truth,
        disc_radius=field,
    )


def _field_halos(
    config: Config, host: Host, delta: float, field: float, rng: np.random.Generator
) -> Perturbers:
    """Field halos as perturbers of the lens plane; their mass is the one that acts there."""
    limits = (config.m_min, config.m_max, config.slope)
    cone = double_cone(host.cosmology, config.spectrum, host.z_lens, host.z_source, limits)
    count, distance, mass, place, turn, scatter, warm = rng.spawn(7)
    n = int(count.poisson(delta * cone.number[-1] * field**2))
    z = np.interp(distance.random(n) * cone.number[-1], cone.number, cone.z)
    masses = power_law(mass.random(n), *limits)
    radius, angle = field * np.sqrt(place.random(n)), turn.uniform(0.0, 2.0 * math.pi, n)
    c = concentration(masses, z, host.cosmology)
    c = c * 10.0 ** (CONCENTRATION_SCATTER * scatter.standard_normal(n))
    if config.log10_half_mode_mass is not None:
        m_hm = 10.0 ** config.log10_half_mode_mass.draw(warm)
        keep = warm.random(n) < wdm.field_suppression(masses, m_hm)
        c = c * wdm.concentration_factor(masses, m_hm, z)
        z, masses, radius, angle, c = (a[keep] for a in (z, masses, radius, angle, c))
    scale_mass = nfw_scale_mass(masses, c)
    scale_radius = nfw_scale_radius(masses, c, z, host.cosmology)
    tau = truncation(c)
    theta2 = scale_mass * np.interp(z, cone.z, cone.efficiency)
    return Perturbers(
        profile="tnfw",
        z=z,
        params={
            "theta_E": np.sqrt(theta2),
            "scale_radius": scale_radius / np.interp(z, cone.z, cone.kpc_per_arcsec),
            "tau": tau,
            "center_x": host.center_x + radius * np.cos(angle),
            "center_y": host.center_y + radius * np.sin(angle),
        },
        mass=math.pi * host.sigma_crit * theta2 * tnfw_total_mass(tau),
    )


@functools.lru_cache(maxsize=256)
def double_cone(
    model: FlatLCDM,
    spectrum: Spectrum,
    z_lens: float,
    z_source: float,
    limits: tuple[float, float, float],
) -> Cone:
    """Mean number of field halos along the double cone, and what each does to the image.

    The cone is as wide as the rays of an image of unit radius that meet again at the source: its
    comoving radius grows with the distance up to the lens and shrinks linearly to the source.

    Parameters
    ----------
    model : FlatLCDM
    spectrum : Spectrum
    z_lens, z_source : float
    limits : (float, float, float)
        Least and largest mass (M_sun), and the slope of dN/dm between them; the number between
        them is that of the mass function.

    Returns
    -------
    Cone
    """
    near = np.linspace(_Z_EDGE, z_lens, _N_SLICES // 2)
    z = np.append(near, np.linspace(z_lens, z_source - _Z_EDGE, _N_SLICES // 2)[1:])
    comoving = np.array([model.distance(v) * (1.0 + v) for v in z.tolist()])  # Mpc
    lens = model.distance(z_lens) * (1.0 + z_lens)
    source = model.distance(z_source) * (1.0 + z_source)
    width = np.minimum(comoving, lens * (source - comoving) / (source - lens)) * cosmology.ARCSEC
    masses = np.geomspace(*limits[:2], 33)
    density = np.array(
        [
            np.trapezoid(halo_number(masses, v, model, spectrum) * masses, np.log(masses))
            for v in z.tolist()
        ]
    )
    slices = density * math.pi * width**2
    number = np.concatenate(
        [[0.0], np.cumsum(0.5 * (slices[1:] + slices[:-1]) * np.diff(comoving))]
    )
    critical = np.array(
        [cosmology.critical_surface_density(model, v, z_source) for v in z.tolist()]
    )
    return Cone(
        z=z,
        number=number,
        kpc_per_arcsec=np.array([model.kpc_per_arcsec(v) for v in z.tolist()]),
        efficiency=(1.0 - coupling(comoving, lens, source)) / (math.pi * critical),
    )


def coupling(comoving: Floats, lens: float, source: float) -> Floats:
    """Coupling b = D_12 D_s/(D_2 D_1s) of planes to the lens, plane 1 being the nearer one.

    Parameters
    ----------
    comoving : Floats, shape (n,), Mpc
        Comoving distances of the planes.
    lens, source : float, Mpc
        Of the lens and the source.

    Returns
    -------
    Floats, shape (n,)
        0 at the lens, 1 at the observer and at the source.
    """
    first, second = np.minimum(comoving, lens), np.maximum(comoving, lens)
    return np.asarray((second - first) * source / (second * (source - first)))


def truncation(concentration: Floats) -> Floats:
    """Truncation over scale radius of field halos: where the mean density is 50 critical ones.

    Parameters
    ----------
    concentration : Floats, shape (n,)
        c200, between 1 and 1000.

    Returns
    -------
    Floats, shape (n,)
    """
    x = np.geomspace(0.5, 5e3, 400)
    density = np.log((np.log1p(x) - x / (1.0 + x)) / x**3)
    c = np.asarray(concentration)
    wanted = np.interp(np.log(c), np.log(x), density) + math.log(_TRUNCATION_DENSITY / 200.0)
    return np.asarray(np.exp(np.interp(-wanted, -density, np.log(x))))
