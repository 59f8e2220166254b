"""Two sides of one loss: gradients that are turned round (Ganin et al. 2016), and who judges."""

from typing import Any

import torch
from torch import Tensor, nn


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: Tensor, weight: float) -> Tensor:  # Any: of torch
        context.weight = weight
        return value.view_as(value)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -context.weight * gradient, None


def reversed_gradient(value: Tensor, weight: float = 1.0) -> Tensor:
    """``value`` as it is; its gradient comes back times ``-weight``.

    One optimiser then trains an adversary to lower a loss and whatever feeds it to raise it.
    """
    turned: Tensor = _Reversed.apply(value, weight)
    return turned


def discriminator(n_inputs: int, width: int = 128) -> nn.Sequential:
    """Three layers from vectors (B, n_inputs) to one logit each (B, 1)."""
    return nn.Sequential(
        nn.Linear(n_inputs, width),
        nn.LeakyReLU(0.2),
        nn.Linear(width, width),
        nn.LeakyReLU(0.2),
        nn.Linear(width, 1),
    )
