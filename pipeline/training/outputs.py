"""Run a network over a split, every image exactly once."""

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.checkpoint.load import network_outputs
from pipeline.checkpoint.network import Network
from pipeline.dataset.loader import Batches
from pipeline.tasks.base import Floats, Outputs


@dataclass(frozen=True)
class SplitOutputs:
    """Raw outputs with the truth, and descriptions (N, D) for novelty, in one order."""

    outputs: Outputs
    description: Floats


def split_outputs(network: Network, source: Batches, device: torch.device) -> SplitOutputs:
    """Outputs of every image of a source, with the network in evaluation mode meanwhile."""
    was_training = network.training
    network.eval()
    values, descriptions, labels, targets, index = [], [], [], [], []
    for batch in source.epoch(0):
        value, description = network_outputs(network, batch.image, device)
        values.append(value)
        descriptions.append(description)
        labels.append(batch.label.numpy())
        targets.append(batch.target.numpy().astype(np.float64))
        index.append(batch.index.numpy())
    network.train(was_training)
    outputs = Outputs(
        values=np.concatenate(values),
        labels=np.concatenate(labels),
        targets=np.concatenate(targets),
        index=np.concatenate(index),
    )
    return SplitOutputs(outputs, np.concatenate(descriptions))
