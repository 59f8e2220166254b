"""The linear part of a source: images in the source plane whose amplitudes are solved for.

Each basis is a function of positions that count from the centre of the source, in units of its
scale, and has a matrix that says what its amplitudes should rather not do.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float64]
#: Maps (u, v), each (n, n), to brightnesses (L, n, n).
type Basis = Callable[[jax.Array, jax.Array], jax.Array]


def shapelets(n_max: int) -> tuple[Basis, Floats]:
    """Cartesian shapelets of order <= n_max (Refregier 2003) and their regularisation.

    B_ij = phi_i(u) phi_j(v), with phi_n the eigenfunctions of the harmonic oscillator; amplitudes
    of higher order are held smaller, by 1 + i + j in the precision.
    """
    orders = [(i, j) for i in range(n_max + 1) for j in range(n_max + 1 - i)]
    first, second = (jnp.asarray([o[k] for o in orders]) for k in range(2))

    def basis(u: jax.Array, v: jax.Array) -> jax.Array:
        return hermite(u, n_max)[first] * hermite(v, n_max)[second]

    return basis, np.diag([1.0 + i + j for i, j in orders])


def hermite(t: jax.Array, n_max: int) -> jax.Array:
    """Eigenfunctions 0 .. n_max of the oscillator by their stable recurrence, (n_max + 1, ...)."""
    functions = [math.pi**-0.25 * jnp.exp(-0.5 * t * t)]
    if n_max:
        functions.append(math.sqrt(2.0) * t * functions[0])
    for n in range(2, n_max + 1):
        functions.append(
            math.sqrt(2.0 / n) * t * functions[-1] - math.sqrt((n - 1) / n) * functions[-2]
        )
    return jnp.stack(functions)


def pixels(n_side: int) -> tuple[Basis, Floats]:
    """Bilinear hats on a square grid over (-1, 1)^2 and the squares of their differences.

    The grid's rim counts as neighbour of dark sky, which makes the matrix regular.
    """
    nodes = (np.arange(n_side) + 0.5) * 2.0 / n_side - 1.0
    step = 2.0 / n_side

    def basis(u: jax.Array, v: jax.Array) -> jax.Array:
        places = jnp.asarray(nodes, u.dtype)[:, None, None]
        across = jnp.maximum(0.0, 1.0 - jnp.abs(u - places) / step)
        along = jnp.maximum(0.0, 1.0 - jnp.abs(v - places) / step)
        # (row = v, column = u)
        return (along[:, None] * across[None]).reshape(-1, *u.shape)

    difference = np.eye(n_side + 1, n_side) - np.eye(n_side + 1, n_side, k=-1)
    line = difference.T @ difference
    rest = np.eye(n_side)
    return basis, np.kron(line, rest) + np.kron(rest, line)
