"""Random numbers of one image: a pure function of (seed, stream, index).

``SeedSequence(entropy=seed, spawn_key=(stream, index))`` feeds a counter-based Philox generator
(PHYSICS 12), so image 417 is image 417 whoever draws it, whenever.
"""

from collections.abc import Callable
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Stream(IntEnum):
    """Independent random streams of one image. Numbers are frozen: append only."""

    SCENE = 0
    NOISE = 1
    FIELD = 2
    SUBSTRUCTURE = 3


#: Streams that belong to a run rather than to an image; ``index`` then counts epochs or draws.
RUN_STREAM_BASE = 1000


class RunStream(IntEnum):
    """Independent random streams of a training or evaluation run. Append only."""

    SHUFFLE = RUN_STREAM_BASE
    AUGMENT = RUN_STREAM_BASE + 1
    WEIGHTS = RUN_STREAM_BASE + 2
    BOOTSTRAP = RUN_STREAM_BASE + 3
    SPLIT = RUN_STREAM_BASE + 4
    EXPOSE = RUN_STREAM_BASE + 5
    EXPLAIN = RUN_STREAM_BASE + 6
    SEARCH = RUN_STREAM_BASE + 7


def image_rng(
    seed: int, index: int, stream: Stream | RunStream = Stream.SCENE
) -> np.random.Generator:
    """Return the generator of image ``index`` in ``stream``.

    Parameters
    ----------
    seed : int, >= 0
    index : int, >= 0
    stream : Stream or RunStream

    Returns
    -------
    numpy.random.Generator
        On Philox; independent of every other (seed, stream, index).
    """
    sequence = np.random.SeedSequence(entropy=int(seed), spawn_key=(int(stream), int(index)))
    return np.random.Generator(np.random.Philox(sequence))


def child_rngs(
    seed: int, index: int, stream: Stream, n_children: int
) -> tuple[np.random.Generator, ...]:
    """Return ``n_children`` generators, one per drawn quantity of a variable-size population.

    A population draws its size first and then each quantity from its own child, so thinning or
    truncating one array never shifts another (PHYSICS 12).
    """
    if not n_children:
        return ()
    sequence = np.random.SeedSequence(entropy=int(seed), spawn_key=(int(stream), int(index)))
    return tuple(np.random.Generator(np.random.Philox(s)) for s in sequence.spawn(n_children))


def spawned(rng: np.random.Generator, n_children: int) -> Callable[[int], np.random.Generator]:
    """Return what makes child k of the next ``n_children`` of ``rng``, as ``rng.spawn`` would.

    For where not all of them are needed: most of the cost is in making the generators.
    """
    sequence = rng.bit_generator.seed_seq
    assert isinstance(sequence, np.random.SeedSequence)
    children = sequence.spawn(n_children)
    return lambda k: np.random.Generator(np.random.Philox(children[k]))


def child_rng(seed: int, index: int, stream: Stream | RunStream, child: int) -> np.random.Generator:
    """Return child number ``child`` of (seed, stream, index), without making those before it."""
    key = (int(stream), int(index), int(child))
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(int(seed), spawn_key=key)))


def hashed_bits(key: int, index: NDArray[np.int64]) -> NDArray[np.uint64]:
    """64 random bits for each index under one key: SplitMix64 (Steele, Lea & Flood 2014).

    For decisions about a great many images, where a generator for each would cost too much.

    Parameters
    ----------
    key : int
        Drawn from a generator of its own.
    index : array of int64, shape (n,)

    Returns
    -------
    array of uint64, shape (n,)
    """
    z = index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
