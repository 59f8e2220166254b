"""Random numbers of one image: a pure function of (seed, stream, index).

``SeedSequence(entropy=seed, spawn_key=(stream, index))`` feeds a counter-based Philox generator
(PHYSICS 12), so image 417 is image 417 whoever draws it, whenever.
"""

from enum import IntEnum

import numpy as np


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
    sequence = np.random.SeedSequence(entropy=int(seed), spawn_key=(int(stream), int(index)))
    return tuple(np.random.Generator(np.random.Philox(s)) for s in sequence.spawn(n_children))
