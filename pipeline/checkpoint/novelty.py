"""How far an image is from what a network was trained on.

An image is described by the network's features and by a few statistics of its prepared pixels
(brightness, contrast, roughness, asymmetry): a network alone maps many a strange image onto a
familiar feature vector. Each of both has its Mahalanobis distance from the training images, in
units of what one validation image in a hundred exceeds, and the larger one counts: side by side in
one distance, hundreds of features would drown a few statistics. What is told is the fraction of
validation images that lie closer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline.statistics.distance import GaussianReference, fit_reference, quantile_in

if TYPE_CHECKING:
    from torch import Tensor

Floats = np.typing.NDArray[np.float64]

#: Added before a logarithm, in units of the training images' standard deviation.
FLOOR = 1e-3
#: Fraction of the validation images whose features, or statistics, have a distance below 1.
INSIDE = 0.99
_PARTS = ("features", "statistics")


@dataclass(frozen=True)
class Novelty:
    """Training images in features and in image statistics, and how far validation images are.

    Attributes
    ----------
    features, statistics : GaussianReference
        Of the first F and the other columns of a description; distances in units of the 99th
        percentile of the validation images.
    val_distances : Floats, shape (V,)
        Sorted.
    """

    features: GaussianReference
    statistics: GaussianReference
    val_distances: Floats

    def quantile(self, description: Floats) -> Floats:
        """Novelty (B,) of descriptions (B, D)."""
        return self.rank(self.distance(description))

    def distance(self, description: Floats) -> Floats:
        """Distance (B,) of descriptions (B, D) from the training images."""
        return _larger(self.features, self.statistics, description)

    def rank(self, distance: Floats) -> Floats:
        """Fraction of validation images that are closer than each distance (B,)."""
        return quantile_in(distance, self.val_distances)


def fit_novelty(train: Floats, val: Floats, n_features: int) -> Novelty:
    """Measure references on training descriptions (N, D), distances on validation ones (V, D).

    The first ``n_features`` columns of a description are the network's.
    """
    parts = (slice(None, n_features), slice(n_features, None))
    features, statistics = (_scaled(train[:, part], val[:, part]) for part in parts)
    return Novelty(features, statistics, np.sort(_larger(features, statistics, val)))


def _scaled(train: Floats, val: Floats) -> GaussianReference:
    """Reference of ``train`` with the distance 1 where few of ``val`` are beyond."""
    reference = fit_reference(train)
    unit = np.quantile(reference.distance(val), INSIDE)
    return replace(reference, factor=reference.factor / (unit if unit > 0 else 1.0))


def _larger(
    features: GaussianReference, statistics: GaussianReference, description: Floats
) -> Floats:
    n_features = len(features.mean)
    return np.maximum(
        features.distance(description[:, :n_features]),
        statistics.distance(description[:, n_features:]),
    )


def reference_arrays(novelty: Novelty) -> dict[str, Floats]:
    """What a checkpoint keeps of it."""
    references = {part: vars(getattr(novelty, part)) for part in _PARTS}
    return {
        f"{part}_{name}": np.ascontiguousarray(values)
        for part, reference in references.items()
        for name, values in reference.items()
    } | {"val_distances": novelty.val_distances}


def read_reference(arrays: Mapping[str, Floats]) -> Novelty:
    """From :func:`reference_arrays`; KeyError names what is missing."""
    names = [field.name for field in fields(GaussianReference)]
    features, statistics = (
        GaussianReference(**{name: arrays[f"{part}_{name}"] for name in names}) for part in _PARTS
    )
    return Novelty(features, statistics, arrays["val_distances"])


def describe(image: "Tensor", features: "Tensor") -> "Tensor":
    """Network features and image statistics side by side.

    Parameters
    ----------
    image : Tensor, shape (B, C, H, W)
        Prepared for the network.
    features : Tensor, shape (B, F)

    Returns
    -------
    Tensor, shape (B, F + 8 C), float32
    """
    import torch

    return torch.cat((features.float(), image_statistics(image.float())), dim=1)


def image_statistics(image: "Tensor") -> "Tensor":
    """Eight statistics of each channel, shape (B, 8 C)."""
    import torch

    size = image.shape[-1]
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    radius = np.hypot(axis[:, None], axis[None, :]).ravel()
    middle, rim = (
        torch.from_numpy(np.flatnonzero(where)).to(image.device)
        for where in (radius < 0.25, radius > 0.9)
    )
    rough_x = image[..., :, 1:] - image[..., :, :-1]
    rough_y = image[..., 1:, :] - image[..., :-1, :]
    turned = image.flip(-1, -2)
    flat = image.flatten(2)
    parts = (
        flat.mean(dim=2),
        torch.log(flat.std(dim=2) + FLOOR),
        flat.amax(dim=2),
        flat.amin(dim=2),
        torch.log(rough_x.abs().mean(dim=(2, 3)) + rough_y.abs().mean(dim=(2, 3)) + FLOOR),
        torch.log((image - turned).abs().mean(dim=(2, 3)) + FLOOR),
        flat[..., middle].mean(dim=2),
        flat[..., rim].mean(dim=2),
    )
    return torch.cat(parts, dim=1)
