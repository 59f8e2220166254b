"""Train, validation or test: a property of the image, decided by its number alone.

Image ``i`` has the class-local counter ``i // n_classes``. The golden-ratio sequence spreads the
counters over [0, 1) more evenly than chance, so every class has the asked fractions at any size,
and making a dataset longer moves no image from one split to another. Where sources are real
galaxies, the number of the galaxy takes the counter's place: one galaxy never lies in two splits.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

#: Order is the code stored on disk.
SPLITS = ("train", "val", "test")

#: Column of the truth that numbers real source galaxies, where there are any.
GALAXY = "source_stamp"

#: Names that folders and tables of other people give the splits.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

_GOLDEN = (5.0**0.5 - 1.0) / 2.0


def split_codes(
    index: NDArray[np.int64],
    n_classes: int,
    train: float,
    val: float,
    galaxy: NDArray[np.float64] | None = None,
) -> NDArray[np.int8]:
    """Split of each image.

    Parameters
    ----------
    index : NDArray, shape (n,)
        Image numbers.
    n_classes : int
    train, val : float
        Fractions; the rest is test.
    galaxy : NDArray, shape (n,), optional
        Number of each image's source galaxy (the column ``GALAXY``), which then decides alone.

    Returns
    -------
    NDArray of int8, shape (n,)
        0 train, 1 val, 2 test.
    """
    counter = index // n_classes if galaxy is None else galaxy
    position = ((counter + 0.5) * _GOLDEN) % 1.0
    return np.searchsorted([train, train + val], position, side="right").astype(np.int8)


def content_split_codes(
    digests: NDArray[np.uint8], train: float, val: float, seed: int = 0
) -> NDArray[np.int8]:
    """Split of each image as a function of its pixels alone.

    Equal images share a split, in whatever dataset they turn up; adding images moves none.

    Parameters
    ----------
    digests : NDArray of uint8, shape (n, m)
        Hash of each image's pixels.
    train, val : float
        Fractions; the rest is test.
    seed : int
        Another seed, another division.

    Returns
    -------
    NDArray of int8, shape (n,)
        0 train, 1 val, 2 test.
    """
    position = content_positions(digests, seed)
    return np.searchsorted([train, train + val], position, side="right").astype(np.int8)


def content_positions(digests: NDArray[np.uint8], seed: int) -> NDArray[np.float64]:
    """Number in [0, 1] that only an image's hash and the seed decide, evenly spread, shape (n,)."""
    salt = seed.to_bytes(8, "little")
    words = [hashlib.blake2b(d.tobytes(), digest_size=8, salt=salt).digest() for d in digests]
    return np.frombuffer(b"".join(words), "<u8") / 2.0**64
