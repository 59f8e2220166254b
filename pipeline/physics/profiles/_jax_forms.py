"""Logarithms for JAX in float32, and the fence between two of its compiled loops.

A float32 is 2^k m: the exponent's bits give k, and a polynomial of m - 1 the rest. XLA's own
logarithm spends half of its time on zero, infinity and negative numbers, which never come here; a
NaN does, and the caller's other terms keep it. Derivatives are the exact ones.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from pipeline.physics.profiles.array_api import (
    Array,
    interpolate,
    polynomial,
    polynomial_by_halves,
)


def _ratio(f: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log1p(f)/f."""
    small = np.where(np.abs(f) < 1e-9, 1e-9, f)
    return np.log1p(small) / small


#: Bits of the lowest m, and log1p(f)/f on [m - 1, 2 m - 1]; errors 5e-8 and 8e-8.
_LOW_LOG, _LOG = 0x3F333333, interpolate(_ratio, -0.3, 0.4, 8)
_LOW_LOG1P, _LOG1P = 0x3F400000, interpolate(_ratio, -0.25, 0.5, 8)
_LN2 = math.log(2.0)

#: XLA computes what comes before it once, whoever uses it after; jax gives it no types.
settle: Callable[[Any], Any] = lax.optimization_barrier


@jax.custom_jvp
def log(x: Array) -> Array:
    """Natural logarithm of normal float32 numbers above zero.

    Parameters
    ----------
    x : jax array of float32

    Returns
    -------
    jax array of float32
    """
    exponent, mantissa = _split(x, _LOW_LOG)
    f = mantissa - 1.0
    return exponent.astype(jnp.float32) * _LN2 + f * polynomial(_LOG, f)


@jax.custom_jvp
def log1p(z: Array) -> Array:
    """log(1 + z) of float32 numbers z >= 0, to the last digits of the smallest z.

    Parameters
    ----------
    z : jax array of float32

    Returns
    -------
    jax array of float32
    """
    exponent, mantissa = _split(1.0 + z, _LOW_LOG1P)
    f = jnp.where(exponent == 0, z, mantissa - 1.0)
    return exponent.astype(jnp.float32) * _LN2 + f * polynomial_by_halves(_LOG1P, f)


log.defjvps(lambda slope, value, x: slope / x)
log1p.defjvps(lambda slope, value, z: slope / (1.0 + z))


def _split(x: Array, low: int) -> tuple[Array, Array]:
    """Return k and m of x = 2^k m, m from the number whose bits are ``low`` to twice that."""
    bits = lax.bitcast_convert_type(x, jnp.int32)
    exponent = lax.shift_right_arithmetic(bits - low, 23)
    return exponent, lax.bitcast_convert_type(bits - lax.shift_left(exponent, 23), jnp.float32)
