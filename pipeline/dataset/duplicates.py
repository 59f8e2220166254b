"""Images that are the same: a hash of pixels, the groups it makes, one split for each group."""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

#: Bytes of the hash of one image's pixels.
DIGEST_BYTES = 16


def image_digests(images: Iterable[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """Hash of the pixels of each image, as little-endian float32.

    Parameters
    ----------
    images : iterable of arrays, (C, H, W) each

    Returns
    -------
    NDArray of uint8, shape (n, DIGEST_BYTES)
    """
    digests = [
        hashlib.blake2b(np.ascontiguousarray(image, "<f4"), digest_size=DIGEST_BYTES).digest()
        for image in images
    ]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)


def same_pixels(digests: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Number of each image's group, shape (n,): images with equal pixels share one."""
    keys = np.ascontiguousarray(digests).view(f"V{DIGEST_BYTES}").ravel()
    return np.asarray(np.unique(keys, return_inverse=True)[1], np.int64).reshape(-1)


def joined(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups whose members share a group of either kind, directly or through others.

    Parameters
    ----------
    first, second : NDArray, shape (n,)
        Group numbers; a negative one is no group.

    Returns
    -------
    NDArray, shape (n,)
    """
    from scipy.sparse import coo_array  # type: ignore[import-untyped]  # heavy
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    n = len(first)
    if not n:
        return np.zeros(0, np.int64)
    offset = int(first.max(initial=0)) + 1
    groups = np.concatenate([first, np.where(second < 0, -1, second + offset)])
    rows = np.tile(np.arange(n), 2)[groups >= 0]
    columns = groups[groups >= 0] + n
    size = n + offset + int(second.max(initial=0)) + 1
    links = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(size, size))
    return np.asarray(connected_components(links, directed=False)[1][:n], np.int64)


def one_split_each(
    split: NDArray[np.int8], group: NDArray[np.int64]
) -> tuple[NDArray[np.int8], int]:
    """Move whole groups into the earliest of their splits, so that none lies in two.

    The earliest, because an image that was trained on must not test.

    Parameters
    ----------
    split : NDArray of int8, shape (n,)
    group : NDArray of int64, shape (n,)

    Returns
    -------
    split : NDArray of int8, shape (n,)
    n_moved : int
        Images whose split changed.
    """
    earliest = np.full(int(group.max(initial=-1)) + 1, np.iinfo(np.int8).max, np.int8)
    np.minimum.at(earliest, group, split)
    moved = earliest[group]
    return moved, int((moved != split).sum())
