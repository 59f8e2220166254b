"""PNG pictures as images: brightness as the file has it, and a flag that says so.

A picture was stretched for the eye by somebody unknown, so fluxes are lost: every score of one has
the flag ``picture`` and is not trusted. Colours are averaged. A transparent pixel has no value, and
nobody says what lay behind it: such pictures are refused.
"""

import hashlib
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.images import (
    MAX_PIXELS,
    RawImage,
    Rejection,
    RejectReason,
    UnreadableImageError,
    read_bytes,
)

if TYPE_CHECKING:
    from PIL import Image

PICTURE_SUFFIXES = (".png",)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_picture(path: Path) -> tuple[RawImage | Rejection, str | None]:
    """Read a PNG file, and return it with the SHA-256 of its bytes (None if they were not read)."""
    sha256 = None
    try:
        stored = read_bytes(path)
        sha256 = hashlib.sha256(stored).hexdigest()
        plane = _decode(stored)
    except UnreadableImageError as error:
        return error.rejection, sha256
    # a picture's first row is its highest one
    data = np.ascontiguousarray(plane[::-1])[None]
    return RawImage(data, "0", None, None, None, ("picture",)), sha256


def _decode(stored: bytes) -> NDArray[np.float64]:
    """Brightness (H, W), first row at the top."""
    from PIL import Image  # heavy

    if not stored.startswith(_SIGNATURE):
        raise _reject(RejectReason.UNREADABLE, "named .png, but no PNG picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities of its other chunks
            picture = Image.open(io.BytesIO(stored), formats=("PNG",))
            if picture.width * picture.height > MAX_PIXELS:
                size = f"{picture.height} x {picture.width}"
                raise _reject(RejectReason.TOO_LARGE, f"a picture of {size} pixels")
            picture.load()
            if picture.has_transparency_data:
                _check_opaque(picture.convert("RGBA"))
            deep = picture.mode.startswith("I")  # 16 bits
            pixels = np.asarray(picture if deep else picture.convert("RGB"), np.float64)
    except Image.DecompressionBombError as error:
        raise _reject(RejectReason.TOO_LARGE, str(error)) from error
    except _FAULTS as error:
        raise _reject(RejectReason.UNREADABLE, f"a damaged PNG picture: {error}") from error
    return pixels if pixels.ndim == 2 else np.asarray(pixels.mean(axis=2))


def _check_opaque(picture: "Image.Image") -> None:
    n_clear = int(np.count_nonzero(np.asarray(picture)[..., 3] < 255))
    if n_clear:
        raise _reject(
            RejectReason.NOT_FINITE,
            f"a picture with transparency: {n_clear} pixels have no value of their own; save it "
            "without an alpha channel",
        )


#: What Pillow raises on damaged files.
_FAULTS = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError)


def _reject(reason: RejectReason, detail: str) -> UnreadableImageError:
    return UnreadableImageError(reason, detail)
