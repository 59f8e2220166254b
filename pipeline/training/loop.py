"""The training loop: batches in, weights out; evaluated every epoch, resumable at every step.

Order, augmentation and dropout depend on (seed, epoch, step) alone, so a run that was killed and
resumed on a CPU gives the same bits as one that was not.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import batched
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from pipeline.checkpoint.network import Network
from pipeline.core.errors import TrainingError
from pipeline.core.logs import get_logger, progress
from pipeline.core.seeding import RunStream, image_rng
from pipeline.dataset.loader import Batch, Batches
from pipeline.tasks.base import NeedsBatch, TargetTransform, Task, keeps_last
from pipeline.training.accelerator import Accelerator
from pipeline.training.config import TrainingConfig
from pipeline.training.fitted import fit_at_once
from pipeline.training.journal import Journal, Row
from pipeline.training.optimiser import learning_rate, set_learning_rate
from pipeline.training.outputs import SplitOutputs, split_outputs
from pipeline.training.state import Learner, Position

#: Writes a network as the run's checkpoint: network, position, validation outputs, metrics.
Keep = Callable[[Network, Position, SplitOutputs, dict[str, float]], None]
#: Told the number of finished epochs and the monitored metric of the last one, once that is saved;
#: what it raises ends the session there, and a later one goes on.
Watch = Callable[[int, float], None]

logger = get_logger("training")

#: Steps between two looks at the loss, each of which waits for the device.
CHECK_EVERY = 20
#: Images of a bad batch named in the error.
NAMED_IMAGES = 8
#: What to do when numbers are lost.
ADVICE = (
    "the best weights so far are kept. Lower optimiser.learning_rate or optimiser.clip, or look "
    "for faulty images"
)


@dataclass(frozen=True)
class Parts:
    """What the loop works with; nothing here changes but the torch objects inside."""

    config: TrainingConfig
    accelerator: Accelerator
    network: Network
    task: Task
    learner: Learner
    train: Batches
    val: Batches
    journal: Journal
    targets: tuple[TargetTransform, ...] = ()
    settle: Callable[[Network], None] = lambda _: None  # called before a network is judged

    @property
    def judged(self) -> Network:
        """Network that is evaluated and kept: the average of the weights, if there is one."""
        average = self.learner.average
        if isinstance(average, AveragedModel):
            module = average.module
            assert isinstance(module, Network)
            return module
        return self.network


@dataclass
class Clock:
    """Training time over all sessions, and how far the run is.

    ``wall_offset`` and ``core_offset`` turn the readings of this process's clocks into that time.
    """

    n_steps: int
    max_seconds: float | None
    max_core_seconds: float | None
    wall_offset: float
    core_offset: float

    @classmethod
    def of(cls, parts: Parts, position: Position) -> Self:
        """Clock of a run that goes on at ``position``."""
        config = parts.config
        wall, core = config.max_minutes, config.max_core_minutes
        return cls(
            n_steps=config.epochs * -(-parts.train.n_steps // config.accumulate),
            max_seconds=None if wall is None else 60.0 * wall,
            max_core_seconds=None if core is None else 60.0 * core,
            wall_offset=position.elapsed - time.monotonic(),
            core_offset=position.core_elapsed - time.process_time(),
        )

    @property
    def elapsed(self) -> float:
        """Seconds of training, this session and those before."""
        return self.wall_offset + time.monotonic()

    @property
    def core_elapsed(self) -> float:
        """Seconds of processor time, all threads of this process, in all sessions."""
        return self.core_offset + time.process_time()

    @property
    def has_budget(self) -> bool:
        """Whether time may end the run."""
        return self.max_seconds is not None or self.max_core_seconds is not None

    def progress(self, step: int) -> float:
        """Larger of the step fraction and, under a time budget, the time fraction."""
        fraction = step / self.n_steps
        if self.max_seconds is not None:
            fraction = max(fraction, self.elapsed / self.max_seconds)
        if self.max_core_seconds is not None:
            fraction = max(fraction, self.core_elapsed / self.max_core_seconds)
        return fraction

    def stamp(self, position: Position) -> None:
        """Write the time so far into a position."""
        position.elapsed, position.core_elapsed = self.elapsed, self.core_elapsed


def train(
    parts: Parts,
    position: Position,
    *,
    keep: Keep,
    save: Callable[[Position], None],
    save_every: float,
    watch: Watch | None = None,
) -> None:
    """Train until the epochs, the time or the patience are used up.

    Parameters
    ----------
    parts : Parts
    position : Position
        Where to start; moved along in place.
    keep : callable
        Called with the validation outputs and metrics whenever the monitored metric improves.
    save : callable
        Writes the resume state.
    save_every : float
        Seconds between two calls of ``save`` inside an epoch.
    watch : callable, optional

    Raises
    ------
    TrainingError
        If the loss, or an answer on the validation split, is no longer finite.
    """
    clock = Clock.of(parts, position)
    with torch.random.fork_rng(devices=parts.accelerator.cuda_devices):
        while not position.finished:
            if parts.network.backbone.is_fitted:
                _fit(parts)
            else:
                run_epoch(parts, position, clock, save, save_every)
            if parts.accelerator.is_first:
                value = _evaluate(parts, position, clock, keep)
                position.epoch, position.epoch_step = position.epoch + 1, 0
                position.loss_sum, position.loss_steps = 0.0, 0
                position.finished = _reason_to_stop(parts, position, clock)
                clock.stamp(position)
                save(position)
                if watch is not None:
                    watch(position.epoch, value)
            position.move_to(parts.accelerator.agree(asdict(position)))


def _fit(parts: Parts) -> None:
    """Fit the network at once, and let the average of its weights be itself."""
    network, average = parts.network, parts.learner.average
    fit_at_once(network, parts.task, parts.targets, parts.train, parts.accelerator.device)
    if isinstance(average, AveragedModel):
        average.module.load_state_dict(network.state_dict())


def run_epoch(
    parts: Parts,
    position: Position,
    clock: Clock,
    save: Callable[[Position], None],
    save_every: float,
) -> None:
    """Train the rest of an epoch, saving now and then; moves the position along."""
    watch = LossWatch(position)
    saved = time.monotonic()
    size = parts.train.batch_size
    title = f"epoch {position.epoch + 1}/{parts.config.epochs}"
    with progress(title, parts.train.n_steps * size) as advance:
        advance(position.epoch_step * size)
        is_first = parts.accelerator.is_first
        for batches in batched(_batches(parts.train, position), parts.config.accumulate):
            fraction = clock.progress(position.step)
            if clock.has_budget:
                fraction = parts.accelerator.agree(fraction)
            if fraction >= 1.0:
                break
            watch.add(batches, _step(parts, batches, fraction, position.step))
            position.step += 1
            position.epoch_step += len(batches)
            n_own = sum(len(batch.index) for batch in batches)
            advance(n_own * parts.accelerator.group.size)
            if is_first and time.monotonic() - saved > save_every:
                watch.check()
                clock.stamp(position)
                save(position)
                saved = time.monotonic()
    watch.check()


def _batches(source: Batches, position: Position) -> Iterator[Batch]:
    if position.epoch_step < source.n_steps:
        yield from source.epoch(position.epoch, position.epoch_step)


def _step(parts: Parts, batches: Sequence[Batch], fraction: float, step: int) -> Tensor:
    """One optimiser step; returns the detached loss, still on the device."""
    config, learner = parts.config, parts.learner
    # Dropout is a function of (seed, step, process); child 0 of this stream drew the first weights.
    drawn = int(image_rng(config.seed, step + 1, RunStream.WEIGHTS).integers(2**62))
    torch.manual_seed(drawn + parts.accelerator.group.rank)
    peak = config.optimiser.learning_rate
    rate = learning_rate(fraction, peak, config.schedule, config.epochs)
    set_learning_rate(learner.optimiser, rate)
    if isinstance(parts.task, NeedsBatch):
        parts.task.progress = fraction
    loss = parts.accelerator.step(batches, config.optimiser.clip)
    if isinstance(learner.average, AveragedModel):
        learner.average.update_parameters(parts.network)
    return loss


class LossWatch:
    """Adds up the losses of an epoch and stops at one that is not finite."""

    def __init__(self, position: Position) -> None:
        self._position = position
        self._recent: list[tuple[list[Tensor], Tensor]] = []

    def add(self, batches: Sequence[Batch], loss: Tensor) -> None:
        """Remember a step; look at the values every ``CHECK_EVERY`` steps."""
        self._recent.append(([batch.index for batch in batches], loss))
        if len(self._recent) >= CHECK_EVERY:
            self.check()

    def check(self) -> None:
        """Add the remembered losses to the position.

        Raises
        ------
        TrainingError
            At the first loss that is not finite, naming step and images.
        """
        if not self._recent:
            return
        values = torch.stack([loss for _, loss in self._recent]).double().cpu()
        bad = torch.nonzero(~torch.isfinite(values)).flatten().tolist()
        if bad:
            indices = torch.cat(self._recent[bad[0]][0]).tolist()
            step = self._position.step - len(self._recent) + bad[0] + 1
            named = ", ".join(map(str, indices[:NAMED_IMAGES]))
            raise TrainingError(
                f"the loss became {values[bad[0]].item()} at step {step} (epoch "
                f"{self._position.epoch + 1}), in the batch of images {named}"
                + (", ..." if len(indices) > NAMED_IMAGES else "")
                + "; "
                + ADVICE
            )
        # One by one: the sum must not depend on where the checks fall.
        for value in values.tolist():
            self._position.loss_sum += value
        self._position.loss_steps += len(self._recent)
        self._recent.clear()


def _evaluate(
    parts: Parts,
    position: Position,
    clock: Clock,
    keep: Keep,
) -> float:
    """Judge the network on the validation split, write a row, keep it if it is the best."""
    trained, core = clock.elapsed, clock.core_elapsed
    parts.settle(parts.judged)
    found = split_outputs(parts.judged, parts.val, parts.accelerator.device)
    if not np.isfinite(found.outputs.values).all():
        raise TrainingError(
            f"after step {position.step} (epoch {position.epoch + 1}) the network's answers on "
            "the validation split are no longer finite; " + ADVICE
        )
    metrics = parts.task.metrics(found.outputs, parts.task.uncalibrated)
    value = metrics[parts.task.monitor]
    is_best = keeps_last(parts.task) or _is_better(
        value, position.best, parts.task.higher_is_better
    )
    if is_best:
        position.best, position.best_epoch, position.stale = value, position.epoch + 1, 0
        keep(parts.judged.eval(), position, found, metrics)
        parts.judged.train()
    else:
        position.stale += 1
    n_steps = position.loss_steps
    row: Row = {
        "epoch": position.epoch + 1,
        "step": position.step,
        "seconds": round(trained, 3),
        "core_seconds": round(core, 3),
        "learning_rate": parts.learner.optimiser.param_groups[0]["lr"],
        "train_loss": position.loss_sum / n_steps if n_steps else None,
        **{f"val_{name}": number for name, number in metrics.items()},
    }
    parts.journal.add(row)
    logger.info(
        "epoch %d: train loss %.4f, val %s %.4f%s, %.0f s",
        position.epoch + 1,
        row["train_loss"] or float("nan"),
        parts.task.monitor,
        value,
        " (best)" if is_best else f" (best {position.best:.4f})" if position.best else "",
        trained,
    )
    return value


def _is_better(value: float, best: float | None, higher: bool) -> bool:
    if value != value:  # NaN: the metric has no value on this split
        return False
    return best is None or (value > best if higher else value < best)


def _reason_to_stop(parts: Parts, position: Position, clock: Clock) -> str:
    config = parts.config
    if parts.network.backbone.is_fitted:
        return "fitted to the training images at once"
    if position.epoch >= config.epochs:
        return f"all {config.epochs} epochs done"
    if clock.progress(position.step) >= 1.0:
        return f"the time budget of {_budget(config)} is used up"
    if config.patience is not None and position.stale >= config.patience:
        return f"no better {parts.task.monitor} for {config.patience} epochs"
    return ""


def _budget(config: TrainingConfig) -> str:
    wall, core = config.max_minutes, config.max_core_minutes
    named = [] if wall is None else [f"{wall:g} minutes"]
    return " or ".join(named + ([] if core is None else [f"{core:g} minutes of one core"]))
