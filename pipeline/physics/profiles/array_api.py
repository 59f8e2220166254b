"""The array namespace of a formula: numpy or jax.numpy, whichever its input belongs to.

Formulas are written once, with the names of the Python array API standard; this is the only place
that asks which library runs them, and the home of the polynomials that replace slow functions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial
from numpy.typing import NDArray

#: numpy and jax arrays share no static type.
type Array = Any


def namespace(*arrays: Array) -> Any:  # Any: a module, numpy or jax.numpy
    """Return the array namespace of the first argument that has one; numpy for plain floats."""
    for array in arrays:
        if hasattr(array, "__array_namespace__"):
            return array.__array_namespace__()
    return np


def interpolate(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    low: float,
    high: float,
    degree: int,
    origin: float = 0.0,
) -> tuple[float, ...]:
    """Coefficients in powers of (t - origin) of the Chebyshev interpolant on [low, high]."""

    def shifted(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return function(t + origin)

    fit = Chebyshev.interpolate(shifted, degree, domain=[low - origin, high - origin])
    return tuple(fit.convert(kind=Polynomial).coef.tolist())


@dataclass(frozen=True)
class Approximation:
    """Polynomials that replace one function: for float64, and a shorter one for float32."""

    double: tuple[float, ...]
    single: tuple[float, ...]

    def __call__(self, t: Array) -> Array:
        """Evaluate the polynomial that the precision of ``t`` needs."""
        is_single = getattr(t, "dtype", None) == np.float32
        return polynomial(self.single if is_single else self.double, t)


def polynomial(coefficients: tuple[float, ...], t: Array) -> Array:
    """Evaluate a polynomial by Horner's rule.

    Parameters
    ----------
    coefficients : tuple of float
        Lowest power first.
    t : Array, any shape

    Returns
    -------
    Array, same shape
    """
    value = coefficients[-1] * t + coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        value = value * t + coefficient
    return value


def polynomial_by_halves(coefficients: tuple[float, ...], t: Array) -> Array:
    """Evaluate a polynomial by Estrin's rule: more products than Horner's, in a shorter chain.

    For where the processor waits for the last of a chain of formulas; otherwise :func:`polynomial`,
    which takes and gives the same, is faster.
    """
    values: list[Array] = list(coefficients)
    while len(values) > 1:
        pairs = zip(values[::2], values[1::2], strict=False)
        values = [low + high * t for low, high in pairs] + values[len(values) & ~1 :]
        t = t * t
    return values[0]


def _atanh_ratio(d: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return atanh(sqrt d)/sqrt d by the library's functions, where d is not tiny."""
    root = np.sqrt(np.abs(d) + (d == 0.0))
    return np.where(d == 0.0, 1.0, np.where(d > 0, np.arctanh(root), np.arctan(root)) / root)


def approximate(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    low: float,
    high: float,
    degrees: tuple[int, int],
    origin: float = 0.0,
) -> Approximation:
    """Chebyshev interpolants on [low, high] of the degrees for float64 and float32."""
    double, single = (interpolate(function, low, high, n, origin) for n in degrees)
    return Approximation(double, single)


#: On [-0.18, 0.32], where two halvings bring every d <= 0.96; errors 1e-14 and 3e-8.
_ATANH = approximate(_atanh_ratio, -0.18, 0.32, (14, 8))
#: atan(t)/t in powers of t^2 - 1/2 on [0, 1]; errors 1e-15 and 2e-8.
_ATAN = approximate(lambda d: _atanh_ratio(-d), 0.0, 1.0, (20, 9), origin=0.5)
#: log1p(z)/z on [0, 0.25]; errors 1e-16 and 2e-8.
_LOG1P = approximate(lambda z: np.log1p(z + 1e-300) / (z + 1e-300), 0.0, 0.25, (13, 6))


def settle(*arrays: Array) -> tuple[Array, ...]:
    """Return the arrays; XLA computes them here and not anew in every formula that uses them.

    Parameters
    ----------
    *arrays : Array

    Returns
    -------
    tuple of Array
    """
    if namespace(*arrays) is np:
        return arrays
    from pipeline.physics.profiles import _jax_forms  # heavy

    return tuple(_jax_forms.settle(arrays))


def log_above(x: Array) -> Array:
    """Return log(x) for x > 0, no smaller than the normal numbers of its precision.

    Parameters
    ----------
    x : Array, any shape

    Returns
    -------
    Array, same shape
    """
    xp = namespace(x)
    if xp is np or x.dtype != np.float32:
        return xp.log(x)
    from pipeline.physics.profiles import _jax_forms  # heavy

    return _jax_forms.log(x)


def log1p_above(z: Array) -> Array:
    """Return log1p(z) for z >= 0: a polynomial below 1/4, else the plain logarithm.

    Parameters
    ----------
    z : Array, any shape

    Returns
    -------
    Array, same shape
    """
    xp = namespace(z)
    if xp is not np and z.dtype == np.float32:
        from pipeline.physics.profiles import _jax_forms  # heavy

        return _jax_forms.log1p(z)
    is_small = z < 0.25
    return xp.where(is_small, z * _LOG1P(xp.where(is_small, z, 0.0)), xp.log(1.0 + z))


def atanh_over(d: Array) -> Array:
    """Return atanh(sqrt d)/sqrt d, which is atan(sqrt(-d))/sqrt(-d) below zero and 1 at zero.

    S(d) = 2/(1+r) S(d/(1+r)^2) with r = sqrt(1-d) (the half-angle rule of atanh), applied twice;
    then a polynomial: no transcendental function and no case at zero. Needs d < 1; relative error
    1e-14 in float64 for d <= 0.96 and 1e-7 up to 0.995.

    Parameters
    ----------
    d : Array, any shape

    Returns
    -------
    Array, same shape
    """
    xp = namespace(d)
    first = 1.0 / (1.0 + xp.sqrt(1.0 - d))
    d = d * first * first
    second = 1.0 / (1.0 + xp.sqrt(1.0 - d))
    d = d * second * second
    return 4.0 * first * second * _ATANH(d)


def angle_above(y: Array, x: Array) -> Array:
    """Return atan2(y, x) for y >= 0, an angle in [0, pi]; 0 at the origin.

    With t = y/(r + abs(x)) <= 1 it is 2 atan(t), or pi less that for x < 0: a square root and a
    polynomial.

    Parameters
    ----------
    y, x : Array, of one shape

    Returns
    -------
    Array, rad
    """
    xp = namespace(x)
    t = y / (xp.sqrt(x * x + y * y) + xp.abs(x) + 1e-30)
    angle = 2.0 * t * _ATAN(t * t - 0.5)
    return xp.where(x < 0, np.pi - angle, angle)
