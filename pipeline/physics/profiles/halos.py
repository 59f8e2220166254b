"""Deflections and convergences of compact masses and dark-matter halos (PHYSICS 2 and 4.3).

The mass of every profile enters as ``theta_E``, the Einstein radius (arcsec) that the same mass
would have as a point: theta_E^2 = M / (pi Sigma_cr). Formulas are free of cancellation and hold in
float32; written on the array API for numpy and jax.numpy.
"""

import math

import numpy as np

from pipeline.physics.profiles.array_api import (
    Array,
    approximate,
    atanh_over,
    log1p_above,
    namespace,
)

_TINY = 1e-30
_LN2 = math.log(2.0)
#: -log1p(-z)/z on [0, 0.07].
_LOG1P = approximate(lambda z: -np.log1p(-z) / z, 0.0, 0.07, (9, 4))
#: acos(y)/sqrt(1-y^2) in powers of y - 1 on [0, 2].
_ACOS = approximate(lambda y: atanh_over(1.0 - 1.0 / y**2) / y, 0.0, 2.0, (22, 12), origin=1.0)


def deflection_point_mass(
    x: Array, y: Array, theta_E: Array, center_x: Array = 0.0, center_y: Array = 0.0
) -> tuple[Array, Array]:
    """Point mass, alpha = theta_E^2 (x, y)/r^2.

    Parameters
    ----------
    x, y : Array, arcsec
    theta_E : Array, arcsec
    center_x, center_y : Array, arcsec

    Returns
    -------
    alpha_x, alpha_y : Array, arcsec
    """
    return deflection_plummer(x, y, theta_E, 0.0, center_x, center_y)


def deflection_plummer(
    x: Array,
    y: Array,
    theta_E: Array,
    core: Array,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
) -> tuple[Array, Array]:
    """Plummer sphere (Plummer 1911), alpha = theta_E^2 (x, y)/(r^2 + core^2).

    Parameters
    ----------
    x, y : Array, arcsec
    theta_E : Array, arcsec
        Of the total mass.
    core : Array, arcsec
    center_x, center_y : Array, arcsec

    Returns
    -------
    alpha_x, alpha_y : Array, arcsec
    """
    dx, dy = x - center_x, y - center_y
    weight = theta_E**2 / (dx * dx + dy * dy + core * core + _TINY)
    return weight * dx, weight * dy


def convergence_plummer(
    x: Array,
    y: Array,
    theta_E: Array,
    core: Array,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
) -> Array:
    """Convergence (theta_E core)^2/(r^2 + core^2)^2 of the Plummer sphere.

    Returns
    -------
    Array
    """
    r2 = (x - center_x) ** 2 + (y - center_y) ** 2
    return (theta_E * core) ** 2 / (r2 + core**2) ** 2


def nfw_function(x: Array) -> Array:
    """Return F(x) = atanh(sqrt d)/sqrt d with d = 1 - x^2 (atan beyond x = 1), section 4.3.

    Parameters
    ----------
    x : Array
        Radius over scale radius.

    Returns
    -------
    Array
    """
    return _nfw_pair(x, namespace(x).log(x))[0]


def nfw_mass(x: Array) -> Array:
    """Projected NFW mass inside x in units of M0: F(x) - ln(2/x) without cancellation.

    Parameters
    ----------
    x : Array
        Radius over scale radius.

    Returns
    -------
    Array
        Mass over M0 = 4 pi rho_s r_s^3 = M200/[ln(1+c) - c/(1+c)].
    """
    return _nfw_pair(x, namespace(x).log(x))[1]


