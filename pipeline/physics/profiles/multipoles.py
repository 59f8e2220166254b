"""Multipoles that deform the isodensity contours of an isothermal lens, circular and elliptical.

a_m/theta_E is the fractional deformation of the contour. The elliptical form (Paugnat & Gilman
2025) deforms the ellipse itself and is the one to use below q = 0.9 (PHYSICS 2). Written on the
array API for numpy and jax.numpy.
"""

import math

import numpy as np

from pipeline.physics.geometry import rotate_in, rotate_out
from pipeline.physics.profiles.array_api import Array, namespace

#: Angles at which the angular density of the elliptical form is sampled, and harmonics kept.
_N_ANGLES = 256
_N_HARMONICS = 96
#: Harmonics kept where q is an array: 1e-9 a_m are left out at q = 0.5, 1e-5 at 0.3, 5e-4 at 0.2.
_N_HARMONICS_ARRAYS = 44
_TINY = 1e-30


def deflection_multipole(
    x: Array,
    y: Array,
    m: Array,
    a_m: Array,
    phi_m: Array,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
) -> tuple[Array, Array]:
    """Circular multipole, psi = r a_m/(1-m^2) cos m(phi - phi_m).

    Parameters
    ----------
    x, y : Array, arcsec
    m : Array, integer-valued, >= 2
    a_m : Array, arcsec
    phi_m : Array, rad
    center_x, center_y : Array, arcsec

    Returns
    -------
    alpha_x, alpha_y : Array, arcsec
    """
    xp = namespace(x)
    dx, dy = x - center_x, y - center_y
    phi = xp.atan2(dy, dx)
    size = a_m / (1.0 - m * m)
    radial = size * xp.cos(m * (phi - phi_m))
    tangential = -size * m * xp.sin(m * (phi - phi_m))
    c, s = xp.cos(phi), xp.sin(phi)
    return radial * c - tangential * s, radial * s + tangential * c


def convergence_multipole(
    x: Array,
    y: Array,
    m: Array,
    a_m: Array,
    phi_m: Array,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
) -> Array:
    """Convergence a_m cos m(phi - phi_m) / (2 r) of the circular multipole.

    Returns
    -------
    Array
    """
    xp = namespace(x)
    dx, dy = x - center_x, y - center_y
    return a_m / (2.0 * xp.hypot(dx, dy)) * xp.cos(m * (xp.atan2(dy, dx) - phi_m))


def deflection_elliptical_multipole(
    x: Array,
    y: Array,
    m: Array,
    a_m: Array,
    phi_m: Array,
    q: Array,
    phi: Array,
    theta_E: Array,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
    n_harmonics: int | None = None,
) -> tuple[Array, Array]:
    """Elliptical multipole by Fourier series, equations (2.3) and (2.4).

    kappa = G(phi)/(2r) and psi = r F(phi) with F + F'' = G: harmonic k of G gives F_k =
    G_k/(1-k^2), and the resonant k = 1 part a term in r ln(r/theta_E).

    Parameters
    ----------
    x, y : Array, arcsec
    m : Array, integer-valued, >= 2
    a_m : Array, arcsec
    phi_m : Array, rad
        Measured from the major axis.
    q : Array, in (0, 1]
    phi : Array, rad
        Position angle of the major axis.
    theta_E : Array, arcsec
        Radius at which the resonant term vanishes; it only shifts the source.
    center_x, center_y : Array, arcsec
    n_harmonics : int, optional
        By default enough for float64 where ``q`` is a plain number, else 44.

    Returns
    -------
    alpha_x, alpha_y : Array, arcsec
    """
    xp = namespace(x)
    if n_harmonics is None:
        n_harmonics = _N_HARMONICS if isinstance(q, int | float) else _N_HARMONICS_ARRAYS
    u, v = rotate_in(x, y, phi, center_x, center_y)
    cosine, sine = (xp.asarray(a, dtype=u.dtype) for a in _harmonics(m, a_m, phi_m, q, n_harmonics))
    radius = xp.sqrt(u * u + v * v + _TINY)
    c, s = u / radius, v / radius
    value, slope = cosine[0] + 0.0 * c, 0.0 * c
    ck, sk = c, s
    for k in range(2, n_harmonics):
        ck, sk = ck * c - sk * s, sk * c + ck * s
        size = 1.0 / (1.0 - k * k)
        value = value + size * (cosine[k] * ck + sine[k] * sk)
        slope = slope + size * k * (sine[k] * ck - cosine[k] * sk)
    resonant = cosine[1] * c + sine[1] * s
    logarithm = xp.log(radius / theta_E)
    alpha_u = value * c - slope * s + 0.5 * (cosine[1] * logarithm + resonant * c)
    alpha_v = value * s + slope * c + 0.5 * (sine[1] * logarithm + resonant * s)
    return rotate_out(alpha_u, alpha_v, phi)


def _harmonics(
    m: Array, a_m: Array, phi_m: Array, q: Array, n_harmonics: int
) -> tuple[Array, Array]:
    """Cosine and sine coefficients of G, each of shape (n_harmonics,)."""
    xp = namespace(q, a_m, phi_m, m)
    angles = 2.0 * math.pi * np.arange(_N_ANGLES) / _N_ANGLES
    density = _angular_density(xp.asarray(angles), m, a_m, phi_m, q)
    order = np.arange(n_harmonics)
    weight = np.where(order == 0, 1.0, 2.0)[:, None] / _N_ANGLES
    phases = order[:, None] * angles
    return (
        xp.asarray(weight * np.cos(phases)) @ density,
        xp.asarray(weight * np.sin(phases)) @ density,
    )


def _angular_density(angle: Array, m: Array, a_m: Array, phi_m: Array, q: Array) -> Array:
    """Return G of equation (2.3) in the major-axis frame, so that kappa = G/(2r)."""
    xp = namespace(angle)
    c, s = xp.cos(angle), xp.sin(angle)
    rho = xp.sqrt(q * q * c * c + s * s)
    return a_m * q**0.5 / rho * xp.cos(m * (xp.atan2(s, q * c) - phi_m))


def convergence_elliptical_multipole(
    x: Array,
    y: Array,
    m: Array,
    a_m: Array,
    phi_m: Array,
    q: Array,
    phi: Array,
    theta_E: Array,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
) -> Array:
    """Convergence G(phi)/(2r) of the elliptical multipole, equation (2.3).

    Parameters are those of :func:`deflection_elliptical_multipole`; ``theta_E`` has no effect.

    Returns
    -------
    Array
    """
    xp = namespace(x)
    u, v = rotate_in(x, y, phi, center_x, center_y)
    return _angular_density(xp.atan2(v, u), m, a_m, phi_m, q) / (2.0 * xp.hypot(u, v))
