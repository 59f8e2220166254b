"""Losses of ``adaptation``; head, calibration, answer and metrics are the classification's."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pipeline.tasks._adversary import discriminator, reversed_gradient
from pipeline.tasks.base import OTHER_DOMAIN, Answer, Floats, Outputs, Task

if TYPE_CHECKING:
    from pipeline.dataset.loader import Batch
    from pipeline.tasks.adaptation import Config

#: Largest changes that make a strong copy: of contrast, noise (prepared units), side of a hole.
CONTRAST, NOISE, HOLE = 0.2, 0.1, 0.25


class Adaptation:
    """Classification of the source, and a loss on images of the target."""

    monitor = "macro_auc"
    higher_is_better = True

    def __init__(self, config: "Config", classes: Task, n_features: int) -> None:
        self.config = config
        self.classes = classes
        self.head: nn.Module = classes.head
        self.uncalibrated: Mapping[str, float] = classes.uncalibrated
        self.helper: nn.Module | None = None
        if config.method == "dann":
            self.helper = discriminator(n_features)
        self.progress = 0.0

    def prepare(self, labels: NDArray[np.integer], targets: Floats) -> None:
        """See the labels of the source."""
        self.classes.prepare(labels, targets)

    def loss(self, outputs: Tensor, label: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy on the source."""
        return self.classes.loss(outputs, label, target)

    def batch_loss(self, network: Any, batch: "Batch") -> Tensor:  # Any: a Network
        """Cross-entropy on the source, and the loss that the method adds."""
        if self.config.method == "source_only":
            return self.loss(network(batch.image), batch.label, batch.target)
        other = batch.extra[OTHER_DOMAIN]
        if self.config.method == "adamatch":
            return self._adamatch(network, batch, other)
        features = network.backbone(torch.cat((batch.image, other)))
        n = len(batch.image)
        here, there = features[:n], features[n:]
        cost = self.loss(network.head(here), batch.label, batch.target)
        if self.config.method == "coral":
            return cost + self._ramp() * coral(here.float(), there.float())
        return cost + self._domain_confusion(here.float(), there.float())

    def calibrate(self, outputs: Outputs) -> dict[str, float]:
        """Temperature of the source's validation outputs."""
        return self.classes.calibrate(outputs)

    def answer(self, values: Floats, calibration: Mapping[str, float]) -> Answer:
        """Class probabilities (B, K)."""
        return self.classes.answer(values, calibration)

    def metrics(self, outputs: Outputs, calibration: Mapping[str, float]) -> dict[str, float]:
        """Those of the classification."""
        return self.classes.metrics(outputs, calibration)

    def _ramp(self) -> float:
        """Weight of the second loss, from 0 up (Ganin et al. 2016, eq. 14)."""
        return self.config.weight * (2.0 / (1.0 + math.exp(-10.0 * self.progress)) - 1.0)

    def _domain_confusion(self, here: Tensor, there: Tensor) -> Tensor:
        assert self.helper is not None
        logit = self.helper(reversed_gradient(torch.cat((here, there)), self._ramp()))[:, 0]
        n = len(here)
        ours, theirs = functional.softplus(logit[:n]), functional.softplus(-logit[n:])
        return 0.5 * (ours.mean() + theirs.mean())

    def _adamatch(self, network: Any, batch: "Batch", other: Tensor) -> Tensor:
        """AdaMatch: random logits between two batch norms, aligned and thresholded answers."""
        n, m = len(batch.image), len(other)
        source = torch.cat((batch.image, altered(batch.image)))
        both = network(torch.cat((source, other, altered(other)))).float()
        alone = network(source).float()
        share = torch.rand_like(alone)
        mixed = share * both[: 2 * n] + (1.0 - share) * alone
        weak, strong = both[2 * n : 2 * n + m], both[2 * n + m :]
        with torch.no_grad():
            here, there = mixed[:n].softmax(dim=1), weak.softmax(dim=1)
            aligned = there * here.mean(dim=0) / there.mean(dim=0).clamp(min=1e-6)
            aligned = aligned / aligned.sum(dim=1, keepdim=True)
            bar = self.config.threshold * here.amax(dim=1).mean()
            believed = (aligned.amax(dim=1) >= bar).float()
        taught = functional.cross_entropy(strong, aligned, reduction="none")
        warm = 0.5 - 0.5 * math.cos(min(math.pi, 2.0 * math.pi * self.progress))
        label = torch.cat((batch.label, batch.label))
        cost = self.loss(mixed, label, batch.target)
        both_domains: Tensor = cost + self.config.weight * warm * (believed * taught).mean()
        return both_domains


def coral(here: Tensor, there: Tensor) -> Tensor:
    """Squared difference of the covariances of features (N, F) and (M, F), over their mean square.

    Relative, and with its gradient through the scale too: otherwise smaller features are rewarded
    for being small, and a network that has not learnt yet never does.
    """
    ours, theirs = _covariance(here), _covariance(there)
    scale = 0.5 * (ours.square().sum() + theirs.square().sum())
    return (ours - theirs).square().sum() / scale.clamp(min=torch.finfo(torch.float32).tiny)


def _covariance(features: Tensor) -> Tensor:
    centred = features - features.mean(dim=0)
    covariance: Tensor = centred.T @ centred / max(1, len(features) - 1)
    return covariance


def altered(image: Tensor) -> Tensor:
    """Strongly changed copies of prepared images (B, C, H, W): blur, contrast, noise, a hole."""
    n, _, height, width = image.shape
    drawn = torch.rand((6, n, 1, 1, 1), device=image.device)
    blurred = functional.avg_pool2d(functional.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)
    copy = torch.lerp(image, blurred, drawn[0])
    # By sorting: now and then torch's own median gives NaN for finite pixels that share memory.
    ordered = image.flatten(2).sort(dim=2).values
    sky = ordered[:, :, (ordered.shape[2] - 1) // 2, None, None]
    copy = sky + (copy - sky) * (1.0 + CONTRAST * (2.0 * drawn[1] - 1.0))
    copy = copy + NOISE * drawn[2] * torch.randn_like(copy)
    y = torch.arange(height, device=image.device)[:, None] / height
    x = torch.arange(width, device=image.device)[None, :] / width
    half = 0.5 * HOLE * drawn[3]
    hole = ((y - drawn[4]).abs() < half) & ((x - drawn[5]).abs() < half)
    return torch.where(hole, sky, copy)
