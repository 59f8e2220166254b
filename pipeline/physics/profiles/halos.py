"""Deflections and convergences of compact masses and dark-matter halos (PHYSICS 2 and 4.3).

The mass of every profile enters as ``theta_E``, the Einstein radius (arcsec) that the same mass
would have as a point: theta_E^2 = M / (pi Sigma_cr). Formulas are free of cancellation and hold in
float32; written on the array API for numpy and jax.numpy.
"""

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.physics.profiles.array_api import (
    Array,
    approximate,
    atanh_over,
    log_above,
    namespace,
    settle,
)

_TINY = 1e-30
_LN2 = math.log(2.0)


def _inner_parts(p: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return W/p and R/p of ``_nfw_part`` by the library's functions, for p > 0."""
    u = np.sqrt(1.0 - p)
    w = p / (1.0 + u)
    return w / u / p, np.log1p(-0.5 * w) / u / p


#: W/p and R/p on [0, 1/4]; errors 1e-16 and 1e-7.
_INNER_W = approximate(lambda p: _inner_parts(p)[0], 0.0, 0.25, (14, 5))
_INNER_R = approximate(lambda p: _inner_parts(p)[1], 0.0, 0.25, (14, 5))
#: -log1p(-t)/t on [0, 1/2]; errors 4e-15 and 3e-7.
_LOG_BELOW = approximate(lambda t: -np.log1p(-t - 1e-300) / (t + 1e-300), 0.0, 0.5, (20, 7))
#: acos(y)/sqrt(1-y^2) in powers of y - 1 on [0, 2]; errors 1e-13 and 2e-7.
_ACOS = approximate(lambda y: atanh_over(1.0 - 1.0 / y**2) / y, 0.0, 2.0, (22, 10), origin=1.0)


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
    log_2_over_x = _LN2 - log_above(x)
    part, is_inner = _nfw_part(x * x, 1.0 / x, log_2_over_x)
    return part + namespace(x).where(is_inner, log_2_over_x, 0.0)


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
    log_2_over_x = _LN2 - log_above(x)
    part, is_inner = _nfw_part(x * x, 1.0 / x, log_2_over_x)
    return part - namespace(x).where(is_inner, 0.0, log_2_over_x)


def _nfw_part(x2: Array, inverse: Array, log_2_over_x: Array) -> tuple[Array, Array]:
    """Return F(x) - ln(2/x) where x < 1/2, else F(x), and where that is; no root or division.

    For p = x^2 < 1/4, with u = sqrt(1-p) and w = 1-u, the first is ln(2/x) W + R with W = w/u and
    R = log1p(-w/2)/u, polynomials of p. Beyond, F = y G(y) with y = 1/x and
    G(y) = acos(y)/sqrt(1-y^2), analytic on [0, 2] and a polynomial.
    """
    xp = namespace(x2)
    is_inner = x2 < 0.25
    p = xp.where(is_inner, x2, 0.0)
    inner = p * (log_2_over_x * _INNER_W(p) + _INNER_R(p))
    y = xp.where(is_inner, 1.0, inverse)
    return xp.where(is_inner, inner, y * _ACOS(y - 1.0)), is_inner


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
    return _tnfw_mass_of(x * x, 1.0 / x, tau)


def _tnfw_mass_of(x2: Array, inverse: Array, tau: Array) -> Array:
    """Return :func:`tnfw_mass` of x^2 and 1/x: one logarithm, two roots and a division.

    With s = sqrt(tau^2 + x^2), h = (s - tau)/(s + tau) and g = 1 - h = 2 tau/(s + tau), the two
    further logarithms of (4.3) are L = log(h)/2 and log1p(x^2/(2 tau (s + tau))) = -log(g). That
    of the larger of g and h is a polynomial of the smaller one; the other follows, as they differ
    by ln(x/(2 tau)). The polynomial has the factor (tau^2-1) s/tau, halved where it is L.
    """
    xp = namespace(x2)
    t2 = tau * tau
    excess = t2 - 1.0
    slope = excess / tau
    log_tau = xp.log(xp.asarray(tau, dtype=x2.dtype))
    s = xp.sqrt(t2 + x2)
    per_total = 1.0 / (s + tau)
    g, h = 2.0 * tau * per_total, x2 * per_total * per_total
    is_far = g < h
    small = xp.minimum(g, h)
    log_x = 0.5 * log_above(x2)
    log_2_over_x = _LN2 - log_x
    part, is_inner = _nfw_part(x2, inverse, log_2_over_x)
    to_nfw = xp.where(is_inner, log_2_over_x, 0.0)
    to_mass = xp.where(is_inner, 0.0, xp.where(is_far, log_tau, -log_2_over_x))
    log_ratio = xp.where(is_far, 0.0, slope * log_x - slope * (log_tau + _LN2))
    rest = 2.0 * to_nfw + (log_ratio - math.pi) * per_total
    known = part * (excess + 2.0 * x2) + (x2 * rest + excess * to_mass)
    last = small * _LOG_BELOW(small) * (slope * s)
    return t2 / (t2 + 1.0) ** 2 * (known - xp.where(is_far, 0.5 * last, last))


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
    per_scale2 = 1.0 / (scale_radius * scale_radius)
    x2 = (dx * dx + dy * dy) * per_scale2 + _TINY
    per_x2 = 1.0 / x2
    # This product for 1/x: XLA's reciprocal root is slower than its root.
    mass = _tnfw_mass_of(x2, xp.sqrt(x2) * per_x2, tau)
    (weight,) = settle(mass * (per_x2 * (theta_E**2 * per_scale2)))
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
