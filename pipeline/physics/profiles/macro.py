"""Deflections and convergences of the main lens: SIE, power law, shear, sheet and disc.

Reduced deflections in arcsec for positions in arcsec (PHYSICS 2). Elliptical profiles use the
intermediate axis, so ``theta_E`` is the circularised Einstein radius; ``phi`` points from +x to the
major axis of the convergence. Written on the array API for numpy and jax.numpy, stable in float32.
"""

import numpy as np

from pipeline.physics.geometry import rotate_in, rotate_out
from pipeline.physics.profiles.array_api import Array, atanh_over, namespace, settle

_TINY = 1e-30


def deflection_sie(
    x: Array,
    y: Array,
    theta_E: Array,
    q: Array,
    phi: Array,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
) -> tuple[Array, Array]:
    """Singular isothermal ellipsoid, equation (2.1) (Kormann, Schneider & Bartelmann 1994).

    alpha_u = theta_E sqrt(q) u/R S(-t_u^2), alpha_v = theta_E sqrt(q) v/R S(t_v^2), with
    S(d) = atanh(sqrt d)/sqrt d, R^2 = q^2 u^2 + v^2 and t = sqrt(1-q^2) (u, v)/R: no special case
    at q = 1.

    Parameters
    ----------
    x, y : Array, arcsec
    theta_E : Array, arcsec
    q : Array, in (0, 1]
    phi : Array, rad
    center_x, center_y : Array, arcsec

    Returns
    -------
    alpha_x, alpha_y : Array, arcsec
    """
    xp = namespace(x)
    u, v = rotate_in(x, y, phi, center_x, center_y)
    inverse = 1.0 / xp.sqrt(q * q * u * u + v * v + _TINY)
    cu, cv = u * inverse, v * inverse
    f2 = 1.0 - q * q
    size = theta_E * q**0.5
    alpha_u = size * cu * atanh_over(-f2 * cu * cu)
    alpha_v = size * cv * atanh_over(f2 * cv * cv)
    alpha_u, alpha_v = settle(alpha_u, alpha_v)
    return rotate_out(alpha_u, alpha_v, phi)


def convergence_sie(
    x: Array,
    y: Array,
    theta_E: Array,
    q: Array,
    phi: Array,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
) -> Array:
    """Convergence theta_E / (2 sqrt(q u^2 + v^2/q)) of the isothermal ellipsoid.

    Parameters are those of :func:`deflection_sie`.

    Returns
    -------
    Array
    """
    return convergence_epl(x, y, theta_E, 2.0, q, phi, center_x, center_y)


def deflection_epl(
    x: Array,
    y: Array,
    theta_E: Array,
    slope: Array,
    q: Array,
    phi: Array,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
    n_terms: int | None = None,
) -> tuple[Array, Array]:
    """Elliptical power law by the angular series (2.2) of Tessore & Metcalf (2015).

    Parameters
    ----------
    x, y : Array, arcsec
    theta_E : Array, arcsec
    slope : Array, in (1, 3)
        Logarithmic slope of the three-dimensional density; 2 is isothermal.
    q : Array, in (0, 1]
    phi : Array, rad
    center_x, center_y : Array, arcsec
    n_terms : int, optional
        Terms of the series; N terms leave ((1-q)/(1+q))^N. By default enough for float64 where
        ``q`` is a plain number, else 36 (float64 for q >= 0.5).

    Returns
    -------
    alpha_x, alpha_y : Array, arcsec
    """
    xp = namespace(x)
    u, v = rotate_in(x, y, phi, center_x, center_y)
    t = slope - 1.0
    if n_terms is None:
        n_terms = _epl_terms(float(q)) if isinstance(q, int | float) else 36
    inverse = 1.0 / xp.sqrt(q * q * u * u + v * v + _TINY)
    c, s = q * u * inverse, v * inverse
    even, odd = _epl_series(c * c - s * s, slope, (1.0 - q) / (1.0 + q), n_terms)
    # e^{i phi} sum_n a_n e^{2 i n phi}, with the sum even + odd e^{2 i phi}
    cosine, sine = c * c - s * s, 2.0 * c * s
    real, imaginary = even + odd * cosine, odd * sine
    b = theta_E * q**0.5
    size = 2.0 * b / (1.0 + q) * xp.exp((t - 1.0) * xp.log(b * inverse))
    return rotate_out(size * (c * real - s * imaginary), size * (s * real + c * imaginary), phi)


