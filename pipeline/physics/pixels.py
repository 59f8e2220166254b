"""Pixel arrays that users hand in: FITS images and npy files, as PSF kernels and galaxy stamps.

Faults are ``ValueError``s that name the file, so that the reader of a configuration can say where.
"""

from pathlib import Path

import numpy as np

from pipeline.physics.components import Floats

#: Suffixes that count as images.
SUFFIXES = (".fits", ".fit", ".fits.gz", ".npy")


def read_pixels(path: Path) -> Floats:
    """Read the two-dimensional image of a FITS or npy file.

    Parameters
    ----------
    path : Path
        Of a FITS file the first HDU with pixels counts.

    Returns
    -------
    Floats, shape (rows, columns)

    Raises
    ------
    ValueError
        If the file cannot be read, or holds no two-dimensional numbers.
    """
    if not is_image(path):
        raise ValueError(f"{path} is no {', '.join(SUFFIXES)} file")
    try:
        pixels = _read_npy(path) if path.suffix.lower() == ".npy" else _read_fits(path)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if pixels.ndim != 2 or pixels.dtype.kind not in "fiu":
        shape = " x ".join(map(str, pixels.shape)) or "nothing"
        raise ValueError(f"{path} holds no image, but {shape} of type {pixels.dtype}")
    return pixels.astype(np.float64)


def is_image(path: Path) -> bool:
    """Tell whether the name is that of an image."""
    return path.name.lower().endswith(SUFFIXES)


def _read_npy(path: Path) -> np.ndarray:
    return np.asarray(np.load(path, allow_pickle=False))


def _read_fits(path: Path) -> np.ndarray:
    from astropy.io import fits  # type: ignore[import-untyped]  # heavy

    with fits.open(path, memmap=False) as hdus:
        for hdu in hdus:
            if hdu.is_image and hdu.data is not None:
                return np.asarray(hdu.data)
    raise ValueError("no HDU holds pixels")
