"""Gradient averaged over noisy copies of the image: SmoothGrad (Smilkov et al. 2017)."""

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from pipeline.core.config import StrictModel
from pipeline.core.seeding import RunStream, image_rng

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.explain.question import Question


class Config(StrictModel):
    """``spread`` is the noise over the range of what the network sees."""

    kind: Literal["smooth_gradient"] = "smooth_gradient"
    n_copies: PositiveInt = 24
    spread: PositiveFloat = 0.1
    seed: NonNegativeInt = 0


def heat(config: Config, question: "Question") -> "Tensor":
    """Sum over channels of the mean gradient's size (B, H, W)."""
    import torch

    images = question.prepared
    span = images.amax(dim=(1, 2, 3), keepdim=True) - images.amin(dim=(1, 2, 3), keepdim=True)
    rng = image_rng(config.seed, 0, RunStream.EXPLAIN)
    total = torch.zeros_like(images)
    for _ in range(config.n_copies):
        noise = torch.from_numpy(rng.standard_normal(images.shape[1:]).astype("float32"))
        total += question.gradient(images + config.spread * span * noise.to(images.device))
    return total.abs().sum(dim=1)
