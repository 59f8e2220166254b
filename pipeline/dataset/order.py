"""Which images make up which batch: a pure function of (seed, epoch, step), nothing to remember.

Shards are taken in a random order and images shuffled inside a window of shards that fits in
memory, so random reads never reach the disk. Inside a batch images come in ascending order, which
no mean over a batch can see and which makes gathering them cheap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError
from pipeline.core.seeding import RunStream, child_rng, image_rng

type Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class BatchOrder:
    """The batches of one split.

    Attributes
    ----------
    indices : array, shape (n,)
        Image numbers of the split, ascending.
    shard_size : int
    shards_per_window : int
        Shards that are in memory together.
    batch_size : int
        Images in a batch of all ranks together.
    seed : int
    shuffle : bool
        Otherwise images come in ascending order.
    drop_last : bool
        Leave out a last batch that is not full.
    rank, n_ranks : int
        This process and how many there are: rank r sees every n-th image of each batch from the
        r-th on, so that the batch of a step is the same for any number of them.
    """

    indices: Numbers
    shard_size: int
    shards_per_window: int
    batch_size: int
    seed: int
    shuffle: bool
    drop_last: bool = False
    rank: int = 0
    n_ranks: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, found {self.batch_size}")
        if not 0 <= self.rank < self.n_ranks:
            raise ConfigError(f"rank must be in 0..{self.n_ranks - 1}, found {self.rank}")

    @property
    def n_steps(self) -> int:
        """Batches in an epoch."""
        n = len(self.indices)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def order(self, epoch: int) -> Numbers:
        """Image numbers in the order in which ``epoch`` shows them to this rank."""
        parts = [index for index, _ in self.batches(epoch)]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[tuple[Numbers, Numbers]]:
        """Yield the image numbers of each batch from ``start_step`` on, and the shards to come.

        The second array names the shards of the next window, once, with the first batch of a
        window; it is empty otherwise. A part that is empty (a short last batch shared among many
        ranks) is left out.
        """
        windows = self._windows(epoch)
        ends = np.cumsum([self._size(window) for window in windows])
        position = start_step * self.batch_size
        stop = min(self.n_steps * self.batch_size, len(self.indices))
        k = int(np.searchsorted(ends, position, side="right"))
        skip = position - (int(ends[k - 1]) if k else 0)
        held = upcoming = np.empty(0, np.int64)
        while position < stop:
            held = np.concatenate([held, self._window_order(windows[k], epoch, k)[skip:]])
            skip, k = 0, k + 1
            if k < len(windows):
                upcoming = np.concatenate([upcoming, windows[k]])
            while position < stop and len(held) >= min(self.batch_size, stop - position):
                batch, held = np.sort(held[: self.batch_size]), held[self.batch_size :]
                position += len(batch)
                part = batch[self.rank :: self.n_ranks]
                if len(part):
                    yield part, upcoming
                    upcoming = upcoming[:0]

    def _windows(self, epoch: int) -> list[Numbers]:
        """Shards that are in memory together, in the order in which they are used."""
        shards = np.unique(self.indices // self.shard_size)
        width = self.shards_per_window
        if self.shuffle and len(shards) > width:
            shards = image_rng(self.seed, epoch, RunStream.SHUFFLE).permutation(shards)
        return [shards[first : first + width] for first in range(0, len(shards), width)]

    def _rows(self, shard: int) -> slice:
        """Where the images of a shard lie in ``indices``."""
        ends = np.searchsorted(
            self.indices, [shard * self.shard_size, (shard + 1) * self.shard_size]
        )
        return slice(int(ends[0]), int(ends[1]))

    def _size(self, window: Numbers) -> int:
        low = np.searchsorted(self.indices, window * self.shard_size)
        high = np.searchsorted(self.indices, (window + 1) * self.shard_size)
        return int((high - low).sum())

    def _window_order(self, window: Numbers, epoch: int, k: int) -> Numbers:
        order = np.concatenate([self.indices[self._rows(shard)] for shard in window.tolist()])
        if not self.shuffle:
            return order
        # A child for each window, so its order does not depend on those before it.
        return child_rng(self.seed, epoch, RunStream.SHUFFLE, k).permutation(order)
