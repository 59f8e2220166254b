"""Bring an image as stored to the checkpoint's pixel scale and size, and say what was done.

The picture is cut around its centre, repaired where few pixels are missing, resampled with its flux
conserved, and padded with empty sky. Stored pixels are neither turned nor mirrored unless that is
asked for: north has no meaning for a lens. Normalisation belongs to the checkpoint
(``Preprocess.apply``) and is not repeated here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.images import (
    RawImage,
    ReadOptions,
    Rejection,
    RejectReason,
    UnreadableImageError,
)
from pipeline.inference.lens_light import subtract_lens_light
from pipeline.inference.resample import Array, pad, repair, resample, sky_level
from pipeline.inference.target import Target
from pipeline.inference.window import Centre, find_centre, keep_around, middle_window

#: Relative difference of pixel scales that is left alone.
SCALE_TOLERANCE = 0.03
#: File pixels this much larger than the checkpoint's have lost what the network looks for.
COARSE_RATIO = 1.5
#: A PSF this many times wider than that of the training images, or narrower, is said.
PSF_RATIO = 1.5
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
#: Largest pixel given to a network: its differences and squares stay finite in float32.
_MAX_FLOAT32 = 1e30
#: Noise that a noise-free image is taken to have, as a fraction of its range.
_NOISE_FREE = 1e-4
_ELECTRON_PER_SECOND = frozenset({"electron/s", "electrons/s", "e-/s", "e/s", "electron s-1"})

Step = dict[str, Any]  # Any: numbers and texts by name


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
        ``psf_differs``, ``cropped``, ``padded``, ``repaired``, ``lens_light``, ``unit_unknown``,
        ``low_snr``.
    facts : mapping
        Further columns of the scores table by name.
    steps : tuple of dict
        What was done, in order, with its numbers; empty unless asked for.
    """

    image: NDArray[np.float32]
    hdu: str
    pixel_scale: float | None
    is_resampled: bool
    snr: float
    flags: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)  # Any: number or text
    steps: tuple[Step, ...] = ()


def prepare_image(
    raw: RawImage, target: Target, options: ReadOptions | None = None
) -> Prepared | Rejection:
    """Match ``raw`` to the bands, pixel scale and size of ``target``.

    An unknown pixel scale is never guessed: the native pixels are used and
    ``pixel_scale_unknown`` says so.

    Parameters
    ----------
    raw : RawImage
    target : Target
    options : ReadOptions, optional

    Returns
    -------
    Prepared or Rejection
    """
    try:
        return _prepare(raw, target, options or ReadOptions())
    except UnreadableImageError as error:
        return error.rejection


def _prepare(raw: RawImage, target: Target, options: ReadOptions) -> Prepared:
    _check_bands(raw, target)
    ratio = _ratio(raw, target)
    centre = find_centre(raw.data, options.center)
    data = raw.data if centre.is_middle else keep_around(raw.data, centre, target.size / ratio)
    _check_field(data, target.size, ratio)
    planes, steps = _window(data, target, ratio)
    flags = [*raw.flags, *_scale_flags(raw, target, ratio)]
    factor = _unit_factor(raw, target, flags)
    missing = steps[-1]["missing"]
    if factor is not None:
        planes = planes * np.asarray(factor)[:, None, None]
    if ratio != 1.0:
        planes = resample(planes, target.size, ratio)
    planes, turn = _orient(planes, raw, options)
    if options.lens_light == "subtract":
        planes = np.stack([subtract_lens_light(plane) for plane in planes])
    sides = [round(n * ratio) for n in data.shape[-2:]]
    padded = pad(planes, target.size)
    facts = {
        "resampled": ratio != 1.0,
        "coarse_pixels": ratio > COARSE_RATIO,
        "cropped": max(sides) > target.size,
        "padded": padded.shape != planes.shape,
        "repaired": missing > 0,
        "lens_light": options.lens_light == "subtract",
    }
    flags += [word for word, is_so in facts.items() if is_so]
    image, sky, rms, snr = _finish(padded, target)
    if snr < LOW_SNR:
        flags.append("low_snr")
    columns = _columns(raw, centre, sky, rms, snr, missing, factor)
    if options.explain:
        steps = _explain(raw, target, options, steps, columns, flags, turn, ratio, sides)
    return Prepared(
        image, raw.hdu, raw.pixel_scale, ratio != 1.0, snr, tuple(dict.fromkeys(flags)), columns,
        tuple(steps) if options.explain else (),
    )  # fmt: skip


