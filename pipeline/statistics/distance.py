"""Distance from known data: Mahalanobis under a shrunk covariance, read as a quantile.

The covariance is Ledoit & Wolf's (2004), which stays invertible when there are few images for many
features. Features are standardised first, so that the shrinkage target (a multiple of the identity)
suits them all.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.statistics.metrics import Floats

#: Features that vary by less than this in the training images carry no distance.
MIN_SPREAD = 1e-6
#: Added to the variance of every standardised feature, so that features which hardly vary at all
#: have a covariance that can be inverted.
MIN_VARIANCE = 1e-6


@dataclass(frozen=True)
class GaussianReference:
    """Mean (F,), standard deviation (F,) and whitened precision factor (F, F) of features.

    The squared distance of features f is ``|factor.T @ ((f - mean) / std)|^2``.
    """

    mean: Floats
    std: Floats
    factor: Floats

    def distance(self, features: Floats) -> Floats:
        """Mahalanobis distance (N,) of features (N, F); infinite where a feature is not finite."""
        whitened = ((np.asarray(features, np.float64) - self.mean) / self.std) @ self.factor
        squared = np.einsum("ij,ij->i", whitened, whitened)
        return np.where(np.isfinite(squared), np.sqrt(squared), np.inf)


def fit_reference(features: Floats) -> GaussianReference:
    """Mean and shrunk covariance of training features (N, F)."""
    from sklearn.covariance import LedoitWolf  # type: ignore[import-untyped]

    features = np.asarray(features, dtype=np.float64)
    mean = features.mean(axis=0)
    std = np.maximum(features.std(axis=0), MIN_SPREAD)
    fitted = LedoitWolf(assume_centered=True).fit((features - mean) / std)
    covariance = fitted.covariance_ + MIN_VARIANCE * np.eye(len(mean))
    return GaussianReference(mean, std, np.linalg.cholesky(np.linalg.inv(covariance)))


def quantile_in(values: Floats, sorted_reference: Floats) -> Floats:
    """Fraction of the reference that lies below each value: 0 is typical, 1 beyond them all."""
    rank = np.searchsorted(sorted_reference, values, side="left")
    return rank / len(sorted_reference)
