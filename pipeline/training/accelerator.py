"""Device, precision and processes of training; the only file that imports Lightning Fabric."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import TorchElasticEnvironment  # type: ignore[attr-defined]
from lightning_fabric.strategies import DDPStrategy, Strategy  # type: ignore[attr-defined]
from torch import Tensor, nn

from pipeline.checkpoint.load import resolve_device
from pipeline.core.cores import usable_cores
from pipeline.core.errors import ConfigError, TrainingError
from pipeline.dataset.loader import Batch
from pipeline.training.objective import Objective
from pipeline.training.processes import ALONE, Group

#: What torch says when memory of the CPU runs out: a plain RuntimeError.
_CPU_MEMORY = "DefaultCPUAllocator"


def use_available_cores(n_processes: int = 1) -> None:
    """Use no more torch threads than this process may run on (containers, schedulers)."""
    share = max(1, usable_cores() // n_processes)
    torch.set_num_threads(max(1, min(torch.get_num_threads(), share)))


class Accelerator:
    """The device of this process, its precision, and the processes it trains with.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; several processes take a GPU each.
    precision : str
        ``auto``, ``32-true``, ``bf16-mixed`` or ``16-mixed``.
    compiled : bool
        Compile the network with ``torch.compile``.
    group : Group
        Which of how many processes this is.
    """

    def __init__(
        self, device: str, precision: str, *, compiled: bool = False, group: Group = ALONE
    ) -> None:
        self.group = group
        self.device = _own_device(device, group)
        is_cuda = self.device.type == "cuda"
        self.precision = _automatic(self.device) if precision == "auto" else precision
        strategy: Strategy | str = "auto"
        if group.size > 1:
            strategy = DDPStrategy(
                cluster_environment=TorchElasticEnvironment(),
                process_group_backend="nccl" if is_cuda else "gloo",
            )
        one: list[int] | int = [self.device.index or 0] if is_cuda else 1
        self.fabric = Fabric(
            accelerator="cuda" if is_cuda else "cpu",
            devices=group.size if group.size > 1 else one,
            strategy=strategy,
            precision=self.precision,  # type: ignore[arg-type]  # a Literal of Fabric's own
        )
        self.fabric.launch()
        self._compiled = compiled

    @property
    def cuda_devices(self) -> list[int]:
        """Devices whose random state training uses."""
        return [self.device.index or 0] if self.device.type == "cuda" else []

    @property
    def is_first(self) -> bool:
        """Whether this process judges, keeps and saves."""
        return self.group.rank == 0

    def agree[Value](self, value: Value) -> Value:
        """Return the first process's value, in every process."""
        if self.group.size == 1:
            return value
        agreed: Value = self.fabric.broadcast(value, src=0)
        return agreed

    def setup(self, objective: Objective, optimiser: torch.optim.Optimizer) -> None:
        """Take charge of what is trained and of its optimiser."""
        module: nn.Module = objective
        if self.group.size > 1 and self.device.type == "cuda":
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        if self._compiled:
            objective.network.compile()  # in place: its weights keep their names
        self._module, self._optimiser = self.fabric.setup(module, optimiser)
        self._module.train()
        self._layout = objective.network.memory_format

    def step(self, batches: Sequence[Batch], clip: float | None) -> Tensor:
        """One step of the optimiser on one or more batches.

        Returns
        -------
        Tensor, shape ()
            Detached mean loss over all images of all processes, still on the device.

        Raises
        ------
        TrainingError
            If memory does not suffice; says what to lower.
        """
        try:
            return self._step(batches, clip)
        except torch.OutOfMemoryError as error:
            raise TrainingError(_memory_advice(batches)) from error
        except RuntimeError as error:
            if _CPU_MEMORY not in str(error):
                raise
            raise TrainingError(_memory_advice(batches)) from error

    def _step(self, batches: Sequence[Batch], clip: float | None) -> Tensor:
        losses = []
        for k, batch in enumerate(batches):
            is_last = k == len(batches) - 1
            waits = nullcontext() if is_last else self.fabric.no_backward_sync(self._module)
            with waits:
                loss = self._module(self._moved(batch))
                if len(batches) > 1:
                    loss = loss / len(batches)
                self.fabric.backward(loss)
            losses.append(loss.detach())
        if clip is not None:
            self.fabric.clip_gradients(
                self._module, self._optimiser, max_norm=clip, error_if_nonfinite=False
            )
        self._optimiser.step()
        self._optimiser.zero_grad()
        total = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        if self.group.size > 1:
            reduced = self.fabric.all_reduce(total, reduce_op="mean")
            assert isinstance(reduced, Tensor)
            return reduced
        return total

    def _moved(self, batch: Batch) -> Batch:
        """Return a batch on the device of this process."""

        def moved(value: Tensor, layout: torch.memory_format = torch.preserve_format) -> Tensor:
            return value.to(self.device, memory_format=layout, non_blocking=True)

        return Batch(
            image=moved(batch.image, self._layout),
            label=moved(batch.label),
            target=moved(batch.target),
            index=batch.index,
            extra={name: moved(value) for name, value in batch.extra.items()},
        )


def _own_device(device: str, group: Group) -> torch.device:
    chosen = resolve_device(device)
    if group.size == 1 or chosen.type != "cuda":
        return chosen
    if group.size > torch.cuda.device_count():
        raise ConfigError(
            f"{group.size} processes need {group.size} GPUs; this machine has "
            f"{torch.cuda.device_count()} (--device cpu trains without)"
        )
    return torch.device("cuda", group.rank)


def _memory_advice(batches: Sequence[Batch]) -> str:
    n_images = len(batches[0].index)
    return (
        f"not enough memory for a batch of {n_images} images; the best weights so far are kept. "
        f"Lower batch_size (and raise accumulate by as much: the step stays the same), take a "
        "smaller variant of the model, or precision bf16-mixed on a GPU"
    )


def _automatic(device: torch.device) -> str:
    if device.type != "cuda":
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported(False) else "16-mixed"
