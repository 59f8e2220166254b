"""Batches of a stored split: read by number, augmented and prepared in the background.

Which images make up a batch is decided by ``order``, from (seed, epoch, step) alone; here they are
read, as mapped files where the shards lie on a local disk uncompressed, else decoded by zarr a
window at a time.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import DatasetError
from pipeline.dataset.augment import Augmentation
from pipeline.dataset.fitted import PlaneSource
from pipeline.dataset.noise import NOISELESS, NewNoise, exposing_config
from pipeline.dataset.order import BatchOrder
from pipeline.dataset.preprocess import Preprocess
from pipeline.dataset.reading import image_shards
from pipeline.dataset.shards import ShardCache
from pipeline.dataset.signal import SIGNAL, SignalSource
from pipeline.dataset.store import Dataset

if TYPE_CHECKING:
    import torch

    from pipeline.dataset.stream import Simulated

#: Images that are shuffled together, bytes; twice as many may be at hand.
WINDOW_BYTES = 256 * 1024**2
#: Batches prepared ahead of the trainer, at least.
PREFETCH = 3
#: Threads that prepare batches; more only wait for memory.
MAX_THREADS = 8


@dataclass(frozen=True)
class Batch:
    """What a model is shown: tensors, images prepared for the network.

    ``extra`` holds maps that the simulation knows, by name, each (B, C, H, W) float32: see
    ``online`` and ``signal``.
    """

    image: torch.Tensor  # (B, C, H, W) float32
    label: torch.Tensor  # (B,) int64
    target: torch.Tensor  # (B, T) float32
    index: torch.Tensor  # (B,) int64
    extra: dict[str, torch.Tensor] = field(default_factory=dict)


class Batches(Protocol):
    """Where a training loop gets its batches from, stored or simulated."""

    @property
    def batch_size(self) -> int:
        """Images in a batch, of all ranks together."""
        ...

    @property
    def n_images(self) -> int:
        """Images in an epoch."""
        ...

    @property
    def n_steps(self) -> int:
        """Batches in an epoch."""
        ...

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of ``epoch`` from ``start_step`` on."""
        ...


