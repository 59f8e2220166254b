"""Images by number out of whole shards, a bounded number of bytes of them at hand at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Shards at hand at once, whatever their size: each may hold a file open.
MAX_SHARDS = 256


class ShardCache:
    """The shards used last; safe to use from many threads.

    Parameters
    ----------
    load : callable
        Shard number to its values (n, ...): mapped, or decoded by zarr.
    shard_size : int
    max_bytes : int
        Shards beyond this are dropped, those longest unused first; the one in use never.
    """

    def __init__(
        self, load: Callable[[int], NDArray[Any]], shard_size: int, max_bytes: int
    ) -> None:
        self._load = load
        self._shard_size = shard_size
        self._max_bytes = max_bytes
        self._shards: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._gates: dict[int, threading.Lock] = {}
        self._lock = threading.Lock()

    def gather(self, index: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Copy the values of images ``index`` (ascending is fastest) into ``out``."""
        shards = index // self._shard_size
        rows = index - shards * self._shard_size
        bounds = [*np.flatnonzero(np.diff(shards, prepend=-1)).tolist(), len(index)]
        for start, stop in pairwise(bounds):
            values = self._shard(int(shards[start]))
            # With mode "raise" numpy would copy twice; the caller vouches for the numbers. The
            # method has less to do before it copies than the function numpy.take.
            values.take(rows[start:stop], 0, out[start:stop], "clip")

    def prefetch(self, shards: Iterable[int], pool: ThreadPoolExecutor) -> None:
        """Load shards in the background."""
        for shard in shards:
            pool.submit(self._shard, int(shard))

    @property
    def held_bytes(self) -> int:
        """Bytes of the shards at hand."""
        with self._lock:
            return sum(values.nbytes for values in self._shards.values())

    def _shard(self, shard: int) -> NDArray[Any]:
        with self._lock:
            if (values := self._shards.get(shard)) is not None:
                self._shards.move_to_end(shard)
                return values
            gate = self._gates.setdefault(shard, threading.Lock())
        with gate:  # one thread loads it, the others wait for that
            with self._lock:
                if (values := self._shards.get(shard)) is not None:
                    return values
            values = self._load(shard)
            with self._lock:
                self._shards[shard] = values
                self._gates.pop(shard, None)
                self._drop_old()
        return values

    def _drop_old(self) -> None:
        total = sum(values.nbytes for values in self._shards.values())
        while len(self._shards) > 1 and (total > self._max_bytes or len(self._shards) > MAX_SHARDS):
            total -= self._shards.popitem(last=False)[1].nbytes
