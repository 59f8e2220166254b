"""Bring an image as stored to the checkpoint's pixel scale and size, and say what was done.

The picture is cut around its middle, repaired where few pixels are missing, resampled with its flux
conserved, and padded with empty sky. It is never turned or mirrored: north has no meaning for a
lens. Normalisation belongs to the checkpoint (``Preprocess.apply``) and is not repeated here.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.images import RawImage, Rejection, RejectReason, UnreadableImageError

if TYPE_CHECKING:
    from pipeline.dataset.preprocess import Preprocess

#: Relative difference of pixel scales that is left alone.
SCALE_TOLERANCE = 0.03
#: File pixels this much larger than the checkpoint's have lost what the network looks for.
COARSE_RATIO = 1.5
#: File pixels more than this many times the checkpoint's are refused.
MAX_RATIO = 8.0
#: The image must reach over this fraction of the checkpoint's field on both axes.
MIN_FIELD = 0.5
#: Smallest side of any image, file pixels.
MIN_SIDE = 16
#: Largest fraction of missing pixels that is repaired: in all, and in the middle half.
MAX_MISSING, MAX_MISSING_CENTRE = 0.30, 0.05
#: More than this fraction of equal pixels is a blank frame.
BLANK_FRACTION = 0.99
#: Peak over noise, smoothed over 3 x 3 pixels, below which nothing is there.
LOW_SNR = 5.0

Array = NDArray[np.float64]
#: Median absolute deviation to standard deviation of a Gaussian, 1 / (sqrt(2) erfinv(1/2)).
_MAD_TO_SIGMA = 1.4826022185056018
#: Largest pixel given to a network: its differences and squares stay finite in float32.
_MAX_FLOAT32 = 1e30
#: Noise that a noise-free image is taken to have, as a fraction of its range.
_NOISE_FREE = 1e-4


@dataclass(frozen=True)
class Target:
    """What a checkpoint's images look like; light enough to send to reader processes.

    ``is_unit_free`` says that each image is normalised by its own noise, so its unit drops out.
    """

    bands: tuple[str, ...]
    pixel_scale: float
    size: int
    is_unit_free: bool

    @classmethod
    def of(cls, preprocess: "Preprocess") -> "Target":
        """Target of a checkpoint's preprocessing."""
        return cls(
            bands=preprocess.bands,
            pixel_scale=preprocess.pixel_scale,
            size=preprocess.size,
            is_unit_free=preprocess.normalise == "noise",
        )


@dataclass(frozen=True)
class Prepared:
    """An image ready for ``Run.predict``.

    Attributes
    ----------
    image : NDArray, shape (C, size, size), float32
        For a unit-free target in the file's own unit where float32 holds every pixel exactly, so
        that a file scores bit for bit as the array it was written from; else with the background
        removed and scaled by a power of two, which that checkpoint does not see. In electron/s
        otherwise.
    hdu : str
    pixel_scale : float or None, arcsec
        Of the file.
    is_resampled : bool
    snr : float
        Smoothed peak above the border's background in units of its noise.
    flags : tuple of str
        Those of the raw image, and ``pixel_scale_unknown``, ``resampled``, ``coarse_pixels``,
        ``cropped``, ``padded``, ``repaired``, ``unit_unknown``, ``low_snr``.
    """

    image: NDArray[np.float32]
    hdu: str
    pixel_scale: float | None
    is_resampled: bool
    snr: float
    flags: tuple[str, ...]


def prepare_image(raw: RawImage, target: Target) -> Prepared | Rejection:
    """Match ``raw`` to the bands, pixel scale and size of ``target``.

    An unknown pixel scale is never guessed: the native pixels are used and
    ``pixel_scale_unknown`` says so.

    Parameters
    ----------
    raw : RawImage
    target : Target

    Returns
    -------
    Prepared or Rejection
    """
    try:
        return _prepare(raw, target)
    except UnreadableImageError as error:
        return error.rejection


def _prepare(raw: RawImage, target: Target) -> Prepared:
    _check_bands(raw, target)
    ratio = _ratio(raw, target)
    size = target.size
    height, width = raw.data.shape[-2:]
    if min(height, width) < MIN_SIDE or min(height, width) * ratio < MIN_FIELD * size:
        raise _reject(
            RejectReason.TOO_SMALL,
            f"{height} x {width} pixels cover {height * ratio:.0f} x {width * ratio:.0f} of the "
            f"checkpoint's {size} x {size}",
        )
    flags = list(raw.flags)
    if raw.pixel_scale is None:
        flags.append("pixel_scale_unknown")
    flags += _unit_flags(raw, target)
    window = _crop(raw.data, size, ratio)
    was_repaired = _check_pixels(window)
    planes = np.stack([_repair(plane) for plane in window]) if was_repaired else window
    if ratio != 1.0:
        planes = _resample(planes, size, ratio)
    sides = round(height * ratio), round(width * ratio)
    padded = _pad(planes, size)
    facts = {
        "resampled": ratio != 1.0,
        "coarse_pixels": ratio > COARSE_RATIO,
        "cropped": max(sides) > size,
        "padded": padded.shape != planes.shape,
        "repaired": was_repaired,
    }
    flags += [word for word, is_so in facts.items() if is_so]
    image, snr = _finish(padded, target)
    if snr < LOW_SNR:
        flags.append("low_snr")
    return Prepared(image, raw.hdu, raw.pixel_scale, ratio != 1.0, snr, tuple(dict.fromkeys(flags)))


