"""What no classifier can exceed, given how strongly substructure stands out in each image.

An observer who also knew the nuisances and the realisation would score N(+d^2/2, d^2) or
N(-d^2/2, d^2); any classifier of the image alone knows less (PHYSICS 8.2). The bounds hold per pair
of classes and are loose: report ceiling, network and gap.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float64]

#: Rows of pairs evaluated at once; bounds memory.
_ROWS = 1024


@dataclass(frozen=True)
class Ceiling:
    """Upper bounds for one pair of classes.

    Attributes
    ----------
    classes : tuple of str
    n_images : int
        Images whose d' went in.
    d_median : float
    auc : float
        Equation (8.2).
    accuracy : float
        Balanced accuracy, equation (8.3).
    auc_error, accuracy_error : float
        Standard errors from the spread among the images.
    """

    classes: tuple[str, str]
    n_images: int
    d_median: float
    auc: float
    accuracy: float
    auc_error: float
    accuracy_error: float


def auc_single(d: Floats) -> Floats:
    """AUC between the two versions of one image, Phi(d/sqrt 2); no bound on a population's.

    Parameters
    ----------
    d : Floats, any shape

    Returns
    -------
    Floats, same shape
    """
    from scipy.special import ndtr  # type: ignore[import-untyped]  # heavy

    return np.asarray(ndtr(np.asarray(d) / np.sqrt(2.0)))


def auc_ceiling(d: Floats) -> float:
    """Bound on the AUC of any classifier: mean over pairs of Phi(sqrt(d_i^2 + d_j^2)/2), (8.2).

    Parameters
    ----------
    d : Floats, shape (n,)

    Returns
    -------
    float
    """
    return float(np.mean(_pair_means(d)))


def accuracy_ceiling(d: Floats) -> float:
    """Bound on the balanced accuracy of any classifier: mean of Phi(d_i/2), equation (8.3).

    Parameters
    ----------
    d : Floats, shape (n,)

    Returns
    -------
    float
    """
    from scipy.special import ndtr

    return float(np.mean(ndtr(0.5 * np.asarray(d))))


def ceiling(classes: tuple[str, str], d: Floats) -> Ceiling:
    """Bounds for one pair of classes.

    Parameters
    ----------
    classes : tuple of str
    d : Floats, shape (n,)
        d' between the two versions of each image; NaN where it was not computed.

    Returns
    -------
    Ceiling
        NaN bounds where no image has a value.
    """
    from scipy.special import ndtr

    d = np.asarray(d)[np.isfinite(d)]
    n = len(d)
    if n == 0:
        return Ceiling(classes, 0, *(np.nan,) * 5)
    pairs, accuracy = _pair_means(d), ndtr(0.5 * d)
    # A mean over pairs is a U-statistic of order two: its error is twice that of the row means.
    root = np.sqrt(n)
    spread = [float(np.std(v, ddof=1)) if n > 1 else np.nan for v in (pairs, accuracy)]
    return Ceiling(
        classes=classes,
        n_images=n,
        d_median=float(np.median(d)),
        auc=float(np.mean(pairs)),
        accuracy=float(np.mean(accuracy)),
        auc_error=2.0 * spread[0] / root,
        accuracy_error=spread[1] / root,
    )


def one_vs_rest_ceiling(pairs: Iterable[Ceiling], name: str, n_images: Mapping[str, int]) -> float:
    """Bound on the AUC of one class against all others.

    The mean of its pairwise bounds, weighted by how many images each other class has.

    Parameters
    ----------
    pairs : iterable of Ceiling
        Of every pair of classes.
    name : str
    n_images : Mapping of str to int
        Images of each class.

    Returns
    -------
    float
        NaN if a pair that counts has no bound.
    """
    total, weight = 0.0, 0
    for pair in pairs:
        if name in pair.classes:
            first, second = pair.classes
            other = n_images[second if name == first else first]
            total, weight = total + other * pair.auc, weight + other
    return total / weight if weight else np.nan


def _pair_means(d: Floats) -> Floats:
    """Mean over j of Phi(sqrt(d_i^2 + d_j^2)/2) for each i, shape (n,)."""
    from scipy.special import ndtr

    square = np.asarray(d, np.float64) ** 2
    rows = [
        ndtr(0.5 * np.sqrt(square[first : first + _ROWS, None] + square)).mean(axis=1)
        for first in range(0, len(square), _ROWS)
    ]
    return np.concatenate(rows)
