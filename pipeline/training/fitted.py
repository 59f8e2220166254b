"""Train a network whose backbone is fitted at once: the backbone first, then the head on it.

The backbone sees four fifths of the training images and the head the other fifth, so that the head
is fitted to answers about images that the backbone has not seen.
"""

import numpy as np
import torch
from torch import Tensor

from pipeline.checkpoint.network import Network
from pipeline.core.logs import progress
from pipeline.dataset.loader import Batches
from pipeline.tasks.base import TargetTransform, Task

#: Every how many-th training image is the head's.
HEAD_SHARE = 5
#: Steps of L-BFGS, and the weight of the squared head weights that keeps them finite.
STEPS, RIDGE = 100, 1e-4


def fit_at_once(
    network: Network,
    task: Task,
    targets: tuple[TargetTransform, ...],
    source: Batches,
    device: torch.device,
) -> None:
    """Fit a network to its training images, each seen once.

    Parameters
    ----------
    network : Network
        Its backbone has ``is_fitted``; changed in place.
    task : Task
    targets : tuple of TargetTransform
        What the backbone sees of ``Batch.target``.
    source : Batches
        The train split.
    device : torch.device

    Raises
    ------
    ConfigError
        If the backbone cannot hold so many classes or targets.
    """
    description, label, target = _described(network, source, device)
    transformed = torch.from_numpy(
        np.stack([t.forward(target[:, i].numpy()) for i, t in enumerate(targets)], axis=1)
        if targets
        else np.empty((len(target), 0))
    )
    is_heads = torch.arange(len(label)) % HEAD_SHARE == 0
    network.backbone.fit(description[~is_heads], label[~is_heads], transformed[~is_heads])
    features = network.backbone.features_of(description[is_heads]).to(device)
    _fit_head(network, task, features, label[is_heads].to(device), target[is_heads].to(device))


def _described(
    network: Network, source: Batches, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Descriptions, labels and untransformed targets of the whole first epoch."""
    descriptions, labels, targets = [], [], []
    with progress("statistics", source.n_steps * source.batch_size) as advance:
        for batch in source.epoch(0):
            descriptions.append(network.backbone.describe(batch.image.to(device)))
            labels.append(batch.label)
            targets.append(batch.target)
            advance(len(batch.index))
    return torch.cat(descriptions), torch.cat(labels), torch.cat(targets)


def _fit_head(
    network: Network, task: Task, features: Tensor, label: Tensor, target: Tensor
) -> None:
    """Lower the task's own loss to its minimum over the head."""
    weights = list(network.head.parameters())
    optimiser = torch.optim.LBFGS(weights, max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimiser.zero_grad()
        loss = task.loss(network.head(features), label, target)
        loss = loss + RIDGE * torch.stack([w.square().sum() for w in weights]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    optimiser.zero_grad()
