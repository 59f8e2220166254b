"""Distance of a backbone's features from those of training images.

The features come from a question that needs no other class: is this an image, or a copy that was
bent a little in one place (after CutPaste, Li et al. 2021)? Bent pixels are moved whole, so noise
stays what it is. Outputs (B, 2) are the distance and the logit of having been bent.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pipeline.statistics.distance import fit_reference
from pipeline.tasks._robust import PLAIN, fit_robust, in_spreads
from pipeline.tasks.base import Answer, Floats, Outputs

if TYPE_CHECKING:
    from pipeline.dataset.loader import Batch
    from pipeline.tasks.anomaly import Config

DISTANCE, BENT = range(2)
#: Training images that the nearest neighbours are looked for among.
BANK = 1024
#: Where the rows of a bank lie that no image fills, in whitened units.
_FAR = 1e6
#: Radius of what is bent, as a fraction of the image's side.
_RADIUS = (0.05, 0.15)


class FeatureDistance:
    """Mahalanobis distance, or that of a neighbour in whitened features."""

    monitor = "loss"
    higher_is_better = False
    keeps_last = True  # the distance has no scale of its own from one epoch to the next
    uncalibrated: Mapping[str, float] = PLAIN

    def __init__(self, config: "Config", n_features: int) -> None:
        neighbours = config.neighbours if config.method == "knn" else 0
        self.head: nn.Module = DistanceHead(n_features, neighbours)
        self.bend = config.bend
        self.helper: nn.Module | None = None
        self.progress = 0.0

    def prepare(self, labels: NDArray[np.integer], targets: Floats) -> None:
        """Nothing depends on labels."""

    def loss(self, outputs: Tensor, label: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy in nat of images that were not bent."""
        return functional.softplus(outputs[:, BENT].float()).mean()

    def batch_loss(self, network: Any, batch: "Batch") -> Tensor:  # Any: a Network
        """Cross-entropy of the images and of their bent copies."""
        image = batch.image
        features = network.backbone(torch.cat((image, bent(image, self.bend))))
        logit = network.head.judge(features)[:, 0].float()
        n = len(image)
        return 0.5 * (functional.softplus(logit[:n]) + functional.softplus(-logit[n:])).mean()

    def settle(self, head: nn.Module, features: Tensor) -> None:
        """Measure mean and covariance of features (N, F), and keep some to be neighbours."""
        assert isinstance(head, DistanceHead)
        head.measure(features)

    def calibrate(self, outputs: Outputs) -> dict[str, float]:
        """Median and spread on validation images."""
        return fit_robust(outputs.values[:, DISTANCE])

    def answer(self, values: Floats, calibration: Mapping[str, float]) -> Answer:
        """Anomaly score (B,)."""
        return Answer(anomaly=in_spreads(values[:, DISTANCE], calibration))

    def metrics(self, outputs: Outputs, calibration: Mapping[str, float]) -> dict[str, float]:
        """Cross-entropy of images that were not bent, and their mean distance."""
        cost = np.logaddexp(0.0, outputs.values[:, BENT])
        return {"loss": float(cost.mean()), "distance": float(outputs.values[:, DISTANCE].mean())}


class DistanceHead(nn.Module):
    """Whitens features by what was measured; ``neighbours`` 0 is the distance from the mean."""

    def __init__(self, n_features: int, neighbours: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.judge = nn.Linear(n_features, 1)
        self.mean: Tensor
        self.factor: Tensor
        self.bank: Tensor
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("factor", torch.eye(n_features))
        self.register_buffer("bank", torch.zeros(BANK if neighbours else 0, n_features))

    def forward(self, features: Tensor) -> Tensor:
        """Outputs (B, 2) of features (B, F)."""
        white = (features.float() - self.mean) @ self.factor
        if self.neighbours:
            apart = torch.cdist(white, self.bank, compute_mode="donot_use_mm_for_euclid_dist")
            distance = apart.topk(self.neighbours, dim=1, largest=False).values[:, -1]
        else:
            distance = white.square().sum(dim=1).sqrt()
        return torch.stack((distance, self.judge(features)[:, 0].float()), dim=1)

    def measure(self, features: Tensor) -> None:
        """Take mean, covariance and bank from features (N, F)."""
        reference = fit_reference(features.double().cpu().numpy())
        factor = reference.factor / reference.std[:, None]
        with torch.no_grad():
            self.mean.copy_(torch.from_numpy(reference.mean))
            self.factor.copy_(torch.from_numpy(factor))
            if self.neighbours:
                white = (features[:BANK].to(self.mean) - self.mean) @ self.factor
                self.bank.fill_(_FAR)
                self.bank[: len(white)] = white


def bent(image: Tensor, largest: float) -> Tensor:
    """Copies of images (B, C, H, W), each displaced around one place on what is bright.

    The displacement falls as a Gaussian from 1 to ``largest`` pixels in a random direction; every
    pixel takes the value of a whole one.
    """
    n, _, height, width = image.shape
    device = image.device
    bright = (image.mean(dim=1) - image.mean(dim=(1, 2, 3))[:, None, None]).clamp(min=0).square()
    place = torch.multinomial(bright.flatten(1) + 1e-12, 1)[:, 0]
    cy, cx = (place // width)[:, None, None], (place % width)[:, None, None]
    low, high = (f * max(height, width) for f in _RADIUS)
    drawn = torch.rand((3, n, 1, 1), device=device)
    radius = low + (high - low) * drawn[0]
    size, angle = 1.0 + (largest - 1.0) * drawn[1], 2 * torch.pi * drawn[2]
    y = torch.arange(height, device=device)[:, None]
    x = torch.arange(width, device=device)[None, :]
    fall = size * torch.exp(-0.5 * ((y - cy) ** 2 + (x - cx) ** 2) / radius**2)
    row = (y + torch.round(fall * torch.sin(angle))).long().clamp(0, height - 1)
    column = (x + torch.round(fall * torch.cos(angle))).long().clamp(0, width - 1)
    source = (row * width + column).flatten(1)[:, None].expand(-1, image.shape[1], -1)
    return torch.gather(image.flatten(2), 2, source).view_as(image)
