"""Point-spread functions, and the linear map from rays to convolved pixels.

Gaussians are separable: binning and convolution of a whole image are one small matrix on each
side. Edges repeat the outermost pixel (``nearest``), as in lenstronomy (PHYSICS 5). Other PSFs are
kernels that the pixels are convolved with.
"""

import base64
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.core.config import StrictModel
from pipeline.physics.geometry import Grid
from pipeline.physics.pixels import read_pixels
from pipeline.physics.quantities import Angle

type Floats = NDArray[np.float64]
#: Maps rays (n_rays, n_rays), surface brightness, to pixels (n_pix, n_pix), its blurred mean.
type Blur = Callable[[Floats], Floats]

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))


class NoPsf(StrictModel):
    """A perfect telescope."""

    kind: Literal["none"] = "none"


class GaussianPsf(StrictModel):
    """Gaussian, cut at ``truncation`` standard deviations and of unit sum."""

    kind: Literal["gaussian"] = "gaussian"
    fwhm: Angle
    truncation: float = Field(default=5.0, ge=1)
    supersampled: bool = False  # convolve the rays rather than the binned pixels


class MoffatPsf(StrictModel):
    """Moffat (1969), (1 + r^2/r_d^2)^-beta with r_d = fwhm/(2 sqrt(2^(1/beta) - 1)), unit sum."""

    kind: Literal["moffat"] = "moffat"
    fwhm: Angle
    beta: float = Field(gt=1)
    half_size: int = Field(ge=1)  # pixels from the centre of the kernel to its edge


class KernelPsf(StrictModel):
    """Pixelised PSF: the kernel of a FITS or npy file, sampled at the pixels of the detector.

    YAML says ``path``; the kernel read there becomes part of the configuration, so that a dataset
    depends on the pixels and not on the file.
    """

    kind: Literal["kernel"] = "kernel"
    size: int  # of the kernel's side, odd
    values: str  # float64 of the kernel, row by row from the lowest, little-endian, base64

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:  # Any: raw YAML
        if not isinstance(data, Mapping) or "path" not in data:
            return data
        if not isinstance(data["path"], str):
            raise ValueError(f"path: {data['path']!r} is no text")
        if "values" in data:
            raise ValueError("expected one of path and values")
        rest = {key: value for key, value in data.items() if key != "path"}
        return {**rest, **encode_kernel(read_pixels(Path(data["path"])), f"path: {data['path']}")}

    @model_validator(mode="after")
    def _sound(self) -> Self:
        try:
            n_bytes = len(base64.b64decode(self.values, validate=True))
        except ValueError as error:
            raise ValueError(f"values: no base64: {error}") from error
        if n_bytes != 8 * self.size**2:
            raise ValueError(f"values: {n_bytes} bytes are no {self.size} x {self.size} kernel")
        _check_kernel(self.kernel(), "values")
        return self

    def kernel(self) -> Floats:
        """Kernel of unit sum, shape (size, size)."""
        pixels = np.frombuffer(base64.b64decode(self.values), "<f8").reshape(self.size, self.size)
        return np.asarray(pixels / pixels.sum())


type AnyPsf = NoPsf | GaussianPsf | MoffatPsf | KernelPsf
Psf = Annotated[NoPsf | GaussianPsf | MoffatPsf | KernelPsf, Field(discriminator="kind")]
#: Largest side of a kernel, in pixels: its values are stored with every dataset.
MAX_KERNEL = 257


def encode_kernel(pixels: Floats, where: str) -> dict[str, Any]:
    """``size`` and ``values`` of a :class:`KernelPsf`.

    Parameters
    ----------
    pixels : Floats, shape (n, n), n odd
    where : str
        Start of the message of a fault.

    Raises
    ------
    ValueError
        If the kernel is not square, even-sized, too large, not finite, or of no positive sum.
    """
    _check_kernel(pixels, where)
    raw = np.ascontiguousarray(pixels, "<f8").tobytes()
    return {"size": len(pixels), "values": base64.b64encode(raw).decode("ascii")}


def _check_kernel(pixels: Floats, where: str) -> None:
    rows, columns = pixels.shape
    if rows != columns:
        raise ValueError(f"{where}: the PSF is not square, but {rows} x {columns} pixels")
    if rows % 2 == 0:
        raise ValueError(f"{where}: the PSF is {rows} x {columns}, even-sized: it has no centre")
    if rows > MAX_KERNEL:
        raise ValueError(f"{where}: the PSF is {rows} pixels wide, more than {MAX_KERNEL}: cut it")
    n_bad = np.count_nonzero(~np.isfinite(pixels))
    if n_bad:
        raise ValueError(f"{where}: {n_bad} pixels of the PSF are not finite")
    if not pixels.sum() > 0:
        raise ValueError(f"{where}: the PSF sums to {pixels.sum():g}, not above 0")


