"""Where a fit starts, from the image alone.

For a lens of small ellipticity the places of the rays in the source plane are linear in everything
but the pixel: beta = x - theta_E (r + e1 A1 + e2 A2) - shear - source. The bright pixels of a good
model come from nearly one place, so weighted least squares under the priors gives the macro lens
and the source at once; what scatter is left is the source's size. Other starts move away from that
along the directions in which a fit is known to go astray, or are drawn from the prior; their table
is fixed, so an image's starts depend on that image alone.
"""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pipeline.fit._model import SmoothModel
from pipeline.physics.profiles.macro import deflection_sie

type Floats = NDArray[np.float64]

#: Bright pixels count as this many independent ones, each of this scatter (arcsec).
_N_EFFECTIVE, _SCATTER = 40.0, 0.12
#: Ellipticity at which the linear terms are measured.
_STEP = 0.05


class Starter:
    """Starts for images of one shape.

    Parameters
    ----------
    model : SmoothModel
        Of the coarse pixels that the images are given in.
    """

    def __init__(self, model: SmoothModel) -> None:
        self._model = model
        self._coordinates = model.coordinates
        side, scale = model.side, model.grid.pixel_scale * model.binning
        axis = (np.arange(side) - (side - 1) / 2.0) * scale
        x, y = (a.ravel() for a in np.meshgrid(axis, axis))
        self._terms = _linear_terms(x, y)  # (7, 2, M)
        self._place = np.stack([x, y])
        mean, width = self._coordinates.values(np.zeros(len(self._coordinates))), None
        del width
        self._mean = np.asarray(mean)

    def __call__(self, image: jax.Array, weights: jax.Array) -> jax.Array:
        """Whitened coordinates (P,) of the start from the bright pixels.

        Parameters
        ----------
        image : jax.Array, shape (M,)
            Sum of the bands.
        weights : jax.Array, shape (M,)
            1/sigma; 0 where the pixel is unusable.
        """
        dtype = image.dtype
        terms, place = jnp.asarray(self._terms, dtype), jnp.asarray(self._place, dtype)
        light = jnp.where(image * weights > 2.0, image, 0.0) * (weights > 0)
        light = jnp.minimum(light, 20.0 * jnp.mean(light))  # one pixel must not decide
        share = light / jnp.maximum(jnp.sum(light), 1e-30) * _N_EFFECTIVE / _SCATTER**2
        means, widths = self._linear_prior()
        mean, precision = jnp.asarray(means, dtype), jnp.asarray(widths**-2.0, dtype)
        design = (terms * share).reshape(7, -1)
        normal = design @ terms.reshape(7, -1).T + jnp.diag(precision)
        right = design @ place.ravel() + precision * mean
        scale = jax.lax.rsqrt(jnp.diagonal(normal))
        factor = jnp.linalg.cholesky(normal * scale[:, None] * scale)
        theta, te1, te2, gamma1, gamma2, sx, sy = scale * jax.scipy.linalg.cho_solve(
            (factor, True), right * scale
        )
        theta = jnp.clip(theta, 0.5 * mean[0], 2.0 * mean[0])
        found = jnp.stack([theta, te1, te2, gamma1, gamma2, sx, sy])
        rest = place - jnp.tensordot(found, terms, 1)  # (2, M)
        spread = jnp.sum(share * rest**2) / jnp.maximum(jnp.sum(share), 1e-30)
        values = {
            "theta_E": theta,
            "e1": te1 / theta,
            "e2": te2 / theta,
            "gamma1": gamma1,
            "gamma2": gamma2,
            "source_x": sx,
            "source_y": sy,
            "source_r_eff": jnp.sqrt(spread),
        }
        return self._whitened(values, dtype)

    def _linear_prior(self) -> tuple[Floats, Floats]:
        """Means and widths of the seven linear unknowns."""
        coordinates = self._coordinates
        slopes = np.diagonal(coordinates.jacobian(np.zeros(len(coordinates))))
        names = ("theta_E", "e1", "e2", "gamma1", "gamma2", "source_x", "source_y")
        at = [coordinates.index(name) for name in names]
        means, widths = self._mean[at], np.maximum(np.abs(slopes[at]), 1e-4)
        for k in (1, 2):  # their unknowns are theta_E e
            means[k], widths[k] = means[0] * means[k], means[0] * widths[k]
        return means, widths

    def _whitened(self, values: dict[str, jax.Array], dtype: jnp.dtype) -> jax.Array:
        """First-order coordinates, no further than 2.5 widths of the prior from its mean."""
        coordinates = self._coordinates
        slopes = np.diagonal(coordinates.jacobian(np.zeros(len(coordinates))))
        z = jnp.zeros(len(coordinates), dtype)
        for name, value in values.items():
            if name in coordinates.names and slopes[k := coordinates.index(name)] > 0:
                move = (value - self._mean[k]) / slopes[k]
                if coordinates.parameters[k].kind == "log":
                    ratio = jnp.maximum(value, 1e-3) / self._mean[k]
                    move = jnp.log(ratio) * self._mean[k] / slopes[k]
                z = z.at[k].set(jnp.clip(move, -2.5, 2.5))
        return z


def _linear_terms(x: Floats, y: Floats) -> Floats:
    """What theta_E, theta_E e1, theta_E e2, the shear and the source add to a place, (7, 2, M)."""
    round_ = np.stack(deflection_sie(x, y, 1.0, 1.0, 0.0))
    q = (1.0 - _STEP) / (1.0 + _STEP)
    first, second = (
        (np.stack(deflection_sie(x, y, 1.0, q, phi)) - round_) / _STEP for phi in (0.0, np.pi / 4)
    )
    one, none = np.ones_like(x), np.zeros_like(x)
    parts = [round_, first, second]
    parts += [np.stack(p) for p in ((x, -y), (y, x), (one, none), (none, one))]
    return np.stack(parts)


def start_offsets(coordinates_names: tuple[str, ...], n_starts: int, first: int = 0) -> Floats:
    """Moves (n_starts, P) in whitened coordinates added to the start from the image.

    The first is none at all. The others follow a low-discrepancy sequence (R. Roberts' additive
    recurrence), with a spread of one width of the prior.

    Parameters
    ----------
    coordinates_names : tuple of str, length P
    n_starts : int
    first : int
        Number of the first start, so that further starts are new ones.
    """
    n = len(coordinates_names)
    root = _generalised_golden_ratio(n)
    steps = root ** -np.arange(1.0, n + 1.0)
    numbers = np.arange(first, first + n_starts)[:, None]
    from statistics import NormalDist

    inverse = np.vectorize(NormalDist().inv_cdf)
    moves = inverse(np.clip((0.5 + numbers * steps) % 1.0, 1e-3, 1.0 - 1e-3))
    return np.asarray(np.where(numbers == 0, 0.0, moves))


def _generalised_golden_ratio(n: int) -> float:
    """Root above 1 of t^(n+1) = t + 1."""
    t = 1.5
    for _ in range(60):
        t = (1.0 + t) ** (1.0 / (n + 1))
    return t
