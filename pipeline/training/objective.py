"""What a training step lowers: a network, its task's loss, and both in one module.

One module, so that mixed precision, compilation and several processes see all of it.
"""

from torch import Tensor, nn

from pipeline.checkpoint.network import Network
from pipeline.dataset.loader import Batch
from pipeline.tasks.base import Task


class Objective(nn.Module):
    """A batch in, the scalar loss out."""

    def __init__(self, network: Network, task: Task) -> None:
        super().__init__()
        self.network = network
        self._task = task

    def forward(self, batch: Batch) -> Tensor:
        """Loss of a batch, averaged over its images."""
        return self._task.loss(self.network(batch.image), batch.label, batch.target)
