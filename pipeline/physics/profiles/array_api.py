"""The array namespace of a formula: numpy or jax.numpy, whichever its input belongs to.

Formulas are written once, with the names of the Python array API standard; this is the only place
that asks which library runs them.
"""

from typing import Any

import numpy as np

#: numpy and jax arrays share no static type.
type Array = Any


def namespace(*arrays: Array) -> Any:  # Any: a module, numpy or jax.numpy
    """Return the array namespace of the first argument that has one; numpy for plain floats."""
    for array in arrays:
        if hasattr(array, "__array_namespace__"):
            return array.__array_namespace__()
    return np


def atanh_over(d: Array) -> Array:
    """Return atanh(sqrt d)/sqrt d, which is atan(sqrt(-d))/sqrt(-d) below zero and 1 at zero.

    The analytic function sum_k d^k/(2k+1); the sum itself is used for abs(d) < 0.05, where the
    quotient loses digits. Needs d < 1.

    Parameters
    ----------
    d : Array, any shape

    Returns
    -------
    Array, same shape
    """
    xp = namespace(d)
    near = xp.abs(d) < 0.05
    small = xp.where(near, d, 0.0)
    series = 1.0 / 25.0 * small + 1.0 / 23.0
    for k in range(10, -1, -1):
        series = series * small + 1.0 / (2 * k + 1)
    positive = xp.sqrt(xp.where(~near & (d > 0), d, 0.25))
    negative = xp.sqrt(xp.where(~near & (d < 0), -d, 0.25))
    far = xp.where(d > 0, xp.atanh(positive) / positive, xp.atan(negative) / negative)
    return xp.where(near, series, far)
