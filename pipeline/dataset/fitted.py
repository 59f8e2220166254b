"""What a smooth-lens fit adds to an image: further planes that a network is shown.

Planes come from the fits stored in a dataset (``deeplense fit DATA.zarr --store``), or are fitted
on the spot, by the same configuration and to the same values: so a FITS image that is scored has
what the images of the training had.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.core.config import StrictModel, config_sha256, dump, validate_json
from pipeline.core.errors import ConfigError, DatasetError, DatasetMismatchError
from pipeline.core.provenance import canonical_json
from pipeline.dataset.shards import ShardCache
from pipeline.fit.config import FitConfig
from pipeline.fit.fitter import Fitter
from pipeline.fit.result import Fits
from pipeline.fit.store import FOLDER, FitStore, open_fits
from pipeline.physics.instrument import Instrument

if TYPE_CHECKING:
    from pipeline.dataset.store import Dataset

#: Planes a network can be shown: what the model leaves, in sigma; the model; ln chi2, constant;
#: where a small mass would explain what is left, in sigma; the weight of evidence for a mass of
#: each kind, constant.
Plane = Literal["residual", "model", "chi2", "response", "evidence"]
#: Those that are one number for the image, and where the fits have it.
CONSTANT: Mapping[Plane, str] = {"chi2": "chi2", "evidence": "ln_bayes"}
#: Stored fits of one kind mapped at once, bytes.
_CACHE_BYTES = 1024**3
#: Of stored values that are not float32.
_DTYPES: dict[Plane, Any] = {"response": np.float16}


class SmoothFit(StrictModel):
    """Which planes of a fit a network is shown, and everything that made them.

    The fit sees images in electron/s, with the noise of ``instruments``.
    """

    planes: tuple[Plane, ...]
    fit: FitConfig
    instruments: tuple[Instrument, ...]

    @property
    def kinds(self) -> tuple[Plane, ...]:
        """Kind of each plane: residuals and models band by band, a response a softening length."""
        return tuple(kind for kind in self.planes for _ in range(self.count(kind)))

    def count(self, kind: Plane) -> int:
        """Number of planes of a kind."""
        if kind == "response":
            return len(self.fit.response.softenings)
        if kind == "evidence":
            return self.fit.response.n_groups
        return 1 if kind == "chi2" else len(self.instruments)

    def fitted(self, images: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Planes of images (B, C, H, W), fitted now; shape (B, n_planes, H, W).

        A plane of a failed fit is 0: no residual, no model, a chi2 of 1, no evidence.
        """
        fitter = _fitter(canonical_json(dump(self)), images.shape[-1])
        return self.planes_of(fitter.fit(images))

    def planes_of(self, fits: Fits) -> NDArray[np.float32]:
        """Planes (n, n_planes, H, W) of fits."""
        size = fits.residual.shape[-1]
        planes = np.empty((len(fits), len(self.kinds), size, size), np.float32)
        self.fill(planes, lambda kind: _one_kind(kind, getattr(fits, CONSTANT.get(kind, kind))))
        return planes

    def fill(self, planes: NDArray[np.float32], values: Callable[[Plane], NDArray[Any]]) -> None:
        """Fill planes (n, n_planes, H, W) with the values (n, count, H, W) of each kind."""
        first = 0
        for kind in self.planes:
            planes[:, first : first + self.count(kind)] = values(kind)
            first += self.count(kind)


def _one_kind(kind: Plane, values: NDArray[Any]) -> NDArray[Any]:
    """Values of the planes of one kind, (n, count, H, W) or, where constant, (n, count, 1, 1)."""
    if kind == "chi2":
        believed = np.where(np.isfinite(values) & (values > 0), values, 1.0)
        return np.log(believed).astype(np.float32)[:, None, None, None]
    if kind == "evidence":
        believed = np.nan_to_num(values)
        # As it is where it is small; in sigma, sqrt(2 ln B), where it is large.
        weight = believed / np.sqrt(1.0 + 0.5 * np.abs(believed))
        return np.asarray(weight, np.float32)[..., None, None]
    return values


