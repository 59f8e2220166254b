"""What is exported: from an image in its unit to the calibrated answer, as one torch module.

The first part repeats :class:`pipeline.dataset.preprocess.Preprocess` in torch operations and in
its precisions; every export is compared with the original before it is kept.
"""

import copy
import dataclasses

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.checkpoint.load import Run
from pipeline.checkpoint.network import Network
from pipeline.checkpoint.novelty import Novelty, describe, reference_arrays
from pipeline.core.errors import ExportError
from pipeline.dataset.preprocess import (
    MAD_TO_SIGMA,
    SIGMA_FLOOR,
    Preprocess,
    Stretch,
    border_pixels,
)

#: Outputs of every graph, in order; those of :class:`Answer` that the task gives follow.
OUTPUTS = ("values", "description", "distance", "novelty")


class Graph(nn.Module):
    """Images (B, C, H, W) in their unit to :data:`OUTPUTS` and the answers of the task."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        network = copy.deepcopy(run.network).to(memory_format=torch.contiguous_format)
        self.n_channels, self.size = run.spec.in_channels, run.spec.image_size
        self.normalised = Normalised(run.preprocess)
        self.backbone = network.backbone.plain()
        self.head, self.sees_image = network.head, network.sees_image
        self.familiar = Familiar(run.novelty)
        self.task, self.calibration = run.task, dict(run.spec.calibration)
        self.answers = self._answers(network)
        self.eval()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what :meth:`forward` returns."""
        return (*OUTPUTS, *self.answers)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Raw outputs (B, O), descriptions (B, D), distance and novelty (B,), then the answers."""
        prepared = self.normalised(image)
        features = self.backbone(prepared)
        values = self.head(features, prepared) if self.sees_image else self.head(features)
        description = describe(prepared, features)
        answer = self.task.answer(values.double(), self.calibration)
        told = (getattr(answer, name).float() for name in self.answers)
        return values, description, *self.familiar(description), *told

    def _answers(self, network: Network) -> tuple[str, ...]:
        """Fields of :class:`Answer` that the task gives."""
        with torch.inference_mode():
            values = network(torch.zeros(2, self.n_channels, self.size, self.size)).double()
            try:
                answer = self.task.answer(values, self.calibration)
            except (TypeError, RuntimeError) as error:
                raise ExportError(f"the answer of this task takes no tensors: {error}") from error
        names = (field.name for field in dataclasses.fields(answer))
        return tuple(name for name in names if getattr(answer, name) is not None)


class Normalised(nn.Module):
    """The preprocessing of a checkpoint."""

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.stretch, self.softening = preprocess.stretch, preprocess.softening
        self.clip, self.is_fixed = preprocess.clip, preprocess.normalise == "fixed"
        place = np.arange(preprocess.size**2, dtype=np.float64)  # exact
        flat = border_pixels(place.reshape(1, 1, preprocess.size, preprocess.size))
        constants = {
            "border": flat.ravel().astype(np.int64),
            "background": np.array(preprocess.background, np.float64)[:, None, None],
            "sigma": np.array(preprocess.sigma, np.float64)[:, None, None],
            "offset": np.array(preprocess.offset, np.float32)[:, None, None],
            "scale": np.array(preprocess.scale, np.float32)[:, None, None],
        }
        for name, value in constants.items():
            self.register_buffer(name, torch.from_numpy(value))

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, C, H, W) float32, as ``Preprocess.apply``."""
        if self.is_fixed:
            background, sigma = self.get_buffer("background"), self.get_buffer("sigma")
        else:
            background, sigma = self._border_statistics(image)
        x = (image.double() - background).float()
        x = (x.double() / sigma).float()
        x = torch.cat([_stretched(x, kind, self.softening) for kind in self.stretch], dim=1)
        x = (x - self.get_buffer("offset")) / self.get_buffer("scale")
        return x.clamp(-self.clip, self.clip)

    def _border_statistics(self, image: Tensor) -> tuple[Tensor, Tensor]:
        flat = image.flatten(2)
        border = flat[..., self.get_buffer("border")]
        background = _median(border)
        deviation = (border.double() - background).float().abs()
        spread = (flat.amax(dim=2) - flat.amin(dim=2)).double()[..., None]
        floor = torch.where(spread > 0, SIGMA_FLOOR * spread, torch.ones_like(spread))
        sigma = torch.maximum(MAD_TO_SIGMA * _median(deviation), floor)
        return background[..., None], sigma[..., None]


class Familiar(nn.Module):
    """Distance and novelty of descriptions, in float64."""

    def __init__(self, novelty: Novelty) -> None:
        super().__init__()
        self.n_features = len(novelty.features.mean)
        for name, value in reference_arrays(novelty).items():
            self.register_buffer(name, torch.from_numpy(value))

    def forward(self, description: Tensor) -> tuple[Tensor, Tensor]:
        """Distance (B,) float64, and the fraction (B,) of validation images closer, float32."""
        exact = description.double()
        distance = torch.maximum(
            self._distance(exact[:, : self.n_features], "features"),
            self._distance(exact[:, self.n_features :], "statistics"),
        )
        closer = self.get_buffer("val_distances") < distance[:, None]
        return distance, closer.float().mean(dim=1)

    def _distance(self, values: Tensor, part: str) -> Tensor:
        names = (f"{part}_{name}" for name in ("mean", "std", "factor"))
        mean, std, factor = map(self.get_buffer, names)
        return (((values - mean) / std) @ factor).square().sum(dim=1).sqrt()


def _median(values: Tensor) -> Tensor:
    """Median over the last axis, which stays with length 1; float64."""
    n = values.shape[-1]
    largest = values.topk(n - (n - 1) // 2, dim=-1).values  # ends with the middle
    middle = [n - 1 - place for place in ((n - 1) // 2, n // 2)]
    return largest[..., middle].double().mean(dim=-1, keepdim=True)


def _stretched(x: Tensor, kind: Stretch, softening: float) -> Tensor:
    if kind == "linear":
        return x
    t = x / softening
    if kind == "asinh":
        return torch.asinh(t)
    size = t.abs()
    bent = torch.sqrt(1.0 + size) - 1.0 if kind == "sqrt" else torch.log1p(size)
    return bent * torch.sign(t)