def _nfw_pair(x: Array, log_x: Array) -> tuple[Array, Array]:
    """Return F(x) and F(x) - ln(2/x), with one logarithm between them.

    For x < 1/2, with u = sqrt(1-x^2), w = x^2/(1+u): F = [ln(2/x) + log1p(-w/2)]/u and the mass
    [ln(2/x) w + log1p(-w/2)]/u; the log1p, of an argument below 0.067, is a polynomial. Beyond,
    F = y G(y) with y = 1/x and G(y) = acos(y)/sqrt(1-y^2), analytic on [0, 2] and a polynomial.
    """
    xp = namespace(x)
    is_inner = x < 0.5
    small = xp.where(is_inner, x, 0.25)
    u = xp.sqrt(1.0 - small * small)
    w = small * small / (1.0 + u)
    log_2_over_x, log_half = _LN2 - log_x, -0.5 * w * _LOG1P(0.5 * w)
    y = 1.0 / xp.where(is_inner, 0.5, x)
    outer = y * _ACOS(y - 1.0)
    function = xp.where(is_inner, (log_2_over_x + log_half) / u, outer)
    mass = xp.where(is_inner, (log_2_over_x * w + log_half) / u, outer - log_2_over_x)
    return function, mass


def _nfw_surface(x: Array) -> Array:
    """Return (F - 1)/d, the NFW surface density in units of M0/(2 pi r_s^2)."""
    xp = namespace(x)
    d = 1.0 - x * x
    near = xp.abs(d) < 0.05
    small = xp.where(near, d, 0.0)
    series = 1.0 / 25.0
    for k in range(10, -1, -1):
        series = series * small + 1.0 / (2 * k + 3)
    return xp.where(near, series, (nfw_function(x) - 1.0) / xp.where(near, 1.0, d))


def tnfw_mass(x: Array, tau: Array) -> Array:
    """Projected mass of the truncated NFW halo inside x, equation (4.3).

    Its two further logarithms are one: with s = sqrt(tau^2 + x^2), ln(s + tau) =
    ln(2 tau) + log1p(x^2/(2 tau (s + tau))).

    Parameters
    ----------
    x : Array
        Radius over scale radius.
    tau : Array
        Truncation radius over scale radius.

    Returns
    -------
    Array
        In units of M0 (see :func:`nfw_mass`).
    """
    xp = namespace(x)
    t2 = tau * tau
    total = xp.sqrt(t2 + x * x) + tau
    log_x, growth = xp.log(x), log1p_above(x * x / (2.0 * tau * total))
    function, mass = _nfw_pair(x, log_x)
    ratio = log_x - xp.log(xp.asarray(2.0 * tau, dtype=x.dtype)) - growth
    bracket = 2.0 * function + ((t2 - 1.0) / tau * ratio - math.pi) / total
    return t2 / (t2 + 1.0) ** 2 * ((t2 - 1.0) * (mass - growth) + x * x * bracket)


def tnfw_total_mass(tau: Array) -> Array:
    """Total mass of the truncated NFW halo in units of M0, equation (4.4).

    Parameters
    ----------
    tau : Array
        Truncation radius over scale radius.

    Returns
    -------
    Array
    """
    xp = namespace(tau)
    t2 = tau * tau
    bracket = (t2 - 1.0) * xp.log(tau) + math.pi * tau - (t2 + 1.0)
    return t2 / (t2 + 1.0) ** 2 * bracket


def deflection_tnfw(
    x: Array,
    y: Array,
    theta_E: Array,
    scale_radius: Array,
    tau: Array,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
) -> tuple[Array, Array]:
    """Tidally truncated NFW halo (Baltz, Marshall & Oguri 2009), equations (4.3) and (4.4).

    rho = rho_s / [(r/r_s)(1 + r/r_s)^2] r_t^2/(r^2 + r_t^2), tau = r_t/r_s.

    Parameters
    ----------
    x, y : Array, arcsec
    theta_E : Array, arcsec
        Of the scale mass M0 = 4 pi rho_s r_s^3.
    scale_radius : Array, arcsec
    tau : Array
    center_x, center_y : Array, arcsec

    Returns
    -------
    alpha_x, alpha_y : Array, arcsec
    """
    xp = namespace(x)
    dx, dy = x - center_x, y - center_y
    r2 = dx * dx + dy * dy + _TINY
    weight = theta_E**2 * tnfw_mass(xp.sqrt(r2) / scale_radius, tau) / r2
    return weight * dx, weight * dy