@dataclass
class BatchSource:
    """Batches of one split of one dataset.

    Parameters
    ----------
    dataset : Dataset
    split : str
        ``train``, ``val`` or ``test``. Train is shuffled, the others come in order.
    preprocess : Preprocess, optional
        Without it images stay as they are stored.
    batch_size : int
        Images in a batch, of all ranks together.
    seed : int
        Decides order and augmentation.
    target_names : tuple of str
        Truth columns that become ``Batch.target``, untransformed.
    augment : bool
        Apply one of the symmetries of the square to each image, and a shift.
    rotate, flip : bool
        Which symmetries: quarter turns, mirror images, or all eight.
    max_shift : int
        Largest shift along each axis, pixels.
    redraw_noise : bool
        Expose the noise-free images anew in every epoch, instead of reading the stored ones.
    signal : bool
        Carry the map of ``signal`` beside the images.
    drop_last : bool
        Leave out a last batch that is not full.
    window_bytes : int
        Images that are shuffled together; part of what decides the order.
    rank, n_ranks : int
        Every ``n_ranks``-th image of each batch, from the ``rank``-th on.
    n_threads : int, optional
        Threads that prepare batches; by default one for each core but one.
    pin : bool, optional
        Put batches into page-locked memory, which a GPU copies from without waiting; by default
        where there is a GPU.
    """

    dataset: Dataset
    split: str
    preprocess: Preprocess | None
    batch_size: int
    seed: int
    target_names: tuple[str, ...] = ()
    augment: bool = False
    rotate: bool = True
    flip: bool = True
    max_shift: int = 0
    redraw_noise: bool = False
    signal: bool = False
    drop_last: bool = False
    window_bytes: int = WINDOW_BYTES
    rank: int = 0
    n_ranks: int = 1
    n_threads: int | None = None
    pin: bool | None = None

    def __post_init__(self) -> None:
        self._exposing = exposing_config(self.dataset) if self.redraw_noise else None
        if self.redraw_noise and self.preprocess is not None and self.preprocess.smooth_fit:
            raise DatasetError(
                f"{self.dataset.path}: stored fits are those of the stored noise; new noise "
                "(redraw_noise) and smooth_fit do not go together"
            )
        size = self.dataset.shard_size
        image_bytes = 4 * int(np.prod(self.dataset.image_shape))
        self.plan = BatchOrder(
            indices=self.dataset.indices(self.split),
            shard_size=size,
            shards_per_window=max(1, self.window_bytes // (size * image_bytes)),
            batch_size=self.batch_size,
            seed=self.seed,
            shuffle=self.split == "train",
            drop_last=self.drop_last,
            rank=self.rank,
            n_ranks=self.n_ranks,
        )
        columns = [self.dataset.truth(name) for name in self.target_names]
        shape = (self.dataset.n_images, len(columns))
        targets = np.column_stack(columns) if columns else np.empty(shape)
        self._targets = targets.astype(np.float32)

    @property
    def n_images(self) -> int:
        """Images in the split."""
        return len(self.plan.indices)

    @property
    def n_steps(self) -> int:
        """Batches in an epoch."""
        return self.plan.n_steps

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Image numbers in the order in which ``epoch`` shows them."""
        return self.plan.order(epoch)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of ``epoch`` from ``start_step`` on, prepared in the background."""
        augmentation = Augmentation(
            self.seed, epoch, self.max_shift, rotate=self.rotate, flip=self.flip
        )
        noise = None
        if self._exposing is not None:
            noise = NewNoise(self._exposing, self.seed, epoch)
        n_threads = self.n_threads or default_threads()
        with ThreadPoolExecutor(1, thread_name_prefix="shards") as reader:

            def tasks() -> Iterator[Callable[[], Batch]]:
                for index, upcoming in self.plan.batches(epoch, start_step):
                    self.images.prefetch(upcoming, reader)
                    yield partial(self._batch, index, augmentation, noise)

            yield from in_order(tasks(), n_threads)

    def _batch(
        self, index: NDArray[np.int64], augmentation: Augmentation, noise: NewNoise | None
    ) -> Batch:
        import torch

        pin = torch.cuda.is_available() if self.pin is None else self.pin
        channels, height, width = self.dataset.image_shape
        is_raw = self.preprocess is None and not self.augment and noise is None
        out_channels = channels if self.preprocess is None else self.preprocess.out_channels
        tensor = torch.empty((len(index), out_channels, height, width), pin_memory=pin)
        out = tensor.numpy()
        images = out if is_raw else np.empty((len(index), channels, height, width), np.float32)
        self.images.gather(index, images)
        if noise is not None:
            images = noise.apply(images, index)
        if self._planes is not None:
            images = np.concatenate([images, self._planes.gather(index)], axis=1)
        extra = {SIGNAL: self._signal.gather(index)} if self._signal is not None else {}
        if self.augment:
            images = augmentation.apply(images, index)
            extra = {name: augmentation.apply(m, index) for name, m in extra.items()}
        if self.preprocess is not None:
            self.preprocess.apply(images, out=out)
        elif not is_raw:
            out[:] = images
        rest = (
            torch.from_numpy(self.dataset.labels[index].astype(np.int64)),
            torch.from_numpy(self._targets[index]),
            torch.from_numpy(index),
        )
        label, target, numbers = (t.pin_memory() for t in rest) if pin else rest
        maps = {name: torch.from_numpy(m) for name, m in extra.items()}
        return Batch(tensor, label, target, numbers, maps)

    @cached_property
    def _planes(self) -> PlaneSource | None:
        """Planes of the smooth-lens fits that the preprocessing wants."""
        if self.preprocess is None or self.preprocess.smooth_fit is None:
            return None
        return PlaneSource(self.dataset, self.preprocess.smooth_fit)

    @cached_property
    def _signal(self) -> SignalSource | None:
        if not self.signal:
            return None
        return SignalSource(self.dataset, self.preprocess.smooth_fit if self.preprocess else None)

    @cached_property
    def images(self) -> ShardCache:
        """Images by number, the shards of two windows at hand."""
        name = NOISELESS if self.redraw_noise else "images"
        return image_shards(self.dataset, 2 * self.window_bytes, name)


def to_batch(found: Simulated, *, pin: bool | None = None) -> Batch:
    """A simulated batch as tensors, page-locked where there is a GPU."""
    import torch

    pin = torch.cuda.is_available() if pin is None else pin

    def tensor(values: NDArray[Any]) -> torch.Tensor:
        made = torch.from_numpy(np.ascontiguousarray(values))
        return made.pin_memory() if pin else made

    return Batch(
        image=tensor(found.image),
        label=tensor(found.label),
        target=tensor(found.target),
        index=tensor(found.index),
        extra={name: tensor(values) for name, values in found.extra.items()},
    )


def default_threads() -> int:
    """Threads that prepare batches: the cores of this process but one, at most ``MAX_THREADS``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(MAX_THREADS, (cores or 1) - 1))


def in_order[Result](tasks: Iterator[Callable[[], Result]], n_threads: int) -> Iterator[Result]:
    """Run tasks in threads, a few ahead of the consumer; results come in order, errors with them.

    Parameters
    ----------
    tasks : iterator of callables
        Advanced by the consumer's own thread.
    n_threads : int
    """
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="batches")
    ahead: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            ahead.append(pool.submit(task))
            if len(ahead) >= n_threads + PREFETCH:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        for future in ahead:
            future.cancel()
        pool.shutdown(wait=True)
