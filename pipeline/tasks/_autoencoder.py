"""Variational and adversarial autoencoder on any backbone, as a head that sees the images.

Outputs (B, 4) are the mean squared error of the reconstruction, the distance of the code from its
prior in nat, and the adversary's two logits (zero without one). In evaluation mode the code is the
encoder's mean, so a score has no randomness.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pipeline.tasks._adversary import discriminator, reversed_gradient
from pipeline.tasks._robust import PLAIN, fit_robust, in_spreads
from pipeline.tasks.base import Answer, Floats, Outputs

if TYPE_CHECKING:
    from pipeline.tasks.anomaly import Config

ERROR, CODE, ENCODED, DRAWN = range(4)
#: Side of the decoder's smallest map.
_FIRST = 4
#: Bounds of the logarithm of the encoder's variance.
_LOG_VARIANCE = (-10.0, 5.0)
#: Smallest mean squared error: that of a perfect reconstruction stays finite.
_LEAST = 1e-6


class Autoencoder:
    """Negative evidence lower bound, per image in nat but for a constant."""

    monitor = "loss"
    higher_is_better = False
    uncalibrated: Mapping[str, float] = MappingProxyType({"variance": 1.0, **PLAIN})

    def __init__(self, config: "Config", n_features: int) -> None:
        self.config = config
        self.n_features = n_features
        self.n_values = 0
        self.head: nn.Module

    def complete(self, image_shape: tuple[int, int, int]) -> None:
        """Build the decoder for images (C, H, W)."""
        self.n_values = math.prod(image_shape)
        self.head = Decoding(self.config, self.n_features, image_shape)

    def prepare(self, labels: NDArray[np.integer], targets: Floats) -> None:
        """Nothing depends on labels."""

    def loss(self, outputs: Tensor, label: Tensor, target: Tensor) -> Tensor:
        """Bound per pixel at the best pixel variance, and the adversary's cross-entropy."""
        outputs = outputs.float()
        error = 0.5 * torch.log(outputs[:, ERROR].mean().clamp(min=_LEAST))
        if self.config.method == "vae":
            return error + outputs[:, CODE].mean() / self.n_values
        encoded, drawn = outputs[:, ENCODED], outputs[:, DRAWN]
        judged = functional.softplus(encoded).mean() + functional.softplus(-drawn).mean()
        return error + self.config.adversary * judged / math.sqrt(self.n_values)

    def calibrate(self, outputs: Outputs) -> dict[str, float]:
        """Pixel variance, median and spread on validation images."""
        variance = {"variance": max(float(outputs.values[:, ERROR].mean()), _LEAST)}
        return {**variance, **fit_robust(self._score(outputs.values, variance))}

    def answer(self, values: Floats, calibration: Mapping[str, float]) -> Answer:
        """Anomaly score (B,)."""
        return Answer(anomaly=in_spreads(self._score(values, calibration), calibration))

    def metrics(self, outputs: Outputs, calibration: Mapping[str, float]) -> dict[str, float]:
        """Bound per pixel, reconstruction error and distance of the code from its prior."""
        error = max(float(outputs.values[:, ERROR].mean()), _LEAST)
        code = float(outputs.values[:, CODE].mean())
        bound = 0.5 * math.log(error) + code / self.n_values
        return {"loss": bound, "reconstruction_rms": math.sqrt(error), "code": code}

    def _score(self, values: Floats, calibration: Mapping[str, float]) -> Floats:
        half = 0.5 * self.n_values / calibration["variance"]
        score: Floats = half * values[:, ERROR] + values[:, CODE]
        return score


class Decoding(nn.Module):
    """Features to a code, the code to an image; says how far off both are."""

    sees_image = True

    def __init__(
        self, config: "Config", n_features: int, image_shape: tuple[int, int, int]
    ) -> None:
        super().__init__()
        self.is_variational = config.method == "vae"
        n_code = config.latent * (2 if self.is_variational else 1)
        self.encode = nn.Linear(n_features, n_code)
        self.decode = Decoder(config.latent, config.width, image_shape)
        self.adversary = None if self.is_variational else discriminator(config.latent)

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """Outputs (B, 4) of features (B, F) and images (B, C, H, W)."""
        if self.adversary is None:
            code, distance = self._variational(features)
            encoded = drawn = torch.zeros_like(distance)
        else:
            code = self.encode(features)
            distance = 0.5 * code.square().sum(dim=1)
            prior = torch.randn_like(code) if self.training else torch.zeros_like(code)
            encoded = self.adversary(reversed_gradient(code))[:, 0]
            drawn = self.adversary(prior)[:, 0]
        error = (self.decode(code) - image).square().mean(dim=(1, 2, 3))
        return torch.stack((error, distance, encoded, drawn), dim=1)

    def _variational(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Code (B, L), drawn while training, and its divergence (B,) from the prior."""
        mean, log_variance = self.encode(features).chunk(2, dim=1)
        log_variance = log_variance.clamp(*_LOG_VARIANCE)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=1)
        if not self.training:
            return mean, divergence
        return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean), divergence


class Decoder(nn.Module):
    """Codes (B, L) to images (B, C, H, W): upsample and convolve until the image is covered."""

    def __init__(self, latent: int, width: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        n_channels, self.height, self.width = image_shape
        n_doublings = max(0, math.ceil(math.log2(max(self.height, self.width) / _FIRST)))
        widths = [width * 2 ** min(k, 3) for k in range(n_doublings, -1, -1)]
        self.first = nn.Sequential(
            nn.Linear(latent, widths[0] * _FIRST**2), nn.Unflatten(1, (widths[0], _FIRST, _FIRST))
        )
        stages: list[nn.Module] = []
        for before, after in pairwise(widths):
            stages += [
                nn.BatchNorm2d(before),
                nn.GELU(),
                nn.Upsample(scale_factor=2),
                nn.Conv2d(before, after, 3, padding=1),
            ]
        self.stages = nn.Sequential(*stages)
        self.last = nn.Sequential(
            nn.BatchNorm2d(widths[-1]), nn.GELU(), nn.Conv2d(widths[-1], n_channels, 3, padding=1)
        )

    def forward(self, code: Tensor) -> Tensor:
        """The middle of a square whose side is the next power of two."""
        drawn: Tensor = self.last(self.stages(self.first(code)))
        top, left = (drawn.shape[-2] - self.height) // 2, (drawn.shape[-1] - self.width) // 2
        return drawn[..., top : top + self.height, left : left + self.width]