def convergence_tnfw(
    x: Array,
    y: Array,
    theta_E: Array,
    scale_radius: Array,
    tau: Array,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
) -> Array:
    """Convergence of the truncated NFW halo, equation (4.2).

    Parameters are those of :func:`deflection_tnfw`.

    Returns
    -------
    Array
    """
    xp = namespace(x)
    r = xp.sqrt((x - center_x) ** 2 + (y - center_y) ** 2 + _TINY) / scale_radius
    t2 = tau * tau
    s = xp.sqrt(t2 + r * r)
    bracket = (
        (t2 + 1.0) * _nfw_surface(r)
        + 2.0 * nfw_function(r)
        - math.pi / s
        + (t2 - 1.0) / (tau * s) * xp.log(r / (s + tau))
    )
    return theta_E**2 / (2.0 * scale_radius**2) * t2 / (t2 + 1.0) ** 2 * bracket


def deflection_nfw(
    x: Array,
    y: Array,
    theta_E: Array,
    scale_radius: Array,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
) -> tuple[Array, Array]:
    """NFW halo (Navarro, Frenk & White 1997) without truncation.

    Parameters
    ----------
    x, y : Array, arcsec
    theta_E : Array, arcsec
        Of the scale mass M0 = 4 pi rho_s r_s^3.
    scale_radius : Array, arcsec
    center_x, center_y : Array, arcsec

    Returns
    -------
    alpha_x, alpha_y : Array, arcsec
    """
    xp = namespace(x)
    dx, dy = x - center_x, y - center_y
    r2 = dx * dx + dy * dy + _TINY
    weight = theta_E**2 * nfw_mass(xp.sqrt(r2) / scale_radius) / r2
    return weight * dx, weight * dy


def convergence_nfw(
    x: Array,
    y: Array,
    theta_E: Array,
    scale_radius: Array,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
) -> Array:
    """Convergence of the NFW halo; parameters are those of :func:`deflection_nfw`.

    Returns
    -------
    Array
    """
    xp = namespace(x)
    r = xp.sqrt((x - center_x) ** 2 + (y - center_y) ** 2 + _TINY) / scale_radius
    return theta_E**2 / (2.0 * scale_radius**2) * _nfw_surface(r)


def deflection_dual_isothermal(
    x: Array,
    y: Array,
    theta_E: Array,
    core: Array,
    truncation: Array,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
) -> tuple[Array, Array]:
    """Dual pseudo-isothermal sphere, rho ~ 1/[(r^2 + core^2)(r^2 + truncation^2)], section 4.5.

    Parameters
    ----------
    x, y : Array, arcsec
    theta_E : Array, arcsec
        Of the total mass.
    core, truncation : Array, arcsec
        ``core < truncation``.
    center_x, center_y : Array, arcsec

    Returns
    -------
    alpha_x, alpha_y : Array, arcsec
    """
    xp = namespace(x)
    dx, dy = x - center_x, y - center_y
    r2 = dx * dx + dy * dy
    c, t = xp.sqrt(core**2 + r2), xp.sqrt(truncation**2 + r2)
    # Written so that nothing cancels, whatever the ratio of the two radii.
    bracket = (truncation + core) / (t + c) + 1.0
    weight = theta_E**2 * bracket / ((c + core) * (t + truncation))
    return weight * dx, weight * dy


def convergence_dual_isothermal(
    x: Array,
    y: Array,
    theta_E: Array,
    core: Array,
    truncation: Array,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
) -> Array:
    """Convergence of the dual pseudo-isothermal sphere.

    Returns
    -------
    Array
    """
    xp = namespace(x)
    r2 = (x - center_x) ** 2 + (y - center_y) ** 2
    c, t = xp.sqrt(core**2 + r2), xp.sqrt(truncation**2 + r2)
    return 0.5 * theta_E**2 * (truncation + core) / ((t + c) * c * t)
