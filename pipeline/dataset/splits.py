"""Train, validation or test: a property of the image, decided by its number alone.

Image ``i`` has the class-local counter ``i // n_classes``. The golden-ratio sequence spreads the
counters over [0, 1) more evenly than chance, so every class has the asked fractions at any size,
and making a dataset longer moves no image from one split to another.
"""

import numpy as np
from numpy.typing import NDArray

#: Order is the code stored on disk.
SPLITS = ("train", "val", "test")

_GOLDEN = (5.0**0.5 - 1.0) / 2.0


def split_codes(
    index: NDArray[np.int64], n_classes: int, train: float, val: float
) -> NDArray[np.int8]:
    """Split of each image.

    Parameters
    ----------
    index : NDArray, shape (n,)
        Image numbers.
    n_classes : int
    train, val : float
        Fractions; the rest is test.

    Returns
    -------
    NDArray of int8, shape (n,)
        0 train, 1 val, 2 test.
    """
    position = ((index // n_classes + 0.5) * _GOLDEN) % 1.0
    return np.searchsorted([train, train + val], position, side="right").astype(np.int8)
