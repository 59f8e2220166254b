"""Train, validation or test: a property of the image, decided by its number alone.

Image ``i`` has the class-local counter ``i // n_classes``. The golden-ratio sequence spreads the
counters over [0, 1) more evenly than chance, so every class has the asked fractions at any size,
and making a dataset longer moves no image from one split to another. Where sources are real
galaxies, the number of the galaxy takes the counter's place: one galaxy never lies in two splits.
"""

import numpy as np
from numpy.typing import NDArray

#: Order is the code stored on disk.
SPLITS = ("train", "val", "test")

#: Column of the truth that numbers real source galaxies, where there are any.
GALAXY = "source_stamp"

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
