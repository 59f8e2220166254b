"""Gradient summed on the way from an empty sky: integrated gradients (Sundararajan et al. 2017)."""

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from pipeline.core.config import StrictModel

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.explain.question import Question


class Config(StrictModel):
    """``n_steps`` of the midpoint rule."""

    kind: Literal["integrated_gradients"] = "integrated_gradients"
    n_steps: PositiveInt = 32


def heat(config: Config, question: "Question") -> "Tensor":
    """Size of each pixel's share, summed over channels (B, H, W)."""
    return shares(config, question).sum(dim=1).abs()


def shares(config: Config, question: "Question") -> "Tensor":
    """What each pixel adds to the answer for an empty sky (B, C, H, W); the sum is the rest of it.

    (x - x0) times the mean gradient between the empty sky x0 and the image x.
    """
    import torch

    away = question.prepared - question.blank
    total = torch.zeros_like(away)
    for step in range(config.n_steps):
        total += question.gradient(question.blank + (step + 0.5) / config.n_steps * away)
    return away * total / config.n_steps
