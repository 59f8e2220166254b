"""Batches of a split, in an order that is a pure function of (seed, epoch): nothing to remember.

Whole shards are read in order and images shuffled inside a window of shards that fits in memory,
so random reads never reach the disk. A dataset smaller than the window is shuffled as a whole and
decoded once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.core.seeding import RunStream, image_rng
from pipeline.dataset.preprocess import Preprocess
from pipeline.dataset.store import Dataset

if TYPE_CHECKING:
    import torch

#: Decoded images kept in memory at once, bytes.
WINDOW_BYTES = 2 * 1024**3
#: Batches prepared ahead of the trainer.
PREFETCH = 3


@dataclass(frozen=True)
class Batch:
    """What a model is shown: tensors, images prepared for the network."""

    image: torch.Tensor  # (B, C, H, W) float32
    label: torch.Tensor  # (B,) int64
    target: torch.Tensor  # (B, T) float32
    index: torch.Tensor  # (B,) int64


@dataclass
class BatchSource:
    """Batches of one split of one dataset.

    Parameters
    ----------
    dataset : Dataset
    split : str
        ``train``, ``val`` or ``test``. Train is shuffled, the others come in order.
    preprocess : Preprocess
    batch_size : int
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
    drop_last : bool
        Leave out a last batch that is not full.
    """

    dataset: Dataset
    split: str
    preprocess: Preprocess
    batch_size: int
    seed: int
    target_names: tuple[str, ...] = ()
    augment: bool = False
    rotate: bool = True
    flip: bool = True
    max_shift: int = 0
    drop_last: bool = False
    window_bytes: int = WINDOW_BYTES
    _cache: dict[tuple[int, ...], tuple[NDArray[np.int64], NDArray[np.float32]]] = field(
        default_factory=dict, repr=False
    )

    def __post_init__(self) -> None:
        self._indices = self.dataset.indices(self.split)
        columns = [self.dataset.truth(name) for name in self.target_names]
        shape = (self.dataset.n_images, len(columns))
        self._targets = np.column_stack(columns) if columns else np.empty(shape)

    @property
    def n_images(self) -> int:
        """Images in the split."""
        return len(self._indices)

    @property
    def n_steps(self) -> int:
        """Batches in an epoch."""
        n = self.n_images
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of ``epoch`` from ``start_step`` on, prepared in the background."""
        return _prefetch(self._batches(epoch, start_step))

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Image numbers in the order in which ``epoch`` shows them."""
        windows = self._windows(epoch)
        return np.concatenate([self._window_order(w, epoch, k) for k, w in enumerate(windows)])

    def _batches(self, epoch: int, start_step: int) -> Iterator[Batch]:
        turn, shift = self._augmentation(epoch)
        skip, held = start_step * self.batch_size, np.empty(0, np.int64)
        images = np.empty((0, *self.dataset.image_shape), np.float32)
        steps_left = self.n_steps - start_step
        windows = self._windows(epoch)
        for k, window in enumerate(windows):
            order = self._window_order(window, epoch, k)
            if skip >= len(order):
                skip -= len(order)
                continue
            order, skip = order[skip:], 0
            known, decoded = self._decode(window)
            rows = np.searchsorted(known, order)
            is_last = k == len(windows) - 1
            position = 0
            while position < len(order) and steps_left:
                take = min(self.batch_size - len(held), len(order) - position)
                part = slice(position, position + take)
                held = np.concatenate([held, order[part]])
                images = np.concatenate([images, decoded[rows[part]]])
                position += take
                if len(held) < self.batch_size and not (is_last and position == len(order)):
                    break
                yield self._batch(held, images, turn, shift)
                held, images, steps_left = held[:0], images[:0], steps_left - 1

    def _batch(
        self,
        index: NDArray[np.int64],
        images: NDArray[np.float32],
        turn: NDArray[np.int64],
        shift: NDArray[np.int64],
    ) -> Batch:
        import torch

        if self.augment:
            images = turn_images(images, turn[index])
            images = shift_images(images, shift[index])
        return Batch(
            image=torch.from_numpy(np.ascontiguousarray(self.preprocess.apply(images))),
            label=torch.from_numpy(self.dataset.labels[index].astype(np.int64)),
            target=torch.from_numpy(self._targets[index].astype(np.float32)),
            index=torch.from_numpy(index),
        )

    def _windows(self, epoch: int) -> list[tuple[int, ...]]:
        """Shards that are in memory together, in the order in which they are used."""
        size = self.dataset.shard_size
        shards = np.unique(self._indices // size)
        image_bytes = 4 * int(np.prod(self.dataset.image_shape))
        per_window = max(1, self.window_bytes // (size * image_bytes))
        if self.split == "train" and len(shards) > per_window:
            shards = image_rng(self.seed, epoch, RunStream.SHUFFLE).permutation(shards)
        return [
            tuple(shards[i : i + per_window].tolist()) for i in range(0, len(shards), per_window)
        ]

    def _window_order(self, window: tuple[int, ...], epoch: int, k: int) -> NDArray[np.int64]:
        inside = np.isin(self._indices // self.dataset.shard_size, window)
        order = self._indices[inside]
        if self.split != "train":
            return order
        # One child per window, so the order of a window does not depend on those before it.
        rng = image_rng(self.seed, epoch, RunStream.SHUFFLE).spawn(k + 1)[k]
        return rng.permutation(order)

    def _decode(self, window: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Image numbers (ascending) and images of the split in a window; the last one is kept."""
        if window in self._cache:
            return self._cache[window]
        self._cache.clear()
        size, parts, numbers = self.dataset.shard_size, [], []
        for shard in sorted(window):
            index = self._indices[self._indices // size == shard]
            rows = self.dataset.rows(shard)
            parts.append(self.dataset.read_images(rows)[index - rows.start])
            numbers.append(index)
        self._cache[window] = np.concatenate(numbers), np.concatenate(parts)
        return self._cache[window]

    def _augmentation(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Symmetry (0..7) and shift of every image of the dataset in this epoch."""
        rng = image_rng(self.seed, epoch, RunStream.AUGMENT)
        n = self.dataset.n_images
        turn = rng.integers(0, 8, n)
        turn = turn % 4 * self.rotate + turn // 4 * 4 * self.flip
        return turn, rng.integers(-self.max_shift, self.max_shift + 1, (n, 2))


def turn_images(images: NDArray[np.float32], turn: NDArray[np.int64]) -> NDArray[np.float32]:
    """Apply symmetry ``turn`` of the square: ``turn % 4`` quarter turns, then from 4 on a flip."""
    out = np.empty_like(images)
    for code in np.unique(turn):
        chosen = turn == code
        turned = np.rot90(images[chosen], code % 4, axes=(-2, -1))
        out[chosen] = turned[..., ::-1] if code >= 4 else turned
    return out


def shift_images(images: NDArray[np.float32], shift: NDArray[np.int64]) -> NDArray[np.float32]:
    """Move each image by whole pixels (y, x); what leaves on one side comes back on the other."""
    if not shift.any():
        return images
    out = np.empty_like(images)
    for move in np.unique(shift, axis=0):
        chosen = (shift == move).all(axis=1)
        out[chosen] = np.roll(images[chosen], tuple(move), axis=(-2, -1))
    return out


def _prefetch(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Run an iterator in a thread, a few items ahead; its errors surface where it is consumed."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        ahead = deque(pool.submit(next, batches, None) for _ in range(PREFETCH))
        while (batch := ahead.popleft().result()) is not None:
            ahead.append(pool.submit(next, batches, None))
            yield batch