def _check_bands(raw: RawImage, target: Target) -> None:
    n_planes, n_bands = raw.data.shape[0], len(target.bands)
    if n_planes == n_bands:
        return
    reason = RejectReason.MISSING_BAND if n_planes == 1 else RejectReason.WRONG_SHAPE
    raise _reject(
        reason,
        f"HDU {raw.hdu} has {n_planes} plane(s), the checkpoint sees {n_bands}: "
        f"{', '.join(target.bands)}",
    )


def _ratio(raw: RawImage, target: Target) -> float:
    """File pixel over checkpoint pixel; exactly 1 where nothing needs resampling."""
    if raw.pixel_scale is None:
        return 1.0
    ratio = raw.pixel_scale / target.pixel_scale
    if ratio > MAX_RATIO:
        raise _reject(
            RejectReason.PIXEL_SCALE_MISMATCH,
            f"pixels of {raw.pixel_scale:.4g} arcsec, the checkpoint's are "
            f"{target.pixel_scale:.4g} arcsec: more than {MAX_RATIO:g} times coarser",
        )
    return 1.0 if abs(ratio - 1.0) <= SCALE_TOLERANCE else ratio


def _unit_flags(raw: RawImage, target: Target) -> list[str]:
    """Units matter only to a checkpoint that does not normalise each image by its own noise."""
    if target.is_unit_free:
        return []
    if raw.unit is None:
        return ["unit_unknown"]
    if raw.unit.strip().lower() not in _ELECTRON_PER_SECOND:
        raise _reject(
            RejectReason.UNKNOWN_UNIT, f"BUNIT {raw.unit!r}; this checkpoint needs electron/s"
        )
    return []


_ELECTRON_PER_SECOND = frozenset({"electron/s", "electrons/s", "e-/s", "e/s", "electron s-1"})


def _crop(data: Array, size: int, ratio: float) -> Array:
    """Middle of the image: the checkpoint's field, with a margin if it is to be resampled."""
    margin = 0 if ratio == 1.0 else 4
    needed = math.ceil(size / ratio) + 2 * margin
    rows, columns = (_middle(n, needed, keep_centre=ratio != 1.0) for n in data.shape[-2:])
    return data[:, rows, columns]


