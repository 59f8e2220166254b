"""Device and precision of training, on Lightning Fabric; the only file that imports it."""

import os

import torch
from lightning_fabric import Fabric
from torch import Tensor

from pipeline.checkpoint.load import resolve_device
from pipeline.checkpoint.network import Network
from pipeline.dataset.loader import Batch
from pipeline.tasks.base import Task


def use_available_cores() -> None:
    """Use no more torch threads than this process may run on (containers, schedulers)."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(max(1, min(torch.get_num_threads(), allowed or 1)))


class Accelerator:
    """One device and its precision.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    precision : str
        ``auto``, ``32-true``, ``bf16-mixed`` or ``16-mixed``.
    """

    def __init__(self, device: str, precision: str) -> None:
        self.device = resolve_device(device)
        is_cuda = self.device.type == "cuda"
        self.precision = _automatic(self.device) if precision == "auto" else precision
        self.fabric = Fabric(
            accelerator="cuda" if is_cuda else "cpu",
            devices=[self.device.index or 0] if is_cuda else 1,
            precision=self.precision,  # type: ignore[arg-type]  # a Literal of Fabric's own
        )

    @property
    def cuda_devices(self) -> list[int]:
        """Devices whose random state training uses."""
        return [self.device.index or 0] if self.device.type == "cuda" else []

    def setup(self, network: Network, optimiser: torch.optim.Optimizer) -> None:
        """Take charge of a network and its optimiser."""
        self._module, self._optimiser = self.fabric.setup(network, optimiser)
        self._module.train()
        self._layout = network.memory_format

    def step(self, batch: Batch, task: Task, clip: float | None) -> Tensor:
        """One step of the optimiser on a batch; the detached loss, still on the device."""
        image = batch.image.to(self.device, memory_format=self._layout, non_blocking=True)
        label = batch.label.to(self.device, non_blocking=True)
        target = batch.target.to(self.device, non_blocking=True)
        loss = task.loss(self._module(image), label, target)
        self.fabric.backward(loss)
        if clip is not None:
            self.fabric.clip_gradients(
                self._module, self._optimiser, max_norm=clip, error_if_nonfinite=False
            )
        self._optimiser.step()
        self._optimiser.zero_grad()
        return loss.detach()


def _automatic(device: torch.device) -> str:
    if device.type != "cuda":
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported(False) else "16-mixed"
