"""A uniform rod of mass, thin or with a Plummer core: the vortex of an axion condensate.

Closed form of PHYSICS (4.8), real and without branch cuts; holds in float32 down to half lengths
of 1e-4 arcsec. Written on the array API for numpy and jax.numpy.
"""

from pipeline.physics.geometry import rotate_in, rotate_out
from pipeline.physics.profiles.array_api import (
    Array,
    angle_above,
    log1p_above,
    namespace,
    settle,
)


def deflection_rod(
    x: Array,
    y: Array,
    theta_E: Array,
    half_length: Array,
    phi: Array,
    core: Array = 0.0,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
) -> tuple[Array, Array]:
    """Uniform rod whose every element is a Plummer sphere, equation (4.8).

    With w = sqrt(v^2 + core^2),
    alpha_u = sign(u) theta_E^2/(4 l) log1p(4 abs(u) l / ((abs(u)-l)^2 + w^2)),
    alpha_v = (v/w) theta_E^2/(2 l) atan2(2 l w, (u-l)(u+l) + w^2).

    Parameters
    ----------
    x, y : Array, arcsec
    theta_E : Array, arcsec
        Einstein radius of the whole mass at one point.
    half_length : Array, arcsec, > 0
    phi : Array, rad
    core : Array, arcsec
        0 is the thin rod of equation (4.7).
    center_x, center_y : Array, arcsec

    Returns
    -------
    alpha_x, alpha_y : Array, arcsec
    """
    xp = namespace(x)
    u, v = rotate_in(x, y, phi, center_x, center_y)
    length = half_length
    w2 = v * v + core * core
    w = xp.sqrt(w2)
    near = (xp.abs(u) - length) ** 2 + w2
    along = log1p_above(4.0 * xp.abs(u) * length / xp.where(near > 0, near, 1e-30))
    angle = angle_above(2.0 * length * w, (u - length) * (u + length) + w2)
    size = theta_E**2 / (2.0 * length)
    side = xp.where(w > 0, v / xp.where(w > 0, w, 1.0), 0.0)
    alpha_u, alpha_v = settle(0.5 * size * xp.sign(u) * along, size * side * angle)
    return rotate_out(alpha_u, alpha_v, phi)


def convergence_rod(
    x: Array,
    y: Array,
    theta_E: Array,
    half_length: Array,
    phi: Array,
    core: Array,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
) -> Array:
    """Convergence of the cored rod, last line of equation (4.8).

    Parameters are those of :func:`deflection_rod`, with ``core > 0``.

    Returns
    -------
    Array
    """
    xp = namespace(x)
    u, v = rotate_in(x, y, phi, center_x, center_y)
    w2 = v * v + core * core
    w = xp.sqrt(w2)
    ahead, behind = u + half_length, u - half_length
    angle = angle_above(2.0 * half_length * w, ahead * behind + w2)
    bracket = ahead / (ahead * ahead + w2) - behind / (behind * behind + w2) + angle / w
    return (theta_E * core) ** 2 / (4.0 * half_length * w2) * bracket