def _check_bands(raw: RawImage, target: Target) -> None:
    n_planes, n_bands = raw.data.shape[0], len(target.bands)
    if n_planes == n_bands:
        return
    reason = RejectReason.MISSING_BAND if n_planes == 1 else RejectReason.WRONG_SHAPE
    hint = "; --band takes one plane" if n_bands == 1 else ""
    raise _reject(
        reason,
        f"HDU {raw.hdu} has {n_planes} plane(s), the checkpoint sees {n_bands}: "
        f"{', '.join(target.bands)}{hint}",
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


def _check_field(data: Array, size: int, ratio: float) -> None:
    height, width = data.shape[-2:]
    if min(height, width) < MIN_SIDE or min(height, width) * ratio < MIN_FIELD * size:
        raise _reject(
            RejectReason.TOO_SMALL,
            f"{height} x {width} pixels cover {height * ratio:.0f} x {width * ratio:.0f} of the "
            f"checkpoint's {size} x {size}",
        )


def _window(data: Array, target: Target, ratio: float) -> tuple[Array, list[Step]]:
    """Middle of the image, the checkpoint's field with a margin, its gaps filled."""
    window = middle_window(data, target.size, ratio)
    missing, in_centre = _check_pixels(window)
    planes = np.stack([repair(plane) for plane in window]) if missing else window
    shape = [int(n) for n in window.shape[-2:]]
    return planes, [{"step": "window", "pixels": shape, "missing": missing, "in_centre": in_centre}]


def _check_pixels(window: Array) -> tuple[float, float]:
    """Refuse what cannot be repaired and what is empty; the missing fractions, all and centre."""
    missing = ~np.isfinite(window)
    in_all = in_centre = 0.0
    if missing.any():
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
        values = plane[~gaps] if in_all else plane.ravel()
        # Where so few differ the commonest value is the median of a little over twice as many.
        few = values[: 2 * int((1.0 - BLANK_FRACTION) * values.size) + 3]
        share = float(np.mean(values == np.median(few)))
        if share > BLANK_FRACTION:
            raise _reject(RejectReason.BLANK, f"{share:.1%} of the pixels have the same value")
    return in_all, in_centre


def _scale_flags(raw: RawImage, target: Target, ratio: float) -> list[str]:
    flags = ["pixel_scale_unknown"] if raw.pixel_scale is None else []
    if raw.psf_fwhm is not None and target.psf_fwhm is not None:
        width = raw.psf_fwhm / target.psf_fwhm
        if not 1 / PSF_RATIO <= width <= PSF_RATIO:
            flags.append("psf_differs")
    return flags


def _unit_factor(raw: RawImage, target: Target, flags: list[str]) -> tuple[float, ...] | None:
    """Factor to electron/s of the training instrument, one per band; None where none is needed.

    Units matter only to a checkpoint that does not normalise each image by its own noise.
    """
    if target.is_unit_free:
        return None
    point = raw.photometry.zero_point if raw.photometry else None
    if point is not None and all(own is not None for own in target.zero_points):
        return tuple(10 ** (0.4 * (own - point)) for own in target.zero_points if own is not None)
    if raw.unit is None:
        flags.append("unit_unknown")
    elif raw.unit.strip().lower() not in _ELECTRON_PER_SECOND:
        raise _reject(
            RejectReason.UNKNOWN_UNIT,
            f"BUNIT {raw.unit!r} and no zero point; this checkpoint needs electron/s",
        )
    return None


def _orient(planes: Array, raw: RawImage, options: ReadOptions) -> tuple[Array, str]:
    """Turn by quarter turns to north up and east left, where asked for and the WCS is known."""
    angle = raw.pointing.north_angle if raw.pointing else None
    if options.orient != "north" or raw.pointing is None or angle is None:
        return planes, "none"
    quarter = round(angle / 90.0) % 4
    planes = np.rot90(planes, quarter, axes=(-2, -1))  # clockwise, since rows count upwards
    if raw.pointing.is_mirrored:
        planes = planes[..., ::-1]
    mirrored = " and mirrored" if raw.pointing.is_mirrored else ""
    return np.ascontiguousarray(planes), f"{90 * quarter} degrees clockwise{mirrored}"


def _finish(
    planes: Array, target: Target
) -> tuple[NDArray[np.float32], list[float], list[float], float]:
    """Cast to float32 without losing faint or offset images; sky, noise and the peak's S/N."""
    from scipy.ndimage import uniform_filter  # type: ignore[import-untyped]

    images, skies, noises, snrs = [], [], [], []
    for plane in planes:
        background, sigma = sky_level(plane)
        sigma = max(sigma, _NOISE_FREE * float(np.ptp(plane)))
        if not sigma > 0 or not math.isfinite(sigma):
            raise _reject(RejectReason.NOT_FINITE, "pixel values beyond what numbers can hold")
        centred = plane - background
        skies.append(background)
        noises.append(sigma)
        snrs.append(float(uniform_filter(centred, 3).max()) / (sigma / 3))
        if _is_float32(plane):
            images.append(plane)
        elif target.is_unit_free:
            images.append(np.ldexp(centred, -math.frexp(sigma)[1]))
        else:
            images.append(np.clip(plane, -_MAX_FLOAT32, _MAX_FLOAT32))
    return np.stack(images).astype(np.float32), skies, noises, max(snrs)


def _is_float32(plane: Array) -> bool:
    """Whether the cast to float32 changes no pixel."""
    if not np.abs(plane).max() <= _MAX_FLOAT32:
        return False
    return bool(np.array_equal(plane.astype(np.float32), plane))


def _columns(
    raw: RawImage,
    centre: Centre,
    sky: list[float],
    rms: list[float],
    snr: float,
    missing: float,
    factor: tuple[float, ...] | None,
) -> dict[str, Any]:  # Any: number, text or None
    """Columns of the scores table that describe the image; sky of the first band, file's unit."""
    where = raw.pointing.radec(centre.x, centre.y) if raw.pointing else None
    unit = 1.0 if factor is None else factor[0]
    return {
        "band": raw.band,
        "center_x": centre.x + raw.offset[0] + 1,
        "center_y": centre.y + raw.offset[1] + 1,
        "ra": where[0] if where else None,
        "dec": where[1] if where else None,
        "north_angle": raw.pointing.north_angle if raw.pointing else None,
        "unit": raw.unit,
        "zero_point": raw.photometry.zero_point if raw.photometry else None,
        "psf_fwhm": raw.psf_fwhm,
        "sky": sky[0] / unit,
        "sky_rms": rms[0] / unit,
        "snr": snr,
        "masked_fraction": missing,
    }


def _explain(
    raw: RawImage,
    target: Target,
    options: ReadOptions,
    window: list[Step],
    columns: dict[str, Any],  # Any: as above
    flags: list[str],
    turn: str,
    ratio: float,
    sides: list[int],
) -> list[Step]:
    """Every step in order, with its numbers."""
    basis = raw.photometry.basis if raw.photometry else ""
    shape = [int(n) for n in raw.data.shape]
    return [
        {"step": "read", "hdu": raw.hdu, "band": raw.band, "shape": shape,
         "flags": list(raw.flags)},
        {"step": "unit", "unit": raw.unit, "zero_point": columns["zero_point"], "from": basis,
         "matters": not target.is_unit_free},
        {"step": "centre", "asked": options.center, "x": columns["center_x"],
         "y": columns["center_y"], "ra": columns["ra"], "dec": columns["dec"]},
        *window,
        {"step": "pixel_scale", "file": raw.pixel_scale, "network": target.pixel_scale,
         "ratio": ratio, "resampled": ratio != 1.0, "side_in_network_pixels": sides},
        {"step": "orientation", "north_angle": columns["north_angle"],
         "mirrored": raw.pointing.is_mirrored if raw.pointing else None, "turned": turn},
        {"step": "psf", "file_fwhm": raw.psf_fwhm, "training_fwhm": target.psf_fwhm,
         "differs": "psf_differs" in flags},
        {"step": "lens_light", "done": options.lens_light},
        {"step": "size", "network": target.size, "cropped": "cropped" in flags,
         "padded": "padded" in flags},
        {"step": "sky", "level": columns["sky"], "rms": columns["sky_rms"],
         "snr": columns["snr"]},
    ]  # fmt: skip


def _reject(reason: RejectReason, detail: str) -> UnreadableImageError:
    return UnreadableImageError(reason, detail)
