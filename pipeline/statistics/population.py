"""Fractions of classes in a sample, from what an imperfect classifier calls its images.

The counts of named classes are multinomial with probabilities ``f @ M``, where f are the true
fractions and M[i, j] the chance that an image of class i is called j, itself known only from a
finite test. Both get Jeffreys' Dirichlet priors: flat ones pull a sample of almost one class so far
inwards that a weak classifier's intervals miss the truth. The posterior is drawn by Gibbs sampling
with the true classes as latent counts (Tanner & Wong 1987, J. Am. Stat. Assoc. 82, 528).
"""

from dataclasses import dataclass

import numpy as np

from pipeline.core.seeding import RunStream, image_rng
from pipeline.statistics.metrics import Floats, Labels

N_DRAWS = 4000
N_BURN = 500
#: Parameter of the Dirichlet priors.
JEFFREYS = 0.5


@dataclass(frozen=True)
class Fractions:
    """Posterior mean (K,), and central interval (K,) to (K,), of the fraction of each class."""

    mean: Floats
    low: Floats
    high: Floats
    level: float


def class_fractions(
    counts: Labels, confusion: Labels, *, level: float = 0.90, seed: int = 0
) -> Fractions:
    """Fractions of true classes.

    Parameters
    ----------
    counts : (K,) int
        Images called each class.
    confusion : (K, K) int
        Test images of true class (row) called each class (column).
    level : float
        Of the central interval.
    seed : int
        Of the sampling.

    Returns
    -------
    Fractions
    """
    rng = image_rng(seed, 2, RunStream.BOOTSTRAP)
    counts, confusion = np.asarray(counts, np.int64), np.asarray(confusion, np.float64)
    n_classes = len(counts)
    fractions = np.full(n_classes, 1.0 / n_classes)
    latent = np.zeros((n_classes, n_classes), np.int64)
    draws = np.empty((N_DRAWS, n_classes))
    for step in range(-N_BURN, N_DRAWS):
        # what the sample says of the confusion counts too: rows of M are drawn given both
        matrix = rng.standard_gamma(confusion + latent.T + JEFFREYS)
        joint = (fractions / matrix.sum(axis=1))[:, None] * matrix
        latent = rng.multinomial(counts, (joint / joint.sum(axis=0)).T)  # (named, true)
        fractions = rng.dirichlet(latent.sum(axis=0) + JEFFREYS)
        if step >= 0:
            draws[step] = fractions
    tail = 0.5 * (1.0 - level)
    low, high = np.quantile(draws, [tail, 1.0 - tail], axis=0)
    return Fractions(draws.mean(axis=0), low, high, level)
