"""Keeping the mean mass blind to the class: the drawn Einstein radius is the total one.

Substructure enlarges the ring, and a classifier would read the ring's size. A population spread
over the field gives up its mean mass as a uniform disc; then the macro lens is lowered until the
total deflection on the circle of the drawn radius is what was drawn (PHYSICS 4.6).
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from pipeline.core.errors import PhysicsError
from pipeline.physics import fields
from pipeline.physics.components import FieldComponent, Perturbers
from pipeline.physics.host import Host
from pipeline.physics.profiles.table import PROFILES

#: Azimuths over which the radial deflection is averaged.
N_AZIMUTH = 256


def scaled(perturbers: Perturbers, factor: float) -> Perturbers:
    """Perturbers with every mass multiplied by ``factor`` (``signal_scale``)."""
    params = {**perturbers.params, "theta_E": perturbers.params["theta_E"] * math.sqrt(factor)}
    return dataclasses.replace(perturbers, params=params, mass=perturbers.mass * factor)


def scaled_field(field: FieldComponent, factor: float) -> FieldComponent:
    """Field with its deflection multiplied by ``factor`` (``signal_scale``)."""
    return dataclasses.replace(field, deflection=field.deflection * np.float32(factor))


def negative_disc(perturbers: Sequence[Perturbers], radius: float, host: Host) -> Perturbers:
    """Uniform disc that takes the realised mass of ``perturbers`` away again.

    Parameters
    ----------
    perturbers : sequence of Perturbers
    radius : float, arcsec
        Of the disc, around the lens centre.
    host : Host

    Returns
    -------
    Perturbers
        One ``uniform_disc`` of negative convergence.
    """
    mass = sum(float(p.mass.sum()) for p in perturbers)
    return Perturbers(
        profile="uniform_disc",
        z=np.array([host.z_lens]),
        params={
            "kappa": np.array([-mass / (host.sigma_crit * math.pi * radius**2)]),
            "radius": np.array([radius]),
            "center_x": np.array([host.center_x]),
            "center_y": np.array([host.center_y]),
        },
        mass=np.array([-mass]),
    )


def mean_deflection(perturbers: Sequence[Perturbers], host: Host, radius: float) -> float:
    """Azimuthal mean of the radial deflection on a circle about the lens centre.

    By Gauss, the mean convergence inside the circle times its radius. Exact for point masses,
    thin rods and concentric discs; else the mean over 256 azimuths.

    Parameters
    ----------
    perturbers : sequence of Perturbers
    host : Host
    radius : float, arcsec

    Returns
    -------
    float, arcsec
    """
    return sum(_mean_deflection(p, host, radius) for p in perturbers if len(p))


def mean_field_deflection(components: Sequence[FieldComponent], host: Host, radius: float) -> float:
    """Mean radial deflection of fields over 256 azimuths of a circle about the lens centre.

    Parameters
    ----------
    components : sequence of FieldComponent
    host : Host
    radius : float, arcsec

    Returns
    -------
    float, arcsec
    """
    angle = 2.0 * math.pi * np.arange(N_AZIMUTH) / N_AZIMUTH
    c, s = np.cos(angle), np.sin(angle)
    total = 0.0
    for component in components:
        alpha_x, alpha_y = fields.deflection(
            component, host.center_x + radius * c, host.center_y + radius * s
        )
        total += float(np.mean(alpha_x * c + alpha_y * s))
    return total


def _mean_deflection(perturbers: Perturbers, host: Host, radius: float) -> float:
    p = perturbers.params
    x, y = p["center_x"] - host.center_x, p["center_y"] - host.center_y
    if perturbers.profile == "uniform_disc":
        edge = np.minimum(1.0, p["radius"] / radius)
        return float(np.sum(p["kappa"] * radius * edge**2))
    if perturbers.profile == "point_mass":
        return float(np.sum(p["theta_E"][np.hypot(x, y) < radius] ** 2)) / radius
    if perturbers.profile == "rod" and not np.any(p["core"]):
        inside = _fraction_inside(x, y, p["half_length"], p["phi"], radius)
        return float(np.sum(p["theta_E"] ** 2 * inside)) / radius
    angle = 2.0 * math.pi * np.arange(N_AZIMUTH)[:, None] / N_AZIMUTH
    c, s = np.cos(angle), np.sin(angle)
    alpha_x, alpha_y = PROFILES[perturbers.profile].deflection(
        host.center_x + radius * c, host.center_y + radius * s, **p
    )
    return float(np.sum(alpha_x * c + alpha_y * s)) / N_AZIMUTH


def _fraction_inside(
    x: np.ndarray, y: np.ndarray, half_length: np.ndarray, phi: np.ndarray, radius: float
) -> np.ndarray:
    """Fraction of each thin rod inside the circle about the origin."""
    along = x * np.cos(phi) + y * np.sin(phi)
    across = -x * np.sin(phi) + y * np.cos(phi)
    reach = np.sqrt(np.maximum(radius**2 - across**2, 0.0))
    low = np.maximum(along - half_length, -reach)
    high = np.minimum(along + half_length, reach)
    return np.asarray(np.maximum(high - low, 0.0) / (2.0 * half_length))


def macro_einstein_radius(theta_E: float, slope: float, substructure: float) -> float:
    """Einstein radius of the macro lens that leaves the total one at ``theta_E``, equation (4.11).

    [(theta_E - a) theta_E^(slope-2)]^(1/(slope-1)), with a the mean deflection of substructure.

    Parameters
    ----------
    theta_E : float, arcsec
    slope : float
    substructure : float, arcsec
        Of :func:`mean_deflection` at ``theta_E``.

    Returns
    -------
    float, arcsec

    Raises
    ------
    PhysicsError
        If the substructure alone exceeds the total.
    """
    if substructure >= theta_E:
        raise PhysicsError(
            f"substructure deflects by {substructure:.3g} arcsec at theta_E = {theta_E:.3g} "
            "arcsec: heavier than the whole lens; lower its masses or signal_scale"
        )
    if substructure == 0.0:
        return theta_E  # to the last bit, so that a smooth lens is its own twin
    return float(((theta_E - substructure) * theta_E ** (slope - 2.0)) ** (1.0 / (slope - 1.0)))