class PlaneSource:
    """Planes of the images of a dataset: stored ones where they fit, else fitted on the spot.

    Parameters
    ----------
    dataset : Dataset
    smooth_fit : SmoothFit
    """

    def __init__(self, dataset: Dataset, smooth_fit: SmoothFit) -> None:
        self._dataset, self._smooth_fit = dataset, smooth_fit

    def gather(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Planes (B, n_planes, H, W) of images by number."""
        stored = self._stored
        if stored is None:
            return self._smooth_fit.fitted(self._dataset.read_images(index))
        size = self._dataset.image_shape[-1]
        out = np.empty((len(index), len(self._smooth_fit.kinds), size, size), np.float32)

        def values(kind: Plane) -> NDArray[Any]:
            pixels = (1, 1) if kind in CONSTANT else (size, size)
            shape = (len(index), self._smooth_fit.count(kind), *pixels)
            found = np.empty(shape, _DTYPES.get(kind, np.float32))
            stored[kind].gather(index, found)
            return found

        self._smooth_fit.fill(out, values)
        return out

    @cached_property
    def _stored(self) -> dict[Plane, ShardCache] | None:
        """Stored values of each kind; None unless all were made by this very configuration."""
        folder = fits_folder(self._dataset)
        if folder is None:
            return None
        store, config = open_fits(folder)
        same = config_sha256(config) == config_sha256(self._smooth_fit.fit)
        if not same or store.missing() or not _is_of(store, self._dataset):
            return None

        def shards_of(kind: Plane) -> ShardCache:
            def values(shard: int) -> NDArray[Any]:
                if kind in CONSTANT:
                    return _one_kind(kind, store.numbers(shard)[CONSTANT[kind]])
                return store.pixels(shard, kind)

            return ShardCache(values, store.shard_size, _CACHE_BYTES)

        return {kind: shards_of(kind) for kind in self._smooth_fit.planes}


def fits_folder(dataset: Dataset) -> Path | None:
    """Folder of the fits stored in a dataset; None if there are none."""
    if not isinstance(dataset.path, Path) or not (dataset.path / FOLDER / "fit.json").is_file():
        return None
    return dataset.path / FOLDER


def stored_smooth_fit(dataset: Any, planes: tuple[Plane, ...]) -> SmoothFit:  # Any: data of a kind
    """The fit whose results are stored in a dataset.

    Raises
    ------
    ConfigError
        If the images are not those of a dataset on disk.
    DatasetError
        If the dataset has no fits, or not of all its images.
    DatasetMismatchError
        If they are of other images.
    """
    from pipeline.dataset.store import Dataset

    if not isinstance(dataset, Dataset):
        raise ConfigError("preprocess.smooth_fit needs a dataset with fits, not a preset as --data")
    folder = fits_folder(dataset)
    command = f"run: deeplense fit {dataset.path} --store"
    if folder is None:
        raise DatasetError(f"{dataset.path}: preprocess.smooth_fit needs its fits; {command}")
    store, config = open_fits(folder)
    if not _is_of(store, dataset):
        raise DatasetMismatchError(f"{folder}: fits of other images; delete it, then {command}")
    if store.missing():
        n_missing = len(store.missing())
        raise DatasetError(
            f"{folder}: {n_missing} of {store.n_shards} shards are not fitted; {command}"
        )
    missing = {
        "response": not config.response.softenings,
        "evidence": not config.response.n_groups,
    }
    for plane in planes:
        if missing.get(plane):
            raise DatasetError(
                f"{folder}: fits without {plane} (response.softenings and response.half_lengths "
                f"of their configuration say for which masses); delete it, then {command}"
            )
    instruments = dataset.require_simulation("a fit").instruments
    return SmoothFit(planes=planes, fit=config, instruments=instruments)


def with_planes(
    dataset: Any, images: NDArray[np.float32], index: NDArray[np.int64], fit: SmoothFit
) -> NDArray[np.float32]:  # Any: a Dataset
    """Images (B, C, H, W) with the planes of their fits behind them."""
    return np.concatenate([images, PlaneSource(dataset, fit).gather(index)], axis=1)


def _is_of(store: FitStore, dataset: Dataset) -> bool:
    origin = store.identity["images"]
    return bool(origin.get("dataset_sha256") == dataset.sha256)


@functools.lru_cache(maxsize=4)
def _fitter(smooth_fit: str, n_pix: int) -> Fitter:
    """Compiled once for each configuration (as JSON) and size."""
    config = validate_json(smooth_fit, SmoothFit, name="preprocess.smooth_fit")
    return Fitter(config.fit, n_pix, config.instruments)
