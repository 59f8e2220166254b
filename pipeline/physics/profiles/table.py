"""Every mass profile by name: its parameters with units and bounds, deflection and convergence.

Engines, the mean-mass compensation and the tests share this table. A profile of many perturbers
takes columns: each parameter an array of shape (n,).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.physics.profiles import halos, macro, multipoles, rod

type Deflection = Callable[..., tuple[NDArray[np.float64], NDArray[np.float64]]]


@dataclass(frozen=True)
class Parameter:
    """Name, unit ("" for none) and open interval of one profile parameter."""

    name: str
    unit: str
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Profile:
    """A mass profile: ``deflection(x, y, **parameters)`` in arcsec, ``convergence`` likewise."""

    name: str
    parameters: tuple[Parameter, ...]
    deflection: Deflection
    convergence: Callable[..., NDArray[np.float64]] | None = None

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of all parameters, in the order of the formula's arguments."""
        return tuple(p.name for p in self.parameters)


_THETA = Parameter("theta_E", "arcsec", low=0.0)
_Q = Parameter("q", "", low=0.0, high=1.0)
_PHI = Parameter("phi", "rad")
_CENTER = (Parameter("center_x", "arcsec"), Parameter("center_y", "arcsec"))
_SCALE = Parameter("scale_radius", "arcsec", low=0.0)
_MULTIPOLE = (
    Parameter("m", "", low=1.0),
    Parameter("a_m", "arcsec"),
    Parameter("phi_m", "rad"),
)


def _length(name: str) -> Parameter:
    return Parameter(name, "arcsec", low=0.0)


_ALL = (
    Profile("sie", (_THETA, _Q, _PHI, *_CENTER), macro.deflection_sie, macro.convergence_sie),
    Profile(
        "epl",
        (_THETA, Parameter("slope", "", low=1.0, high=3.0), _Q, _PHI, *_CENTER),
        macro.deflection_epl,
        macro.convergence_epl,
    ),
    Profile(
        "shear",
        (Parameter("gamma1", ""), Parameter("gamma2", ""), *_CENTER),
        macro.deflection_shear,
    ),
    Profile("mass_sheet", (Parameter("kappa", ""), *_CENTER), macro.deflection_mass_sheet),
    Profile(
        "uniform_disc",
        (Parameter("kappa", ""), _length("radius"), *_CENTER),
        macro.deflection_uniform_disc,
        macro.convergence_uniform_disc,
    ),
    Profile("point_mass", (_THETA, *_CENTER), halos.deflection_point_mass),
    Profile(
        "plummer",
        (_THETA, _length("core"), *_CENTER),
        halos.deflection_plummer,
        halos.convergence_plummer,
    ),
    Profile(
        "tnfw",
        (_THETA, _SCALE, Parameter("tau", "", low=0.0), *_CENTER),
        halos.deflection_tnfw,
        halos.convergence_tnfw,
    ),
    Profile("nfw", (_THETA, _SCALE, *_CENTER), halos.deflection_nfw, halos.convergence_nfw),
    Profile(
        "dual_isothermal",
        (_THETA, _length("core"), _length("truncation"), *_CENTER),
        halos.deflection_dual_isothermal,
        halos.convergence_dual_isothermal,
    ),
    Profile(
        "rod",
        (_THETA, _length("half_length"), _PHI, _length("core"), *_CENTER),
        rod.deflection_rod,
        rod.convergence_rod,
    ),
    Profile(
        "multipole",
        (*_MULTIPOLE, *_CENTER),
        multipoles.deflection_multipole,
        multipoles.convergence_multipole,
    ),
    Profile(
        "elliptical_multipole",
        (*_MULTIPOLE, _Q, _PHI, _THETA, *_CENTER),
        multipoles.deflection_elliptical_multipole,
        multipoles.convergence_elliptical_multipole,
    ),
)

#: Profile name -> profile.
PROFILES: Mapping[str, Profile] = {profile.name: profile for profile in _ALL}
