"""How far an image is from what a network was trained on.

An image is described by the network's features and by a few statistics of its prepared pixels
(brightness, contrast, roughness, asymmetry): a network alone maps many a strange image onto a
familiar feature vector. The distance is Mahalanobis' to the training images; what is told is the
fraction of validation images that lie closer.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.statistics.distance import GaussianReference, fit_reference, quantile_in

if TYPE_CHECKING:
    from torch import Tensor

Floats = np.typing.NDArray[np.float64]

#: Added before a logarithm, in units of the training images' standard deviation.
FLOOR = 1e-3


@dataclass(frozen=True)
class Novelty:
    """Reference of the training images and sorted distances of the validation images (V,)."""

    reference: GaussianReference
    val_distances: Floats

    def quantile(self, description: Floats) -> Floats:
        """Novelty (B,) of descriptions (B, D)."""
        return self.rank(self.distance(description))

    def distance(self, description: Floats) -> Floats:
        """Distance (B,) of descriptions (B, D) from the training images."""
        return self.reference.distance(description)

    def rank(self, distance: Floats) -> Floats:
        """Fraction of validation images that are closer than each distance (B,)."""
        return quantile_in(distance, self.val_distances)


def fit_novelty(train: Floats, val: Floats) -> Novelty:
    """Measure the reference on training descriptions, the distances on validation ones."""
    reference = fit_reference(train)
    return Novelty(reference, np.sort(reference.distance(val)))


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
