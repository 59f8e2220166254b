"""What the trainer costs: ``deeplense bench train``.

Time per optimiser step of the training loop beside that of a bare PyTorch loop: the same network,
the same batches in memory, the same optimiser and clipping, taking turns. The loop adds to a bare
one what makes a run resumable: a seed for every step, the schedule, the watch on the loss, the
progress line and mixed precision's wrapping.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from pipeline.benchmark.rows import Row, Rows
from pipeline.checkpoint.network import Network, build_network
from pipeline.core.logs import progress
from pipeline.dataset.loader import Batch
from pipeline.models.base import MODELS
from pipeline.tasks.base import Task
from pipeline.training.accelerator import Accelerator
from pipeline.training.config import TrainingConfig
from pipeline.training.journal import Journal
from pipeline.training.loop import Clock, Parts, run_epoch
from pipeline.training.objective import Objective
from pipeline.training.optimiser import make_optimiser
from pipeline.training.state import Learner, Position

#: Model, variant, image side, batch size, steps in a turn: the tiny network of the demo, and one so
#: small that nothing hides the trainer.
CASES = (("lens_hybrid", "tiny", 64, 64, 5), ("lens_hybrid", "mini", 32, 16, 60))
_CLASSES = ("no", "subhalo", "vortex")
_TURNS = 7


def run(*, quick: bool) -> Rows:
    """Measure the trainer's own time.

    Parameters
    ----------
    quick : bool
        Few steps of the smaller network, for a smoke test.
    """
    cases = CASES[1:] if quick else CASES
    rows: list[Row] = []
    with progress("bench train", len(cases)) as advance, tempfile.TemporaryDirectory() as folder:
        for kind, variant, side, batch_size, n in cases:
            n_steps = 3 if quick else n
            bare, ours = _measure(kind, variant, side, batch_size, n_steps, Path(folder))
            name = f"{kind}/{variant}, {batch_size} images of {side} pixels"
            rows.append(Row(f"bare loop, {name}", 1e3 * bare, "ms/step"))
            rows.append(Row(f"trainer, {name}", 1e3 * ours, "ms/step", ours / bare, "bare loop"))
            advance()
    note = (
        f"wall time, {torch.get_num_threads()} threads, {_TURNS} turns of each, the fastest; the "
        "batches lie in memory"
    )
    return Rows(tuple(rows), (note,))


class _Held:
    """Batches in memory, handed out again and again."""

    def __init__(self, batches: list[Batch], n_steps: int) -> None:
        self._batches, self._n_steps = batches, n_steps
        self.batch_size = len(batches[0].index)

    @property
    def n_images(self) -> int:
        return self._n_steps * self.batch_size

    @property
    def n_steps(self) -> int:
        return self._n_steps

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        for step in range(start_step, self._n_steps):
            yield self._batches[step % len(self._batches)]


def _measure(
    kind: str, variant: str, side: int, batch_size: int, n_steps: int, folder: Path
) -> tuple[float, float]:
    """Seconds per step of the bare loop and of the trainer."""
    config = TrainingConfig(
        model=MODELS.load(kind).VARIANTS[variant],
        epochs=1000,
        batch_size=batch_size,
        loggers=(),
        precision="32-true",
    )
    source = _Held(_batches(side, batch_size), n_steps)
    loops = (_bare_loop(config, source, side), _own_loop(config, source, side, folder))
    spent: tuple[list[float], list[float]] = ([], [])
    for loop in loops:
        loop()
    for _ in range(_TURNS):
        for loop, seconds in zip(loops, spent, strict=True):
            start = time.perf_counter()
            loop()
            seconds.append((time.perf_counter() - start) / n_steps)
    return min(spent[0]), min(spent[1])


def _bare_loop(config: TrainingConfig, source: _Held, side: int) -> Callable[[], None]:
    network, task = _network(config, side)
    optimiser = make_optimiser(network, config.optimiser)
    network.train()
    layout = network.memory_format

    def loop() -> None:
        for batch in source.epoch(0):
            image = batch.image.to(memory_format=layout)
            loss = task.loss(network(image), batch.label, batch.target)
            loss.backward()  # type: ignore[no-untyped-call]
            if config.optimiser.clip is not None:
                torch.nn.utils.clip_grad_norm_(network.parameters(), config.optimiser.clip)
            optimiser.step()
            optimiser.zero_grad()

    return loop


def _own_loop(config: TrainingConfig, source: _Held, side: int, folder: Path) -> Callable[[], None]:
    network, task = _network(config, side)
    optimiser = make_optimiser(network, config.optimiser)
    accelerator = Accelerator("cpu", config.precision)
    accelerator.setup(Objective(network, task), optimiser)
    parts = Parts(
        config=config,
        accelerator=accelerator,
        network=network,
        task=task,
        learner=Learner(network, optimiser, None, None, accelerator.fabric.strategy.precision),
        train=source,
        val=source,
        journal=Journal(config, folder, 0, 0),
    )
    position = Position()

    def loop() -> None:
        clock = Clock.of(parts, position)
        run_epoch(parts, position, clock, _save_nothing, save_every=1e9)
        position.epoch, position.epoch_step = position.epoch + 1, 0

    return loop


def _network(config: TrainingConfig, side: int) -> tuple[Network, Task]:
    return build_network(
        config.model, config.task, in_channels=1, image_size=side, class_names=_CLASSES, targets=()
    )


def _batches(side: int, batch_size: int) -> list[Batch]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(4):
        image = torch.from_numpy(rng.normal(size=(batch_size, 1, side, side)).astype(np.float32))
        label = torch.from_numpy(rng.integers(0, len(_CLASSES), batch_size))
        index = torch.arange(batch_size)
        found.append(Batch(image, label, torch.empty((batch_size, 0)), index))
    return found


def _save_nothing(position: Position) -> None:
    """Leave no resume state behind."""
