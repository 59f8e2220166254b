"""The array namespace of a formula: numpy or jax.numpy, whichever its input belongs to.

Formulas are written once, with the names of the Python array API standard; this is the only place
that asks which library runs them, and the home of the polynomials that replace slow functions.
"""

from collections.abc import Callable
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


def _atanh_ratio(d: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return atanh(sqrt d)/sqrt d by the library's functions, where d is not tiny."""
    root = np.sqrt(np.abs(d) + (d == 0.0))
    return np.where(d == 0.0, 1.0, np.where(d > 0, np.arctanh(root), np.arctan(root)) / root)


#: On [-0.18, 0.32], where two halvings bring every d <= 0.96; error 1e-14.
_ATANH = interpolate(_atanh_ratio, -0.18, 0.32, 14)


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
    return 4.0 * first * second * polynomial(_ATANH, d)
