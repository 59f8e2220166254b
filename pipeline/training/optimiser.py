"""Optimiser, learning-rate schedule and weight averaging.

The learning rate is a pure function of progress, so there is no scheduler state to save.
"""

import math

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from pipeline.training.config import Optimiser, Schedule

#: As torch hands them to an averaging function.
Tensors = tuple[Tensor, ...] | list[Tensor]


def make_optimiser(network: nn.Module, config: Optimiser) -> torch.optim.Optimizer:
    """Build the optimiser, with weight decay on matrices and kernels only."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in network.parameters():
        # Vectors are biases and norms; a leading axis of one marks tokens and positions.
        is_weight = parameter.ndim >= 2 and parameter.shape[0] > 1
        (decayed if is_weight else plain).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    if config.name == "sgd":
        return torch.optim.SGD(
            groups,
            lr=config.learning_rate,
            momentum=config.momentum,
            nesterov=config.momentum > 0,
        )
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.learning_rate, betas=config.betas)


def learning_rate(progress: float, peak: float, schedule: Schedule, epochs: int = 1) -> float:
    """Learning rate at ``progress`` in [0, 1] of a run of ``epochs``."""
    if progress < schedule.warmup:
        done = progress / schedule.warmup
        if schedule.name == "one_cycle":
            return peak * _half_cosine(schedule.floor, 1.0, done)
        return peak * max(done, schedule.floor)
    if schedule.name == "constant":
        return peak
    if schedule.name == "step":
        # A hair more than the quotient: 1/3 of 30 epochs are ten, whatever the rounding.
        return peak * schedule.factor ** int(min(progress, 1.0) * epochs / schedule.every + 1e-9)
    left = (progress - schedule.warmup) / (1.0 - schedule.warmup)
    return peak * _half_cosine(1.0, schedule.floor, min(left, 1.0))


def set_learning_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    """Use ``value`` in every parameter group."""
    for group in optimiser.param_groups:
        group["lr"] = value


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of a network's weights and running statistics.

    The decay starts low, (1 + n) / (10 + n) after n updates, so that the first random weights are
    forgotten.
    """

    def update(mean: Tensors, current: Tensors, n_averaged: Tensor | int) -> None:
        n = float(n_averaged)
        weight = 1.0 - min(decay, (1.0 + n) / (10.0 + n))
        if mean[0].is_floating_point():
            torch._foreach_lerp_(mean, current, weight)
        else:
            torch._foreach_copy_(mean, current)

    return AveragedModel(network, multi_avg_fn=torch.no_grad()(update), use_buffers=True)


def _half_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * done))
