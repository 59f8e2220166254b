"""How strongly substructure stands out: d' with nuisances known, under their priors, and refitted.

d^2 = min_p { |r - J p|^2 + |p/S|^2 } with r the signal and J the Jacobian of the nuisances, both
divided by the noise, and S the prior widths: 0 gives ``d_raw``, infinity ``d_refit`` (PHYSICS 8.1).
Solved by orthogonal factors alone; J^T J, which squares the condition, is never formed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float64]

#: Singular values below this fraction of the largest count as zero.
CUT_OFF = 1e-7


@dataclass(frozen=True)
class DPrime:
    """The three values of one batch; raw >= prior >= refit.

    Attributes
    ----------
    raw : Floats
        Nuisances known: a strict ceiling.
    prior : Floats
        Nuisances under Gaussian priors: the ceiling to report beside a trained network.
    refit : Floats
        Nuisances free: what is left after the best smooth model is fitted.
    """

    raw: Floats
    prior: Floats
    refit: Floats


def d_raw(delta: Floats, sigma: Floats) -> Floats:
    """Detectability with every nuisance known, sqrt(sum (delta/sigma)^2).

    Parameters
    ----------
    delta : Floats, shape (..., n)
        Noiseless pixels with substructure minus those without.
    sigma : Floats, shape (..., n)
        Noise of each pixel, same unit.

    Returns
    -------
    Floats, shape (...)
    """
    return np.asarray(np.linalg.norm(delta / sigma, axis=-1))


def d_prior(delta: Floats, sigma: Floats, jacobian: Floats, widths: Floats) -> Floats:
    """Detectability with nuisances under Gaussian priors, equation (8.1).

    Parameters
    ----------
    delta, sigma : Floats, shape (..., n)
    jacobian : Floats, shape (..., n, k)
        Derivative of the smooth image by each nuisance.
    widths : Floats, shape (..., k)
        Prior standard deviations; 0 fixes a nuisance.

    Returns
    -------
    Floats, shape (...)
    """
    return d_prime(delta[..., None, :], sigma, jacobian, widths).prior[..., 0]


def d_refit(delta: Floats, sigma: Floats, jacobian: Floats) -> Floats:
    """Detectability after a free refit of the nuisances, |(1 - Q Q^T) r|.

    Parameters
    ----------
    delta, sigma : Floats, shape (..., n)
    jacobian : Floats, shape (..., n, k)

    Returns
    -------
    Floats, shape (...)
    """
    none = np.zeros(jacobian.shape[-1])
    return d_prime(delta[..., None, :], sigma, jacobian, none).refit[..., 0]


def d_prime(delta: Floats, sigma: Floats, jacobian: Floats, widths: Floats) -> DPrime:
    """All three values for several signals that share their nuisances.

    The whitened Jacobian is reduced to a triangle by Householder reflections once; the stack
    [J S; 1] (prior) or the columns scaled to unit norm (refit) then have k + k rows.

    Parameters
    ----------
    delta : Floats, shape (..., m, n)
        m signals.
    sigma : Floats, shape (..., n)
    jacobian : Floats, shape (..., n, k)
    widths : Floats, shape (..., k)

    Returns
    -------
    DPrime
        Each of shape (..., m).
    """
    signal = np.swapaxes(delta / sigma[..., None, :], -1, -2)  # (..., n, m)
    basis, triangle = np.linalg.qr(jacobian / sigma[..., None])
    inside = np.swapaxes(basis, -1, -2) @ signal  # (..., k, m)
    outside = np.sum((signal - basis @ inside) ** 2, axis=-2)
    scaled = triangle * widths[..., None, :]
    identity = np.broadcast_to(
        np.eye(scaled.shape[-1]), (*scaled.shape[:-2], *[scaled.shape[-1]] * 2)
    )
    stack = np.concatenate([scaled, identity], axis=-2)
    target = np.concatenate([inside, np.zeros_like(inside)], axis=-2)
    norms = np.linalg.norm(triangle, axis=-2, keepdims=True)
    unit = np.divide(triangle, norms, out=np.zeros_like(triangle), where=norms > 0)
    return DPrime(
        raw=np.linalg.norm(signal, axis=-2),
        prior=np.sqrt(outside + _residual(stack, target)),
        refit=np.sqrt(outside + _residual(unit, inside)),
    )


def _residual(matrix: Floats, target: Floats) -> Floats:
    """Squared distance of each column of ``target`` from the span of ``matrix``."""
    if matrix.shape[-1] == 0:
        return np.asarray(np.sum(target**2, axis=-2))
    u, values, _ = np.linalg.svd(matrix, full_matrices=False)
    keep = values > CUT_OFF * values[..., :1]
    u = u * keep[..., None, :]
    rest = target - u @ (np.swapaxes(u, -1, -2) @ target)
    return np.asarray(np.sum(rest**2, axis=-2))