def blur(psf: AnyPsf, grid: Grid) -> Blur:
    """Return the map from rays to pixels: the mean over each pixel, convolved with the PSF.

    Parameters
    ----------
    psf : NoPsf, GaussianPsf, MoffatPsf or KernelPsf
    grid : Grid

    Returns
    -------
    Callable
        (n_pix * supersample, n_pix * supersample) -> (n_pix, n_pix), linear.
    """
    side, kernel = blur_matrices(psf, grid)
    other = np.ascontiguousarray(side.T)
    if kernel is None:
        return lambda rays: side @ rays @ other
    half, n = len(kernel) // 2, grid.n_pix
    size = n + 4 * half
    transfer = np.fft.rfft2(kernel, s=(size, size))

    def apply(rays: Floats) -> Floats:
        padded = np.pad(side @ rays @ other, half, mode="edge")
        spread = np.fft.irfft2(np.fft.rfft2(padded, s=(size, size)) * transfer, s=(size, size))
        return np.asarray(spread[2 * half : 2 * half + n, 2 * half : 2 * half + n])

    return apply


def blur_matrices(psf: AnyPsf, grid: Grid) -> tuple[Floats, Floats | None]:
    """Return what :func:`blur` is made of.

    Parameters
    ----------
    psf : NoPsf, GaussianPsf, MoffatPsf or KernelPsf
    grid : Grid

    Returns
    -------
    side : Floats, shape (n_pix, n_rays)
        ``side @ rays @ side.T`` bins and, for a separable PSF, convolves.
    kernel : Floats or None
        What is left to convolve the pixels with, edges repeated; of odd size and unit sum.
    """
    binning = np.repeat(np.eye(grid.n_pix), grid.supersample, axis=1) / grid.supersample
    if isinstance(psf, MoffatPsf):
        return binning, moffat_kernel(psf, grid.pixel_scale)
    if isinstance(psf, KernelPsf):
        return binning, psf.kernel()
    if isinstance(psf, NoPsf):
        return binning, None
    taps = gaussian_taps(psf, grid)
    if psf.supersampled:
        return binning @ _convolution(grid.n_pix * grid.supersample, taps), None
    return _convolution(grid.n_pix, taps) @ binning, None


def gaussian_kernel(sigma: float, truncation: float) -> Floats:
    """Sampled Gaussian of unit sum, radius int(truncation * sigma + 0.5) (sigma in samples)."""
    radius = int(truncation * sigma + 0.5)
    offset = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offset / sigma) ** 2)
    return np.asarray(kernel / kernel.sum())


def gaussian_taps(psf: GaussianPsf, grid: Grid) -> Floats:
    """Kernel of a Gaussian PSF along one axis, sampled at the rays or the pixels it convolves."""
    scale = grid.ray_scale if psf.supersampled else grid.pixel_scale
    return gaussian_kernel(psf.fwhm / FWHM_PER_SIGMA / scale, psf.truncation)


def moffat_kernel(psf: MoffatPsf, pixel_scale: float) -> Floats:
    """Moffat sampled at pixel centres, unit sum, shape (2 half_size + 1, 2 half_size + 1)."""
    r_d = psf.fwhm / (2.0 * math.sqrt(2.0 ** (1.0 / psf.beta) - 1.0)) / pixel_scale
    offset = np.arange(-psf.half_size, psf.half_size + 1)
    r2 = offset[None, :] ** 2 + offset[:, None] ** 2
    kernel = (1.0 + r2 / r_d**2) ** -psf.beta
    return np.asarray(kernel / kernel.sum())


def _convolution(n: int, kernel: Floats) -> Floats:
    """Convolution of n samples with the kernel as a matrix, shape (n, n)."""
    radius = len(kernel) // 2
    row = np.arange(n)
    matrix = np.zeros((n, n))
    for offset, weight in zip(range(-radius, radius + 1), kernel, strict=True):
        np.add.at(matrix, (row, np.clip(row + offset, 0, n - 1)), weight)
    return matrix


def psf_image(psf: AnyPsf, pixel_scale: float, supersample: int = 1) -> Floats:
    """What a telescope makes of a pixel of light: the response of :func:`blur`, of unit sum.

    Parameters
    ----------
    psf : NoPsf, GaussianPsf, MoffatPsf or KernelPsf
    pixel_scale : float, arcsec
    supersample : int
        Rays along one side of a pixel.

    Returns
    -------
    Floats, shape (n, n), n odd
        Just large enough.
    """
    half = 1
    if isinstance(psf, GaussianPsf):
        half = int(psf.truncation * psf.fwhm / FWHM_PER_SIGMA / pixel_scale + 0.5) + 1
    elif isinstance(psf, MoffatPsf):
        half = psf.half_size
    elif isinstance(psf, KernelPsf):
        half = psf.size // 2
    grid = Grid(2 * half + 1, pixel_scale, supersample)
    rays = np.zeros((grid.n_pix * supersample,) * 2)
    middle = slice(half * supersample, (half + 1) * supersample)
    rays[middle, middle] = 1.0
    image = blur(psf, grid)(rays)
    return np.asarray(image / image.sum())
