"""Simple statistics of an image, and how well they tell two classes apart (PHYSICS 9).

A network that scores high on images whose flux or ring size differs by class has learnt nothing
about substructure. Here 41 plain numbers and two weak classifiers measure what is to be had that
way: set A (brightness, moments, ring, profile) must tell nothing; set B (asymmetry, power,
azimuthal moments) may hold genuine signal and is gated against the smooth class only.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float64]

_RADIAL = tuple(f"rad{i}" for i in range(8))
_POWER = tuple(f"ps{i}" for i in range(8))
_AZIMUTHAL = tuple(f"az{i}" for i in range(1, 5))
_BRIGHTNESS = ("flux", "max", "std", "p50", "p90", "p99", "frac_bright")
_MOMENTS = ("m_x", "m_y", "m_xx", "m_yy", "m_xy", "ring_radius", "ring_width")
_ASYMMETRY = ("asym_180", "asym_lr", "asym_ud", "grad_energy", "lap_energy")
_CORNERS = ("corner_mean", "corner_std")
#: Order of the columns of :func:`leak_features`.
LEAK_FEATURES = (
    *_BRIGHTNESS,
    *_MOMENTS,
    *_ASYMMETRY,
    *_CORNERS,
    *_RADIAL,
    *_POWER,
    *_AZIMUTHAL,
)
#: Statistics that must not tell any two classes apart.
SET_A = (*_BRIGHTNESS, *_MOMENTS, *_CORNERS, *_RADIAL)
#: Statistics that must not tell a class from the smooth one, unless a preset says why they may.
SET_B = (*_ASYMMETRY, *_POWER, *_AZIMUTHAL)

#: Smallest image side that fills every radial and spectral bin.
MIN_SIZE = 16
#: An AUC above this, beyond its error, is a leak.
GATE_AUC = 0.55
#: Standard errors granted to chance: 5 % one-sided.
GATE_SIGMA = 1.64
N_FOLDS = 5
#: Images worked on at once.
_BLOCK = 256
_TINY = 1e-30


def leak_features(images: NDArray[np.floating]) -> Floats:
    """Simple statistics of each image.

    Lengths are in units of half the image's width, from its centre. Corners (a tenth of the side,
    at least 2 pixels) give the background that everything but percentiles, standard deviation and
    the corners' own statistics is measured above; moments weigh with the positive part.

    Parameters
    ----------
    images : array, shape (B, N, N), N >= MIN_SIZE
        In any unit; what the network sees.

    Returns
    -------
    Floats, shape (B, 41)
        Columns as ``LEAK_FEATURES``.

    Raises
    ------
    ValueError
        If the images are not square, or too small.
    """
    if images.ndim != 3 or images.shape[1] != images.shape[2] or images.shape[1] < MIN_SIZE:
        raise ValueError(f"expected (B, N, N) with N >= {MIN_SIZE}, found {images.shape}")
    out = np.empty((len(images), len(LEAK_FEATURES)))
    for first in range(0, len(images), _BLOCK):
        block = np.asarray(images[first : first + _BLOCK], dtype=np.float64)
        out[first : first + _BLOCK] = _features(block)
    return out


def _features(images: Floats) -> Floats:
    maps = _maps(images.shape[1])
    corners = _corners(images)
    above = images - np.median(corners, axis=1)[:, None, None]
    flat = above.reshape(len(images), -1)
    positive = np.maximum(flat, 0.0)
    peak = flat.max(axis=1)
    columns = [
        flat.sum(axis=1),
        peak,
        images.std(axis=(1, 2)),
        *np.percentile(images, [50, 90, 99], axis=(1, 2)),
        (flat > 0.5 * peak[:, None]).mean(axis=1),
        *_moments(positive, maps).T,
        *_asymmetries(images, above).T,
        corners.mean(axis=1),
        corners.std(axis=1),
        *(flat @ maps.rings).T,
        *_log_power(above, maps).T,
        *_azimuthal(positive, maps).T,
    ]
    return np.stack(columns, axis=1)


@dataclass(frozen=True)
class _Maps:
    """Maps of one image size, flattened over pixels; ``rings`` and ``bands`` average eight bins."""

    moments: Floats  # (P, 7): x, y, x^2, y^2, x y, r, r^2
    cosines: Floats  # (P, 4)
    sines: Floats  # (P, 4)
    rings: Floats  # (P, 8)
    bands: Floats  # (P, 8), in the order of an unshifted Fourier transform


@functools.lru_cache(maxsize=4)
def _maps(size: int) -> _Maps:
    step = (np.arange(size) - (size - 1) / 2.0) / (size / 2.0)
    x, y = (a.ravel() for a in np.meshgrid(step, step))
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    frequency = np.fft.fftfreq(size) * 2.0
    k = np.hypot(*np.meshgrid(frequency, frequency)).ravel()
    turns = np.arange(1, 5) * angle[:, None]
    moments = np.stack([x, y, x * x, y * y, x * y, r, r * r], axis=1)
    return _Maps(moments, np.cos(turns), np.sin(turns), _bin_means(r), _bin_means(k))


def _bin_means(radius: Floats) -> Floats:
    """Weights (P, 8) that average pixels over eight equal bins of radius in [0, 1)."""
    edges = np.linspace(0.0, 1.0, 9)
    inside = (radius[:, None] >= edges[:-1]) & (radius[:, None] < edges[1:])
    return np.asarray(inside / inside.sum(axis=0))


def _corners(images: Floats) -> Floats:
    c = max(2, images.shape[1] // 10)
    parts = (images[:, :c, :c], images[:, :c, -c:], images[:, -c:, :c], images[:, -c:, -c:])
    return np.concatenate([p.reshape(len(images), -1) for p in parts], axis=1)


def _moments(positive: Floats, maps: _Maps) -> Floats:
    """Centroid (2), second central moments (3), ring radius and width, shape (B, 7)."""
    total = positive.sum(axis=1) + _TINY
    x, y, xx, yy, xy, r, rr = (positive @ maps.moments / total[:, None]).T
    width = np.sqrt(np.maximum(rr - r * r, 0.0))
    return np.stack([x, y, xx - x * x, yy - y * y, xy - x * y, r, width], axis=1)


def _asymmetries(images: Floats, above: Floats) -> Floats:
    """Change under a half turn and two mirrors, gradient and Laplacian energy, shape (B, 5)."""
    energy = (above**2).sum(axis=(1, 2)) + _TINY
    gradient_y, gradient_x = np.gradient(images, axis=(1, 2))
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    laplacian = (
        padded[:, 2:, 1:-1]
        + padded[:, :-2, 1:-1]
        + padded[:, 1:-1, 2:]
        + padded[:, 1:-1, :-2]
        - 4.0 * images
    )
    changes = (
        above - above[:, ::-1, ::-1],
        above - above[:, :, ::-1],
        above - above[:, ::-1],
        laplacian,
    )
    turn, left_right, up_down, lap = ((c**2).sum(axis=(1, 2)) / energy for c in changes)
    grad = (gradient_x**2 + gradient_y**2).sum(axis=(1, 2)) / energy
    return np.stack([turn, left_right, up_down, grad, lap], axis=1)


def _log_power(above: Floats, maps: _Maps) -> Floats:
    power = np.abs(np.fft.fft2(above)) ** 2
    return np.asarray(np.log10(power.reshape(len(above), -1) @ maps.bands + _TINY))


def _azimuthal(positive: Floats, maps: _Maps) -> Floats:
    total = positive.sum(axis=1, keepdims=True) + _TINY
    return np.asarray(np.hypot(positive @ maps.cosines, positive @ maps.sines) / total)


def standard_error(n_per_class: int) -> float:
    """Standard error of an AUC of 1/2 from ``n_per_class`` images a class: sqrt(1/(6 n))."""
    return math.sqrt(1.0 / (6.0 * n_per_class))


def exceeds_gate(auc: float, n_per_class: int) -> bool:
    """Whether an AUC is above ``GATE_AUC`` by more than chance explains."""
    return auc - GATE_SIGMA * standard_error(n_per_class) > GATE_AUC


def single_auc(features: Floats, is_second: NDArray[np.bool_]) -> Floats:
    """AUC of each statistic alone, whichever class it is larger in.

    Parameters
    ----------
    features : Floats, shape (N, F)
    is_second : array of bool, shape (N,)
        Whether an image is of the second of two classes.

    Returns
    -------
    Floats, shape (F,), in [0.5, 1]
    """
    from scipy.stats import rankdata  # type: ignore[import-untyped]  # heavy

    n_second = int(is_second.sum())
    n_first = len(is_second) - n_second
    ranks = rankdata(features, axis=0)[is_second].sum(axis=0)
    auc = (ranks - n_second * (n_second + 1) / 2.0) / (n_first * n_second)
    return np.asarray(np.maximum(auc, 1.0 - auc))


def classifier_auc(
    features: Floats, is_second: NDArray[np.bool_], groups: NDArray[np.integer]
) -> tuple[float, float]:
    """Cross-validated AUC of two classifiers, mean over five folds.

    Logistic regression on standardised features (C = 0.1), and histogram gradient boosting (depth
    3, 80 rounds, learning rate 0.08).

    Parameters
    ----------
    features : Floats, shape (N, F)
    is_second : array of bool, shape (N,)
    groups : array of int, shape (N,)
        Images of one group never lie on both sides of a fold; at least five groups.

    Returns
    -------
    logistic, boosting : float
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # type: ignore[import-untyped]
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
    from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]
    from sklearn.model_selection import GroupKFold  # type: ignore[import-untyped]
    from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
    from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

    found = []
    for train, test in GroupKFold(N_FOLDS).split(features, is_second, groups):
        models = (
            make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)),
            HistGradientBoostingClassifier(
                max_depth=3, max_iter=80, learning_rate=0.08, early_stopping=False, random_state=0
            ),
        )
        for model in models:
            model.fit(features[train], is_second[train])
            score = model.predict_proba(features[test])[:, 1]
            found.append(roc_auc_score(is_second[test], score))
    logistic, boosting = np.array(found).reshape(-1, 2).mean(axis=0)
    return float(logistic), float(boosting)
