"""The images in one file, whatever its format: how many, and each with what the file says of it.

Shapes decide, given the number of bands C: ``(H, W)`` for one band and ``(C, H, W)`` are one image,
``(N, H, W)`` for one band and ``(N, C, H, W)`` are N. An array of objects holds images, or pairs
``[image, number]`` as DeepLense writes for the axion's mass.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.splits import SPLIT_NAMES, SPLITS
from pipeline.exchange.labels import Entry
from pipeline.exchange.npy import read_npy, read_npz
from pipeline.exchange.rejects import Reason, RejectedError
from pipeline.inference.images import Rejection, read_image
from pipeline.inference.search import is_fits_name

#: Names that other people give the arrays of an archive.
_LABELS = ("label", "labels", "y", "class", "classes")
_SPLIT = ("split", "splits")


@dataclass(frozen=True)
class Facts:
    """What a file says of its images besides their pixels; None where nothing."""

    pixel_scale: float | None = None
    unit: str | None = None
    band: str | None = None


@dataclass(frozen=True)
class Stack:
    """The images of one file.

    Attributes
    ----------
    n_images : int
    read : callable
        Image number -> pixels (C, H, W), any kind of number; raises ``RejectedError``.
    facts : Facts
    entry : callable
        Image number -> what the file itself says of the image.
    """

    n_images: int
    read: Callable[[int], NDArray[Any]]
    facts: Facts = Facts()
    entry: Callable[[int], Entry] = lambda _: Entry()


def open_stack(path: Path, bands: Sequence[str], number: str) -> Stack:
    """Open one file.

    Parameters
    ----------
    path : Path
    bands : sequence of str
    number : str
        Name of the truth that stands beside an image in an array of objects.

    Returns
    -------
    Stack

    Raises
    ------
    RejectedError
        If nothing in it can be used.
    """
    if is_fits_name(path.name):
        return _open_fits(path, bands)
    if path.suffix.lower() == ".npz":
        return _open_archive(path, len(bands), number)
    return _open_array(read_npy(path), len(bands), number)


def _open_fits(path: Path, bands: Sequence[str]) -> Stack:
    image, _ = read_image(path, bands=tuple(bands))
    if isinstance(image, Rejection):
        raise RejectedError(image.reason, image.detail)
    stack = _open_numbers(image.data, len(bands))
    if stack.n_images != 1:
        raise RejectedError(Reason.WRONG_SHAPE, f"{len(image.data)} planes for {len(bands)} band")
    return Stack(1, stack.read, Facts(image.pixel_scale, image.unit, image.band))


def _open_array(array: NDArray[Any], n_bands: int, number: str) -> Stack:
    if array.dtype != object:
        return _open_numbers(array, n_bands)
    if array.shape == (2,) and _is_number(array[1]):
        array = array[None]
    if array.ndim == 2 and array.shape[1] == 2 and all(_is_number(x) for x in array[:, 1]):

        def entry(i: int) -> Entry:
            return Entry(targets={number: float(np.asarray(array[i, 1]).item())})

        return Stack(len(array), _read_object(array[:, 0], n_bands), entry=entry)
    if array.ndim == 1:
        return Stack(len(array), _read_object(array, n_bands))
    shape = " x ".join(map(str, array.shape))
    raise RejectedError(
        Reason.WRONG_TYPE, f"{shape} objects are neither images nor pairs [image, number]"
    )


def _open_numbers(array: NDArray[Any], n_bands: int) -> Stack:
    shape = array.shape
    if len(shape) == 2:
        array = array[None, None]
    elif len(shape) == 3 and shape[0] == n_bands:
        array = array[None]
    elif len(shape) == 3:
        array = array[:, None]
    if array.ndim != 4 or array.shape[1] != n_bands or 0 in array.shape:
        raise _wrong_shape(shape, n_bands)
    return Stack(len(array), lambda i: array[i])


def _read_object(items: NDArray[Any], n_bands: int) -> Callable[[int], NDArray[Any]]:
    def read(i: int) -> NDArray[Any]:
        item = items[i]
        if not isinstance(item, np.ndarray) or item.dtype == object:
            raise RejectedError(Reason.WRONG_TYPE, f"an object that is no image: {item!r:.60}")
        stack = _open_numbers(item, n_bands)
        if stack.n_images != 1:
            raise _wrong_shape(item.shape, n_bands)
        return stack.read(0)

    return read


def _is_number(item: object) -> bool:
    return isinstance(item, bool | int | float) or (
        isinstance(item, np.ndarray) and item.dtype != object and item.size == 1
    )


def _wrong_shape(shape: tuple[int, ...], n_bands: int) -> RejectedError:
    found = " x ".join(map(str, shape)) or "a single number"
    asked = "H x W or N x H x W" if n_bands == 1 else f"{n_bands} x H x W or N x {n_bands} x H x W"
    bands = f"{n_bands} band{'s' if n_bands > 1 else ''}"
    return RejectedError(Reason.WRONG_SHAPE, f"{found}; {bands} need {asked}")


_BESIDE = ("labels", "split")


@dataclass
class _Archive:
    """Arrays of an ``.npz`` by their role."""

    images: list[NDArray[Any]] = field(default_factory=list)
    labels: list[NDArray[Any]] = field(default_factory=list)
    split: list[NDArray[Any]] = field(default_factory=list)
    targets: dict[str, NDArray[Any]] = field(default_factory=dict)


def _open_archive(path: Path, n_bands: int, number: str) -> Stack:
    """The array with the most axes holds the images; arrays of N numbers beside it, truths."""
    arrays = read_npz(path)
    found = _sorted_by_role(arrays)
    if len(found.images) != 1:
        names = ", ".join(f"{k} {v.shape}" for k, v in arrays.items()) or "nothing"
        raise RejectedError(
            Reason.WRONG_SHAPE, f"{len(found.images)} arrays could be the images: {names}"
        )
    stack = _open_array(found.images[0], n_bands, number)
    n = stack.n_images
    beside = {**found.targets, **{k: a[0] for k, a in vars(found).items() if k in _BESIDE and a}}
    for name, array in beside.items():
        if array.shape != (n,):
            raise RejectedError(
                Reason.WRONG_SHAPE, f"{name} has the shape {array.shape} for {n} images"
            )

    def entry(i: int) -> Entry:
        return Entry(
            str(_plain(found.labels[0][i])) if found.labels else None,
            _split(found.split[0][i]) if found.split else None,
            {**stack.entry(i).targets, **{k: float(v[i]) for k, v in found.targets.items()}},
        )

    return Stack(n, stack.read, entry=entry)


def _sorted_by_role(arrays: Mapping[str, NDArray[Any]]) -> _Archive:
    found = _Archive()
    for name, array in arrays.items():
        if name.lower() in _LABELS:
            found.labels.append(array)
        elif name.lower() in _SPLIT:
            found.split.append(array)
        elif array.dtype == object or array.ndim >= 2:
            found.images.append(array)
        elif array.ndim == 1 and array.dtype.kind in "fiu":
            found.targets[name] = array
    return found


def _plain(value: Any) -> Any:  # Any: a label, text or number
    plain = value.item() if hasattr(value, "item") else value
    return plain.decode("utf-8", "replace") if isinstance(plain, bytes) else plain


def _split(value: Any) -> str | None:
    """Split given by one of its names or by its code (0, 1, 2); None for anything else."""
    plain = _plain(value)
    if isinstance(plain, int):
        return SPLITS[plain] if 0 <= plain < len(SPLITS) else None
    return SPLIT_NAMES.get(str(plain).lower())
