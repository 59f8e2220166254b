"""What a fit found, image by image, and how far to believe it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float64]


class Status(StrEnum):
    """How far to believe a fit."""

    GOOD = "good"
    POOR = "poor"  # a model was found that does not describe the image, or hardly
    FAILED = "failed"  # there is no model


@dataclass(frozen=True)
class Fits:
    """Fits of n images; rows of failed ones hold NaN, in pixels 0.

    Attributes
    ----------
    names, units : tuple of str, length P
        Parameters and their units.
    values : Floats, shape (n, P)
    covariance : Floats, shape (n, P, P)
        0 for parameters that the priors hold fixed.
    amplitudes : Floats, shape (n, C, L)
        Of the model's linear columns.
    model : float32 array, shape (n, C, H, W)
        Expected image, in the unit of the image.
    residual : float32 array, shape (n, C, H, W)
        (image - model)/sigma; 0 where the pixel was not used.
    response : float16 array, shape (n, S, H, W)
        Significance, in sigma, with which the data ask for a small mass at each place, for each
        softening length of the configuration (``_response.py``); what the fit itself could follow
        does not count. Strong where a perturber was left out of the model.
    perturber : Floats, shape (n, 3)
        The most significant small mass that the model lacks: the highest value of the response
        maps, sigma, and its place (x, y), arcsec. NaN where no mass is asked for.
    ln_bayes : Floats, shape (n, G)
        Logarithm of how much likelier the image is with one mass of a kind that the model lacks, in
        the mean over places, angles and sizes: round ones of each softening length, then rods of
        each half length. To first order in the mass.
    chi2 : Floats, shape (n,)
        Reduced: over the pixels used less the parameters fitted.
    n_used : integer array, shape (n,)
        Pixels used.
    log_evidence, bic : Floats, shape (n,)
        Logarithm of the evidence (Laplace; up to flat priors on free fluxes); chi2 + k ln N.
    start, n_iterations : integer array, shape (n,)
        The start that won (0: from the image's bright pixels) and its steps on the full image.
    status, reason : tuple of str, length n
        See :class:`Status`; the reason is empty for good fits.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    values: Floats
    covariance: Floats
    amplitudes: Floats
    model: NDArray[np.float32]
    residual: NDArray[np.float32]
    response: NDArray[np.float16]
    perturber: Floats
    ln_bayes: Floats
    chi2: Floats
    n_used: NDArray[np.int64]
    log_evidence: Floats
    bic: Floats
    start: NDArray[np.int64]
    n_iterations: NDArray[np.int64]
    status: tuple[str, ...]
    reason: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.status)

    @property
    def errors(self) -> Floats:
        """Standard deviations of the parameters, shape (n, P)."""
        return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2))

    def count(self, status: Status) -> int:
        """Number of images of a status."""
        return self.status.count(status)

    def of(self, name: str) -> Floats:
        """Values of one parameter, shape (n,)."""
        return self.values[:, self.names.index(name)]

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The fits of several batches as those of one; at least one part."""
        first = parts[0]
        joined = {}
        for field in fields(cls):
            values = [getattr(part, field.name) for part in parts]
            if field.name in ("names", "units"):
                joined[field.name] = getattr(first, field.name)
            elif isinstance(values[0], tuple):
                joined[field.name] = tuple(item for value in values for item in value)
            else:
                joined[field.name] = np.concatenate(values)
        return cls(**joined)
