"""Stamps of real galaxies as sources: reading, preparation, and the light between their pixels.

A stamp loses its background (median of its corners), fades to zero at its edge and is scaled to
unit flux. Between pixels it is a bicubic spline (PHYSICS 3).
"""

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.physics.components import Floats
from pipeline.physics.fields import spline_weights
from pipeline.physics.geometry import rotate_in
from pipeline.physics.pixels import SUFFIXES, is_image, read_pixels
from pipeline.physics.profiles.array_api import Array, namespace

#: Parameters of the profile ``image``.
PARAMETERS = ("scale", "phi", "center_x", "center_y")
#: Side of the boxes in the corners that give the background, in sides of the stamp.
CORNER = 0.1
#: Empty pixels around every stamp, so that its spline ends at zero.
MARGIN = 3
MIN_SIDE = 8


@dataclass(frozen=True)
class Stamps:
    """Galaxies of one folder, padded to one size.

    Attributes
    ----------
    names : tuple of str
        File names, sorted: the identity of each galaxy.
    images : tuple of Floats, each (n, n)
        Of unit sum.
    sha256 : str
        Of the names and the pixels as read.
    """

    names: tuple[str, ...]
    images: tuple[Floats, ...]
    sha256: str


@functools.lru_cache(maxsize=8)
def load_stamps(path: str, taper: float) -> Stamps:
    """Read and prepare the stamp ``path``, or every stamp of the folder ``path``.

    Parameters
    ----------
    path : str
    taper : float
        Outer share of the radius over which a stamp fades to zero.

    Raises
    ------
    ValueError
        Naming the file that is no image, too small, not finite or without flux, or the folder
        that is empty.
    """
    files = _files(Path(path))
    digest = hashlib.sha256()
    prepared = []
    for file in files:
        pixels = read_pixels(file)
        digest.update(f"{file.name} {pixels.shape} ".encode())
        digest.update(np.ascontiguousarray(pixels, "<f8").tobytes())
        prepared.append(prepare(pixels, taper, str(file)))
    side = max(max(p.shape) for p in prepared) + 2 * MARGIN
    images = tuple(_padded(p, side) for p in prepared)
    return Stamps(tuple(f.name for f in files), images, digest.hexdigest())


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path} is neither a file nor a folder")
    files = sorted(p for p in path.iterdir() if p.is_file() and is_image(p))
    if not files:
        raise ValueError(f"{path} is empty: it holds no {', '.join(SUFFIXES)} file")
    return files


def prepare(pixels: Floats, taper: float, where: str) -> Floats:
    """Stamp without background, faded at its edge, of unit sum.

    Parameters
    ----------
    pixels : Floats, shape (rows, columns)
    taper : float
        Outer share of the radius over which the stamp fades, as half a cosine.
    where : str
        Start of the message of a fault.

    Returns
    -------
    Floats, shape (rows, columns)

    Raises
    ------
    ValueError
    """
    rows, columns = pixels.shape
    if min(rows, columns) < MIN_SIDE:
        raise ValueError(f"{where}: {rows} x {columns} pixels are too few, {MIN_SIDE} at least")
    n_bad = np.count_nonzero(~np.isfinite(pixels))
    if n_bad:
        raise ValueError(f"{where}: {n_bad} of {pixels.size} pixels are not finite")
    high, wide = max(1, round(CORNER * rows)), max(1, round(CORNER * columns))
    corners = [pixels[y, x] for y in _ends(high) for x in _ends(wide)]
    clean = (pixels - np.median(np.stack(corners))) * _window(rows, columns, taper)
    flux = clean.sum()
    if not flux > 1e-6 * np.abs(clean).sum():
        raise ValueError(f"{where}: no flux is left above the background of its corners")
    return np.asarray(clean / flux)


def _ends(n: int) -> Iterable[slice]:
    return slice(None, n), slice(-n, None)


def _window(rows: int, columns: int, taper: float) -> Floats:
    """Weight 1 inside, falling to 0 on the inscribed ellipse."""
    y, x = (np.linspace(-1.0, 1.0, n) for n in (rows, columns))
    outward = np.clip((np.hypot(x[None, :], y[:, None]) - (1.0 - taper)) / taper, 0.0, 1.0)
    return np.asarray(0.5 * (1.0 + np.cos(np.pi * outward)))


def _padded(stamp: Floats, side: int) -> Floats:
    before = [(side - n) // 2 for n in stamp.shape]
    after = [side - n - b for n, b in zip(stamp.shape, before, strict=True)]
    return np.pad(stamp, list(zip(before, after, strict=True)))


def stamp_coefficients(stamp: Floats) -> Floats:
    """Coefficients of the bicubic spline through the pixels of ``stamp``, same shape."""
    from scipy.ndimage import spline_filter  # type: ignore[import-untyped]  # heavy

    return np.asarray(spline_filter(stamp, order=3, mode="mirror"))


def stamp_brightness(
    x: Array,
    y: Array,
    coefficients: Array,
    scale: Array,
    phi: Array,
    center_x: Array = 0.0,
    center_y: Array = 0.0,
) -> Array:
    """Surface brightness of a stamp of unit flux; zero outside.

    Parameters
    ----------
    x, y : Array, arcsec
    coefficients : Array, shape (n, n)
        Of :func:`stamp_coefficients`.
    scale : Array, arcsec
        Side of a pixel of the stamp.
    phi : Array, rad
        Angle from +x to the rows of the stamp.
    center_x, center_y : Array, arcsec

    Returns
    -------
    Array, arcsec^-2
    """
    xp = namespace(x)
    u, v = rotate_in(x, y, phi, center_x, center_y)
    n = coefficients.shape[-1]
    middle = (n - 1) / 2.0
    u, v = u / scale + middle, v / scale + middle
    inside = (u >= 2.0) & (u <= n - 3.0) & (v >= 2.0) & (v <= n - 3.0)
    u, v = xp.clip(u, 2.0, n - 3.0), xp.clip(v, 2.0, n - 3.0)
    column, row = xp.floor(u), xp.floor(v)
    along_x, along_y = spline_weights(u - column), spline_weights(v - row)
    column, row = column.astype(np.int32) - 1, row.astype(np.int32) - 1
    total = 0.0
    for j in range(4):
        for i in range(4):
            total = total + along_y[j] * along_x[i] * coefficients[row + j, column + i]
    return xp.where(inside, total, 0.0) / scale**2
