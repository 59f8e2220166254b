"""Batches simulated while a network trains: the interface of a stored dataset over a preset.

data = open_data("contrast_hst")                # or a path, which opens a stored dataset
for batch in data.batches("train", preprocess, batch_size=64, seed=0).epoch(0): ...

The stream is endless and seeded; an epoch is a piece of it of fixed length. ``val`` and ``test``
are the first images of those splits, the same in every epoch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.core.config import StrictModel, dump
from pipeline.core.errors import DatasetError
from pipeline.core.provenance import canonical_json, sha256_hex
from pipeline.dataset.augment import Augmentation
from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.loader import Batch, to_batch
from pipeline.dataset.preprocess import Preprocess
from pipeline.dataset.producers import Kind, Producers, default_producers
from pipeline.dataset.splits import SPLITS
from pipeline.dataset.stream import Map, Request, Simulated, block, first_of_split
from pipeline.physics.components import TruthColumn
from pipeline.physics.scene import draw_scene, truth_columns

#: Batches simulated ahead of the trainer, besides those in work.
AHEAD = 4
#: Validation images kept, so that they are simulated once, bytes.
KEPT_BYTES = 512 * 1024**2
#: Training images that stand for all where the truth is looked at beforehand.
FIRST = 2000
#: Images simulated in one request when many are asked for.
_PIECE = 64


class Curriculum(StrictModel):
    """Easier images at first: heavier substructure, lenses and sources that are more alike.

    Parameters
    ----------
    start : float
        Factor on ``signal_scale``, and so on every mass, at the first step.
    width : float
        Width of the priors of lens and source at the first step, over the preset's own.
    steps : int
        Batches after which both are 1; they change geometrically.
    """

    start: float = Field(1.0, gt=0)
    width: float = Field(1.0, gt=0, le=1)
    steps: int = Field(gt=0)

    def factor(self, step: int) -> float:
        """Factor on ``signal_scale`` at a step counted from the beginning of training."""
        return float(self.start ** self._left(step))

    def prior_width(self, step: int) -> float:
        """Width of the priors at a step counted from the beginning of training."""
        return float(self.width ** self._left(step))

    def _left(self, step: int) -> float:
        return max(0.0, 1.0 - step / self.steps)


class OnlineConfig(StrictModel):
    """How much of the stream is an epoch, and how much is held out.

    Parameters
    ----------
    images : int
        Training images between two evaluations; each is seen once.
    val_images, test_images : int
        Size of the held-out splits.
    twins : bool
        Show every training lens as each of the classes, one after the other in one batch: what
        differs between them is the substructure (and what it does to the noise) alone.
    curriculum : Curriculum, optional
        Of the training images; those held out are always the preset's own.
    """

    images: int = Field(20_000, gt=0)
    val_images: int = Field(2000, gt=0)
    test_images: int = Field(2000, gt=0)
    twins: bool = False
    curriculum: Curriculum | None = None


@dataclass(frozen=True, eq=False)
class OnlineData:
    """A preset as a dataset that is simulated when it is read.

    Parameters
    ----------
    config : DatasetConfig
    online : OnlineConfig
    producers : int, optional
        Processes that simulate, by default half of the cores; decides no image.
    only : tuple of str
        Classes whose images the splits hold; all if empty.
    """

    config: DatasetConfig
    online: OnlineConfig = field(default_factory=OnlineConfig)
    producers: int | None = None
    only: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Hash of the configuration and of how it is cut into epochs."""
        content = {"config": self.config.sha256, "online": dump(self.online)}
        return sha256_hex(canonical_json(content))

    @property
    def path(self) -> str:
        """What messages call it."""
        return f"on the fly ({self.config.sha256[:12]})"

    @property
    def simulation(self) -> DatasetConfig:
        """The configuration, as of a stored dataset."""
        return self.config

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their indices."""
        return self.config.class_names

    @property
    def bands(self) -> tuple[str, ...]:
        """Name of each channel."""
        return self.config.bands

    @property
    def pixel_scale(self) -> float:
        """Pixel scale, arcsec."""
        return self.config.pixel_scale

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Bands, rows, columns."""
        return len(self.bands), self.config.n_pix, self.config.n_pix

    def n_of(self, split: str) -> int:
        """Images of a split; of train, in an epoch.

        Raises
        ------
        DatasetError
            If there is no such split.
        """
        if split not in SPLITS:
            raise DatasetError(f"{split!r} is no split; expected one of {', '.join(SPLITS)}")
        o = self.online
        return {"train": o.images, "val": o.val_images, "test": o.test_images}[split]

    def truth_info(self) -> dict[str, TruthColumn]:
        """Unit and description of each column of the truth."""
        return truth_columns(self.config.scenes)

    def first_images(self, n: int) -> NDArray[np.float32]:
        """The first ``n`` images of the train split (B, C, H, W), electron/s; an epoch at most."""
        n = min(n, self.online.images)
        if len(self._first) == 0 or len(self._first[0]) < n:
            index = first_of_split(self.config, "train", n, self.only)
            self._first[:] = [np.concatenate([r.image for r in self._simulate(index, "train")])]
        return self._first[0][:n]

    def first_labels(self, n: int = FIRST) -> NDArray[np.int64]:
        """Class index of the first ``n`` images of the train split, an epoch at most."""
        index = first_of_split(self.config, "train", min(n, self.online.images), self.only)
        return index % len(self.class_names)

    def first_truth(self, name: str, n: int = FIRST) -> NDArray[np.float64]:
        """A column of the truth for the first ``n`` images of the train split, an epoch at most.

        Raises
        ------
        DatasetError
            Naming the columns there are.
        """
        self._require_columns((name,))
        scenes, seed = self.config.scenes, self.config.seed
        index = first_of_split(self.config, "train", min(n, self.online.images), self.only)
        return np.array([draw_scene(scenes, seed, int(i)).truth[name] for i in index])

    def batches(
        self,
        split: str,
        preprocess: Preprocess | None,
        *,
        batch_size: int,
        seed: int,
        target_names: tuple[str, ...] = (),
        maps: tuple[Map, ...] = (),
        augment: bool = False,
        rotate: bool = True,
        flip: bool = True,
        max_shift: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> OnlineSource:
        """Batches of a split; parameters as of ``loader.BatchSource``.

        ``maps`` names what ``Batch.extra`` carries: ``noiseless``, ``twin``, ``difference``
        (electron/s), ``kappa``. An epoch of train has whole batches only.
        """
        self._require_columns(target_names)
        augmentation = Augmentation(seed, 0, max_shift, rotate=rotate, flip=flip)
        return OnlineSource(
            data=self,
            split=split,
            batch_size=batch_size,
            template=Request(
                candidates=np.empty(0, np.int64),
                split=split,
                n=batch_size,
                rank=rank,
                n_ranks=n_ranks,
                targets=target_names,
                maps=maps,
                preprocess=preprocess,
                augmentation=augmentation if augment else None,
            ),
        )

    @cached_property
    def workers(self) -> Producers:
        """Who simulates; started on first use."""
        return Producers(self.config, _kind(self.config), self.producers or default_producers())

    def close(self) -> None:
        """End the producers."""
        if "workers" in self.__dict__:
            self.workers.close()

    @cached_property
    def _first(self) -> list[NDArray[np.float32]]:
        return []

    def _simulate(self, index: NDArray[np.int64], split: str) -> list[Simulated]:
        pieces = [index[i : i + _PIECE] for i in range(0, len(index), _PIECE)]
        futures = [self.workers.submit(Request(p, split, len(p))) for p in pieces]
        return [self.workers.result(future) for future in futures]

    def _require_columns(self, names: tuple[str, ...]) -> None:
        known = self.truth_info()
        for name in names:
            if name not in known:
                raise DatasetError(
                    f"{self.path}: no truth column {name!r}; known: {', '.join(known)}"
                )


@dataclass(eq=False)
class OnlineSource:
    """Batches of one split, simulated a few ahead of whoever takes them.

    Parameters
    ----------
    data : OnlineData
    split : str
    batch_size : int
        Images in a batch, of all ranks together.
    template : Request
        What every batch has in common.
    """

    data: OnlineData
    split: str
    batch_size: int
    template: Request
    _ahead: deque[tuple[int, Future[Simulated]]] = field(default_factory=deque, repr=False)
    _kept: dict[int, Simulated] = field(default_factory=dict, repr=False)

    @property
    def n_images(self) -> int:
        """Images in an epoch."""
        n = self.data.n_of(self.split)
        return self.n_steps * self.batch_size if self.split == "train" else n

    @property
    def n_steps(self) -> int:
        """Batches in an epoch."""
        n = self.data.n_of(self.split)
        if self.split == "train":
            return max(1, n // self.batch_size)
        return -(-n // self.batch_size)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of ``epoch`` from ``start_step`` on.

        Those of the next epoch are begun before this one ends, so that the trainer does not wait
        for them while it evaluates.
        """
        for step in range(start_step, self.n_steps):
            found = self._take(epoch * self.n_steps + step if self.split == "train" else step)
            if len(found.index):
                yield to_batch(found)

    def _take(self, position: int) -> Simulated:
        """Batch at a position of the whole run."""
        if position in self._kept:
            return self._kept[position]
        if not self._ahead or self._ahead[0][0] != position:
            for _, future in self._ahead:
                future.cancel()
            self._ahead.clear()
        workers, is_train = self.data.workers, self.split == "train"
        last = self._ahead[-1][0] if self._ahead else position - 1
        wanted = position + workers.n_workers + AHEAD
        for k in range(last + 1, wanted if is_train else min(wanted, self.n_steps)):
            self._ahead.append((k, workers.submit(self._request(k))))
        found = workers.result(self._ahead.popleft()[1])
        if not is_train and found.image.nbytes * self.n_steps <= KEPT_BYTES:
            self._kept[position] = found
        return found

    def _request(self, position: int) -> Request:
        config, size = self.data.config, self.batch_size
        if self.split != "train":
            candidates = self._held_out[position * size : (position + 1) * size]
            return replace(self.template, candidates=candidates, n=len(candidates))
        curriculum = self.data.online.curriculum
        augmentation = self.template.augmentation
        if augmentation is not None:
            augmentation = replace(augmentation, epoch=position // self.n_steps)
        return replace(
            self.template,
            candidates=block(config, size, position, self.data.only),
            signal_factor=1.0 if curriculum is None else curriculum.factor(position),
            prior_width=1.0 if curriculum is None else curriculum.prior_width(position),
            twins=(self.data.only or self.data.class_names) if self.data.online.twins else (),
            augmentation=augmentation,
        )

    @cached_property
    def _held_out(self) -> NDArray[np.int64]:
        data = self.data
        return first_of_split(data.config, self.split, data.n_of(self.split), data.only)


def _kind(config: DatasetConfig) -> Kind:
    """A thread where JAX computes on a GPU, else processes."""
    if config.engine.kind != "jax":
        return "process"
    import torch

    if not torch.cuda.is_available():
        return "process"
    import jax  # heavy

    return "thread" if jax.default_backend() == "gpu" else "process"