def _middle(n: int, needed: int, *, keep_centre: bool) -> slice:
    start = max(0, (n - needed) // 2)
    return slice(start, n - start if keep_centre else min(n, start + needed))


def _check_pixels(window: Array) -> bool:
    """Refuse what cannot be repaired and what is empty; say whether anything is missing."""
    missing = ~np.isfinite(window)
    height, width = window.shape[-2:]
    centre = missing[:, height // 4 : -(height // 4), width // 4 : -(width // 4)]
    in_all, in_centre = (float(part.mean(axis=(1, 2)).max()) for part in (missing, centre))
    if in_all > MAX_MISSING or in_centre > MAX_MISSING_CENTRE:
        raise _reject(
            RejectReason.NOT_FINITE,
            f"{in_all:.0%} of the pixels have no value, {in_centre:.0%} in the middle; "
            f"up to {MAX_MISSING:.0%} and {MAX_MISSING_CENTRE:.0%} are repaired",
        )
    for plane, gaps in zip(window, missing, strict=True):
        values = plane[~gaps] if in_all else plane
        share = float(np.mean(values == np.median(values)))
        if share > BLANK_FRACTION:
            raise _reject(RejectReason.BLANK, f"{share:.1%} of the pixels have the same value")
    return in_all > 0


def _repair(plane: Array) -> Array:
    """Fill missing pixels: single ones from their neighbours, large gaps with empty sky."""
    from scipy.ndimage import uniform_filter  # type: ignore[import-untyped]

    good = np.isfinite(plane)
    weight = uniform_filter(good.astype(np.float64), 5, mode="constant")
    background, _ = _sky(plane)
    local = uniform_filter(np.where(good, plane - background, 0.0), 5, mode="constant")
    with np.errstate(divide="ignore", invalid="ignore"):
        local = local / weight + background
    gaps = np.where(weight > 0.5, local, _empty_sky(plane, plane.shape))
    return np.where(good, plane, gaps)


def _resample(planes: Array, size: int, ratio: float) -> Array:
    """Flux-conserving change of the pixel scale by ``ratio`` on both axes."""
    rows, columns = (
        resampling_matrix(n, min(size, math.floor(n * ratio + 0.01)), ratio)
        for n in planes.shape[-2:]
    )
    return np.asarray(rows @ planes @ columns.T)


@lru_cache(maxsize=64)
def resampling_matrix(n_in: int, n_out: int, ratio: float) -> Array:
    """Matrix that takes the flux in ``n_in`` pixels to ``n_out`` pixels around the same centre.

    The cumulative flux along the axis is interpolated by a cubic spline and differenced at the new
    pixel edges, so each new pixel holds the flux between its edges and none is lost.

    Parameters
    ----------
    n_in, n_out : int
    ratio : float
        Old pixel side over new pixel side.

    Returns
    -------
    NDArray, shape (n_out, n_in)
    """
    from scipy.interpolate import make_interp_spline  # type: ignore[import-untyped]

    cumulative = np.vstack([np.zeros(n_in), np.cumsum(np.eye(n_in), axis=0)])
    edges = n_in / 2 + (np.arange(n_out + 1) - n_out / 2) / ratio
    spline = make_interp_spline(np.arange(n_in + 1.0), cumulative, k=3)
    return np.diff(spline(np.clip(edges, 0.0, n_in)), axis=0)


def _pad(planes: Array, size: int) -> Array:
    """Centre the planes in ``size`` x ``size`` pixels of empty sky."""
    if planes.shape[-2:] == (size, size):
        return planes
    height, width = planes.shape[-2:]
    top, left = (size - height) // 2, (size - width) // 2
    padded = np.stack([_empty_sky(plane, (size, size)) for plane in planes])
    padded[:, top : top + height, left : left + width] = planes
    return padded


def _empty_sky(plane: Array, shape: tuple[int, ...]) -> Array:
    """Background and noise like the border of ``plane``.

    The noise is one fixed pattern, scaled: the same file always gives the same image, and a change
    of units changes the filled pixels with all others. A flat fill would tell the checkpoint, which
    measures the noise on the border, that there is none.
    """
    background, sigma = _sky(plane)
    return np.asarray(background + sigma * _noise_pattern(shape))


@lru_cache(maxsize=16)
def _noise_pattern(shape: tuple[int, ...]) -> Array:
    return np.random.Generator(np.random.Philox(20090)).standard_normal(shape)


def _sky(plane: Array) -> tuple[float, float]:
    """Background and noise: median and scaled MAD of the outermost pixels that have values."""
    height, width = plane.shape
    good = np.isfinite(plane)
    edge = max(2, round(min(height, width) / 16))
    while True:
        ring = np.ones(plane.shape, bool)
        ring[edge:-edge, edge:-edge] = False
        if (ring & good).sum() >= 2 * (height + width) or 4 * edge >= min(height, width):
            break
        edge *= 2
    values = plane[ring & good] if (ring & good).any() else plane[good]
    background = float(np.median(values))
    return background, _MAD_TO_SIGMA * float(np.median(np.abs(values - background)))


def _finish(planes: Array, target: Target) -> tuple[NDArray[np.float32], float]:
    """Cast to float32 without losing faint or offset images, and measure the peak's S/N."""
    from scipy.ndimage import uniform_filter

    images, snrs = [], []
    for plane in planes:
        background, sigma = _sky(plane)
        sigma = max(sigma, _NOISE_FREE * float(np.ptp(plane)))
        if not sigma > 0 or not math.isfinite(sigma):
            raise _reject(RejectReason.NOT_FINITE, "pixel values beyond what numbers can hold")
        centred = plane - background
        snrs.append(float(uniform_filter(centred, 3).max()) / (sigma / 3))
        if _is_float32(plane):
            images.append(plane)
        elif target.is_unit_free:
            images.append(np.ldexp(centred, -math.frexp(sigma)[1]))
        else:
            images.append(np.clip(plane, -_MAX_FLOAT32, _MAX_FLOAT32))
    return np.stack(images).astype(np.float32), max(snrs)


def _is_float32(plane: Array) -> bool:
    """Whether the cast to float32 changes no pixel."""
    if not np.abs(plane).max() <= _MAX_FLOAT32:
        return False
    return bool(np.array_equal(plane.astype(np.float32), plane))


def _reject(reason: RejectReason, detail: str) -> UnreadableImageError:
    return UnreadableImageError(reason, detail)
