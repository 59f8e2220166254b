"""Small FITS files written by the tests themselves."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from .fits_samples import ring, sky_header

Write = Callable[..., Path]


@pytest.fixture
def picture() -> NDArray[np.float32]:
    return ring().astype(np.float32)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write HDUs, an array (with a WCS of 0.05 arcsec) or bytes to ``tmp_path / name``."""

    def write(
        content: NDArray[np.float32] | list[fits.hdu.base.ExtensionHDU] | bytes,
        name: str = "image.fits",
        header: fits.Header | None = None,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, list):
            fits.HDUList(content).writeto(path)
        else:
            fits.PrimaryHDU(content, sky_header() if header is None else header).writeto(path)
        return path

    return write
