"""From electrons per second to what a network sees; fitted on train, kept with the weights.

Per pixel: ``(image - background) / sigma`` with both measured on the image's own border, or with
one fixed pair for the whole dataset; then a stretch; then one offset and scale per channel. The
first form is blind to any affine change of units, which is what FITS files from any telescope
need. Nothing is ever scaled by an image's own maximum: that would mix flux into every pixel.
"""

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.core.config import StrictModel
from pipeline.dataset.fitted import CONSTANT, Plane, SmoothFit, stored_smooth_fit, with_planes
from pipeline.dataset.store import Dataset

#: Images of the train split that the constants are fitted on.
FIT_IMAGES = 2000
#: Width of the border that stands for the sky, as a fraction of the image (at least 2 pixels).
BORDER_FRACTION = 1.0 / 16.0
#: Smallest noise an image is believed to have, as a fraction of its range.
SIGMA_FLOOR = 1e-4
#: Median absolute deviation to standard deviation of a Gaussian.
MAD_TO_SIGMA = 1.482602218505602

Stretch = Literal["linear", "asinh", "sqrt", "log"]


class TrainImages(Protocol):
    """What the constants are fitted on."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Name of each channel."""
        ...

    @property
    def pixel_scale(self) -> float:
        """Pixel scale, arcsec."""
        ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Bands, rows, columns."""
        ...

    def first_images(self, n: int) -> NDArray[np.float32]:
        """The first ``n`` images of the train split (B, C, H, W)."""
        ...


class PreprocessConfig(StrictModel):
    """What a training configuration asks for."""

    normalise: Literal["noise", "fixed"] = "noise"
    stretch: tuple[Stretch, ...] = Field(("asinh",), min_length=1)
    softening: float = Field(3.0, gt=0)
    clip: float = Field(20.0, gt=0)
    smooth_fit: tuple[Plane, ...] = ()  # planes of the fits stored in the dataset


class Preprocess(StrictModel):
    """Fitted preprocessing.

    ``offset`` and ``scale`` have one value per output channel; channels are ordered stretch by
    stretch, band by band within each. ``background`` and ``sigma`` (electron/s, one per band) are
    used by ``normalise: fixed`` only. ``softening`` is in units of sigma: below it the stretches
    are linear. ``clip`` bounds the standardised output. ``smooth_fit`` adds channels behind these:
    planes of a smooth-lens fit, stretched by ``asinh`` (constant ones are not).
    """

    bands: tuple[str, ...]
    pixel_scale: float = Field(gt=0)
    size: int = Field(gt=0)
    normalise: Literal["noise", "fixed"]
    stretch: tuple[Stretch, ...]
    softening: float = Field(gt=0)
    background: tuple[float, ...]
    sigma: tuple[float, ...]
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    clip: float = Field(gt=0)
    smooth_fit: SmoothFit | None = None

    @property
    def out_channels(self) -> int:
        """Number of channels the network sees."""
        return len(self.bands) * len(self.stretch) + len(self._planes)

    @property
    def constant_channels(self) -> tuple[int, ...]:
        """Those of the channels the network sees that hold one number an image."""
        first = len(self.bands) * len(self.stretch)
        return tuple(first + k for k, kind in enumerate(self._planes) if kind in CONSTANT)

    @property
    def is_unit_free(self) -> bool:
        """Whether images may come in any unit; a fit needs electron/s."""
        return self.normalise == "noise" and self.smooth_fit is None

    @property
    def _planes(self) -> tuple[Plane, ...]:
        return () if self.smooth_fit is None else self.smooth_fit.kinds

    def apply(
        self, images: NDArray[np.floating[Any]], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Prepare images for the network.

        Parameters
        ----------
        images : NDArray, shape (B, C, H, W)
            Finite, at the checkpoint's pixel scale and size, in any linear unit for
            ``normalise: noise``, in electron/s for ``fixed`` and for a fit. The planes of a fit may
            stand behind the bands; else they are fitted now.
        out : NDArray of float32, shape (B, C * n_stretches, H, W), optional
            Where to put the result.

        Returns
        -------
        NDArray of float32, shape (B, C * n_stretches, H, W)
        """
        x = self.stretched(images)
        out = x if out is None else out
        np.subtract(x, np.asarray(self.offset, np.float32)[:, None, None], out=out)
        out /= np.asarray(self.scale, np.float32)[:, None, None]
        limit = np.float32(self.clip)
        return np.clip(out, -limit, limit, out=out)

    def stretched(self, images: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Images in units of sigma after each stretch, before the per-channel constants."""
        if self.smooth_fit is not None and images.shape[1] == len(self.bands):
            images = np.concatenate([images, self.smooth_fit.fitted(images)], axis=1)
        images, planes = images[:, : len(self.bands)], images[:, len(self.bands) :]
        if self.normalise == "noise":
            background, sigma = border_statistics(images)
        else:
            background = np.asarray(self.background)[None, :, None, None]
            sigma = np.asarray(self.sigma)[None, :, None, None]
        x = np.empty(images.shape, np.float32)
        np.subtract(images, background, out=x, casting="same_kind")  # in float64, bit by bit
        np.divide(x, sigma, out=x, casting="same_kind")
        parts = [_stretch(x, s, self.softening) for s in self.stretch]
        for k, kind in enumerate(self._planes):
            parts.append(self._stretched_plane(planes[:, k : k + 1], k, kind, background, sigma))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _stretched_plane(
        self,
        plane: NDArray[np.floating[Any]],
        k: int,
        kind: Plane,
        background: NDArray[np.float64],
        sigma: NDArray[np.float64],
    ) -> NDArray[np.float32]:
        """The k-th plane of a fit, (B, 1, H, W); models get the units of their band's image."""
        if kind in CONSTANT:
            return plane.astype(np.float32)
        if kind == "model":
            band = self._planes[:k].count("model")
            plane = (plane - background[:, band : band + 1]) / sigma[:, band : band + 1]
        return _stretch(plane.astype(np.float32), "asinh", self.softening)


def fit_preprocess(dataset: TrainImages, config: PreprocessConfig) -> Preprocess:
    """Measure the constants on the first images of the train split."""
    smooth_fit = stored_smooth_fit(dataset, config.smooth_fit) if config.smooth_fit else None
    sample = first_planes(dataset, FIT_IMAGES, smooth_fit)
    n_bands = len(dataset.bands)
    background, sigma = border_statistics(sample[:, :n_bands])
    n_channels = n_bands * len(config.stretch) + (len(smooth_fit.kinds) if smooth_fit else 0)
    unit = Preprocess(
        bands=dataset.bands,
        pixel_scale=dataset.pixel_scale,
        size=dataset.image_shape[-1],
        normalise=config.normalise,
        stretch=config.stretch,
        softening=config.softening,
        background=tuple(np.median(background, axis=0).ravel().tolist()),
        sigma=tuple(np.median(sigma, axis=0).ravel().tolist()),
        offset=(0.0,) * n_channels,
        scale=(1.0,) * n_channels,
        clip=config.clip,
        smooth_fit=smooth_fit,
    )
    x = unit.stretched(sample)
    mean, std = x.mean(axis=(0, 2, 3), dtype=np.float64), x.std(axis=(0, 2, 3), dtype=np.float64)
    std = np.where(std > 0, std, 1.0)  # a plane may be the same everywhere
    return unit.with_changes(offset=tuple(mean.tolist()), scale=tuple(std.tolist()))


def first_planes(dataset: TrainImages, n: int, smooth_fit: SmoothFit | None) -> NDArray[np.float32]:
    """The first ``n`` images of the train split, with the planes of their fits behind the bands."""
    images = np.asarray(dataset.first_images(n), np.float32)
    if smooth_fit is None:
        return images
    assert isinstance(dataset, Dataset)
    return with_planes(dataset, images, dataset.indices("train")[:n], smooth_fit)


def border_statistics(
    images: NDArray[np.floating[Any]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Background and noise of each image and band, from its border.

    Median, and median absolute deviation times 1.4826; the noise is at least ``SIGMA_FLOOR`` of
    the image's range, so a noise-free image stays finite and the result stays affine-invariant.

    Returns
    -------
    background, sigma : NDArray, shape (B, C, 1, 1)
    """
    border = border_pixels(images)
    background = _median(border)
    deviation = np.empty_like(border)
    np.subtract(border, background, out=deviation, casting="same_kind")
    spread = np.ptp(images, axis=(-2, -1)).astype(np.float64)[..., None]
    sigma = MAD_TO_SIGMA * _median(np.abs(deviation, out=deviation))
    floor = np.where(spread > 0, SIGMA_FLOOR * spread, 1.0)
    return background[..., None], np.maximum(sigma, floor)[..., None]


def border_pixels(images: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Pixels of the border of each image, shape (B, C, n)."""
    width = max(2, round(images.shape[-1] * BORDER_FRACTION))
    if 2 * width >= min(images.shape[-2:]):
        return images.reshape(*images.shape[:2], -1)
    inner = images[..., width:-width, :]
    sides = (
        images[..., :width, :], images[..., -width:, :], inner[..., :width], inner[..., -width:],
    )  # fmt: skip
    return np.concatenate([side.reshape(*images.shape[:2], -1) for side in sides], axis=-1)


def _median(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Median over the last axis, which stays with length 1; NaN if a value is NaN."""
    # numpy sorts with vector instructions, ten times faster than it partitions for two places.
    ordered, n = np.sort(values, axis=-1), values.shape[-1]
    ends = ordered[..., [(n - 1) // 2, n // 2]].astype(np.float64)
    return np.where(np.isnan(ordered[..., -1:]), np.nan, ends.mean(axis=-1, keepdims=True))


def _stretch(x: NDArray[np.float32], kind: Stretch, softening: float) -> NDArray[np.float32]:
    """Compress the bright end; odd functions, linear near zero."""
    if kind == "linear":
        return x
    t = x / np.float32(softening)
    if kind == "asinh":
        np.arcsinh(t, out=t)
        return t
    size = np.abs(t)
    bent = np.sqrt(1.0 + size) - np.float32(1.0) if kind == "sqrt" else np.log1p(size, out=size)
    np.copysign(bent, t, out=t)
    return t
