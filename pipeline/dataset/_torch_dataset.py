"""Heavy half of ``Dataset.torch``: a split as a map-style dataset of torch."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from pipeline.dataset.place import Place
from pipeline.dataset.preprocess import Preprocess
from pipeline.dataset.store import Dataset, open_dataset

#: (image, label), or (image, label, target) where targets were asked for.
type Example = tuple[Tensor, ...]


class SplitDataset(TorchDataset[Example]):
    """Images of one split with their labels, for ``torch.utils.data.DataLoader``.

    Item k is ``(image, label)``: a float32 tensor (C, H, W) and an int64 scalar; with targets
    also a float32 tensor (T,). It pickles as a path, and each worker process opens the dataset for
    itself, so any start method of worker processes serves.

    Parameters
    ----------
    dataset : Dataset
    split : str
    preprocess : Preprocess, optional
        Without it images stay in the unit they are stored in.
    targets : tuple of str
        Columns of the truth.
    transform : callable, optional
        Image tensor to what takes its place, e.g. of torchvision.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        preprocess: Preprocess | None = None,
        targets: tuple[str, ...] = (),
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.class_names = dataset.class_names
        self.indices = dataset.indices(split)
        self.labels = torch.from_numpy(dataset.labels[self.indices].astype(np.int64))
        columns = [dataset.truth(name)[self.indices] for name in targets]
        self.targets = (
            torch.from_numpy(np.column_stack(columns).astype(np.float32)) if columns else None
        )
        self._path: Place = dataset.path
        self._preprocess = preprocess
        self._transform = transform
        self._open: tuple[int, Dataset] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Example:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: list[int]) -> list[Example]:
        """Several items at once: torch's DataLoader asks for a batch this way."""
        index = self.indices[np.asarray(positions, np.int64)]
        images = self._dataset().read_images(index)
        if self._preprocess is not None:
            images = self._preprocess.apply(images)
        found: list[Example] = []
        for image, position in zip(torch.from_numpy(images), positions, strict=True):
            shown = image if self._transform is None else self._transform(image)
            item: Example = (shown, self.labels[position])
            found.append(item if self.targets is None else (*item, self.targets[position]))
        return found

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": None}

    def _dataset(self) -> Dataset:
        """The dataset, opened by this process itself: forked files and locks are not shared."""
        if self._open is None or self._open[0] != os.getpid():
            self._open = os.getpid(), open_dataset(self._path)
        return self._open[1]