def _epl_series(
    cosine: Array, slope: Array, flattening: Array, n_terms: int
) -> tuple[Array, Array]:
    """Return A and B of sum_n a_n e^{i n p} = A + B e^{i p}, by Clenshaw's rule in cos p.

    a_n = -F (2n - (3 - slope))/(2n + (3 - slope)) a_{n-1}, a_0 = 1. As e^{i n p} obeys
    z_{n+1} = 2 cos p z_n - z_{n-1}, two real operations a term replace complex ones.
    """
    deficit = 3.0 - slope
    coefficients = [1.0 + 0.0 * flattening]
    for n in range(1, n_terms):
        factor = -flattening * (2 * n - deficit) / (2 * n + deficit)
        coefficients.append(coefficients[-1] * factor)
    twice = 2.0 * cosine
    ahead, after = 0.0 * cosine, 0.0 * cosine
    for coefficient in reversed(coefficients[1:]):
        ahead, after = coefficient + twice * ahead - after, ahead
    return coefficients[0] - after, ahead


def _epl_terms(q: float) -> int:
    flattening = (1.0 - q) / (1.0 + q)
    return 2 if flattening < 1e-15 else min(400, int(np.ceil(-38.0 / np.log(flattening))) + 2)


def convergence_epl(
    x: Array,
    y: Array,
    theta_E: Array,
    slope: Array,
    q: Array,
    phi: Array,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
) -> Array:
    """Convergence (3-slope)/2 (theta_E / sqrt(q u^2 + v^2/q))^(slope-1) of the power law.

    Parameters are those of :func:`deflection_epl`.

    Returns
    -------
    Array
    """
    xp = namespace(x)
    u, v = rotate_in(x, y, phi, center_x, center_y)
    radius = xp.sqrt(q * u * u + v * v / q + _TINY)
    return (3.0 - slope) / 2.0 * (theta_E / radius) ** (slope - 1.0)


def deflection_shear(
    x: Array,
    y: Array,
    gamma1: Array,
    gamma2: Array,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
) -> tuple[Array, Array]:
    """External shear about a centre, alpha = (g1 x + g2 y, g2 x - g1 y).

    Parameters
    ----------
    x, y : Array, arcsec
    gamma1, gamma2 : Array
    center_x, center_y : Array, arcsec

    Returns
    -------
    alpha_x, alpha_y : Array, arcsec
    """
    dx, dy = x - center_x, y - center_y
    return gamma1 * dx + gamma2 * dy, gamma2 * dx - gamma1 * dy


def deflection_mass_sheet(
    x: Array, y: Array, kappa: Array, center_x: Array = 0.0, center_y: Array = 0.0
) -> tuple[Array, Array]:
    """Infinite sheet of constant convergence, alpha = kappa (x, y).

    Parameters
    ----------
    x, y : Array, arcsec
    kappa : Array
    center_x, center_y : Array, arcsec

    Returns
    -------
    alpha_x, alpha_y : Array, arcsec
    """
    return kappa * (x - center_x), kappa * (y - center_y)


def deflection_uniform_disc(
    x: Array, y: Array, kappa: Array, radius: Array, center_x: Array = 0.0, center_y: Array = 0.0
) -> tuple[Array, Array]:
    """Disc of constant convergence, alpha = kappa (x, y) min(1, radius^2/r^2).

    Parameters
    ----------
    x, y : Array, arcsec
    kappa : Array
        Negative to take mass away.
    radius : Array, arcsec
    center_x, center_y : Array, arcsec

    Returns
    -------
    alpha_x, alpha_y : Array, arcsec
    """
    xp = namespace(x)
    dx, dy = x - center_x, y - center_y
    weight = kappa * xp.minimum(1.0, radius**2 / (dx * dx + dy * dy + _TINY))
    return weight * dx, weight * dy


def convergence_uniform_disc(
    x: Array, y: Array, kappa: Array, radius: Array, center_x: Array = 0.0, center_y: Array = 0.0
) -> Array:
    """Convergence of :func:`deflection_uniform_disc`.

    Returns
    -------
    Array
    """
    xp = namespace(x)
    return xp.where((x - center_x) ** 2 + (y - center_y) ** 2 < radius**2, kappa, 0.0)
