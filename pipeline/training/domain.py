"""Images of a second domain, without labels: read as scoring reads them, dealt out with batches.

A dataset of the same pixels is taken as it is. Everything else, datasets of another telescope
included, goes through the preparation that scoring has: matched to the bands, pixel scale and size
of the source, flux conserved, or left out with a reason.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError, DatasetError
from pipeline.core.logs import get_logger
from pipeline.core.provenance import sha256_hex
from pipeline.core.resources import sim_params
from pipeline.core.seeding import RunStream, child_rng
from pipeline.dataset.augment import Augmentation
from pipeline.dataset.fitted import PlaneSource, SmoothFit
from pipeline.dataset.loader import Batch, Batches
from pipeline.dataset.place import Url, locate
from pipeline.dataset.preprocess import Preprocess
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.inference.images import Rejection
from pipeline.inference.readers import read_all
from pipeline.inference.search import Found, find_images
from pipeline.inference.stacks import is_dataset
from pipeline.inference.target import Target
from pipeline.tasks.base import OTHER_DOMAIN
from pipeline.training.config import TrainingConfig
from pipeline.training.processes import Group
from pipeline.training.targets import Data

logger = get_logger("training")

#: Child of the stream of orders that this domain's permutations come from.
_ORDER = 2**40
#: Images fitted in one call, so that only their planes stay in memory.
_PIECE = 1024


@dataclass(frozen=True)
class Domain:
    """Images of the source's bands, scale and size.

    Attributes
    ----------
    images : NDArray, shape (N, C, H, W)
    taken : NDArray of int, shape (N,)
        Which of those asked for they are.
    stored : Dataset and NDArray of int, shape (N,), optional
        Where they come from and their numbers there, if they are just as they are stored.
    """

    images: NDArray[np.float32]
    taken: NDArray[np.int64]
    stored: tuple[Dataset, NDArray[np.int64]] | None = None

    @property
    def sha256(self) -> str:
        """Hash of the images."""
        return sha256_hex(repr(self.images.shape).encode() + self.images.tobytes())

    def with_planes(self, smooth_fit: SmoothFit | None) -> "Domain":
        """The same with the planes of fits behind the bands, where the network sees such planes.

        Fits of a dataset are read where the same ones are stored in it; all others are made here.
        """
        if smooth_fit is None:
            return self
        logger.info(
            "%d images of the second domain are fitted, or their fits read", len(self.taken)
        )
        n, n_bands, *pixels = self.images.shape
        planes = np.empty((n, n_bands + len(smooth_fit.kinds), *pixels), np.float32)
        planes[:, :n_bands] = self.images
        planes_of = self._planes_of(smooth_fit)
        for piece in np.array_split(np.arange(n), -(-n // _PIECE)):
            planes[piece, n_bands:] = planes_of(piece)
        return replace(self, images=planes)

    def _planes_of(
        self, smooth_fit: SmoothFit
    ) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
        """Planes of images by their position here."""
        if self.stored is None:
            return lambda piece: smooth_fit.fitted(self.images[piece])
        dataset, numbers = self.stored
        source = PlaneSource(dataset, smooth_fit)
        return lambda piece: source.gather(numbers[piece])


def training_domain(config: TrainingConfig, source: Data) -> Domain | None:
    """Images of the second domain that a training configuration asks for; None if it does not.

    Raises
    ------
    ConfigError
        If it names none, or a preset.
    DatasetError
        If not one image can be taken, with the first reason.
    """
    name: str | None = getattr(config.task, "domain", None)
    if name is None:
        return None
    if not name:
        raise ConfigError(
            "task.target: names no images to adapt to; expected a dataset, or a folder of FITS "
            "files (method: source_only needs none)"
        )
    if not Path(name).exists() and (sim_params() / f"{name}.yaml").is_file():
        raise ConfigError(
            f"task.target: {name!r} is a preset; make its dataset first: deeplense simulate {name} "
            f"--out {name}.zarr"
        )
    limit: int = config.task.max_images
    like = Target(
        bands=source.bands,
        pixel_scale=source.pixel_scale,
        size=source.image_shape[-1],
        is_unit_free=config.preprocess.normalise == "noise" and not config.preprocess.smooth_fit,
        zero_points=(None,) * len(source.bands),
    )
    if isinstance(locate(name), Url) or is_dataset(Path(name)) or Path(name).suffix == ".zarr":
        dataset = open_dataset(name)
        return dataset_domain(dataset, dataset.indices("train")[:limit], like)
    return _prepared(find_images([name], len(like.bands)).files[:limit], like, name)


def dataset_domain(dataset: Dataset, index: NDArray[np.int64], like: Target) -> Domain:
    """Images of a dataset by number, brought to what ``like`` says where they are not.

    Raises
    ------
    DatasetError
        If not one image can be taken.
    """
    same = (like.bands, like.pixel_scale, like.size)
    if (dataset.bands, dataset.pixel_scale, dataset.image_shape[-1]) == same:
        return Domain(dataset.read_images(index), np.arange(len(index)), (dataset, index))
    if isinstance(dataset.path, Url):
        raise DatasetError(
            f"{dataset.path}: bands, pixel scale or size differ from the source's; copy it to a "
            "local folder to have it resampled"
        )
    items = find_images([dataset.path], len(like.bands)).files
    return _prepared([items[i] for i in index.tolist()], like, str(dataset.path))


def _prepared(items: tuple[Found, ...] | list[Found], like: Target, name: str) -> Domain:
    images, taken, flags, reasons = [], [], Counter[str](), Counter[str]()
    first = ""
    for k, outcome in enumerate(read_all(items, like)):
        if isinstance(outcome.image, Rejection):
            reasons[str(outcome.image.reason)] += 1
            first = first or f"{items[k].name}: {outcome.image.detail}"
            continue
        images.append(outcome.image.image)
        taken.append(k)
        flags.update(outcome.image.flags)
    if not images:
        raise DatasetError(f"{name}: none of {len(items)} images can be adapted to; {first}")
    if reasons:
        said = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())
        logger.warning("%s: %d images left out (%s); first %s", name, reasons.total(), said, first)
    if flags["resampled"]:
        logger.info(
            "%s: %d images brought to %g arcsec a pixel", name, flags["resampled"], like.pixel_scale
        )
    if flags["pixel_scale_unknown"]:
        logger.warning(
            "%s: %d images do not say their pixel scale and are taken to have %g arcsec",
            name, flags["pixel_scale_unknown"], like.pixel_scale,
        )  # fmt: skip
    return Domain(np.stack(images), np.array(taken, np.int64))


@dataclass(frozen=True)
class Paired:
    """Batches of the source, each with as many images of another domain in its ``extra``.

    Which those are is a function of (seed, epoch, step): the domain is shuffled anew each time it
    is used up.
    """

    source: Batches
    domain: Domain
    preprocess: Preprocess
    config: TrainingConfig
    group: Group

    @property
    def batch_size(self) -> int:
        """Images of the source in a batch, of all ranks together."""
        return self.source.batch_size

    @property
    def n_images(self) -> int:
        """Images of the source in an epoch."""
        return self.source.n_images

    @property
    def n_steps(self) -> int:
        """Batches in an epoch."""
        return self.source.n_steps

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of ``epoch`` from ``start_step`` on."""
        augment = self.config.augment
        change = Augmentation(
            self.config.seed, epoch, augment.max_shift, rotate=augment.rotate, flip=augment.flip
        )
        for step, batch in enumerate(self.source.epoch(epoch, start_step), start_step):
            index = self.order(epoch * self.n_steps + step)[self.group.rank :: self.group.size]
            images = self.domain.images[index]
            if augment.enabled:
                images = change.apply(images, index)
            other = torch.from_numpy(self.preprocess.apply(images))
            yield replace(batch, extra={**batch.extra, OTHER_DOMAIN: other})

    def order(self, position: int) -> NDArray[np.int64]:
        """Positions in the domain of the images of one batch, counted over the whole run."""
        n, size = len(self.domain.images), self.batch_size
        wanted = np.arange(position * size, (position + 1) * size)
        rounds = range(wanted[0] // n, wanted[-1] // n + 1)
        seed = self.config.seed
        dealt = [child_rng(seed, k, RunStream.SHUFFLE, _ORDER).permutation(n) for k in rounds]
        return np.concatenate(dealt)[wanted - rounds[0] * n].astype(np.int64)
