"""PNG pictures are read as they are, and what cannot be believed of them is said."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.inference.images import RawImage, Rejection, RejectReason
from pipeline.inference.read_item import read_raw
from pipeline.inference.search import Found

PIXELS = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 20


def read(path: Path) -> RawImage | Rejection:
    return read_raw(Found(path, path.name))[0]


def save(folder: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    path = folder / "picture.png"
    picture = Image.fromarray(array)
    (picture if mode is None else picture.convert(mode)).save(path, **options)
    return path


def test_a_picture_is_its_brightness_with_the_lowest_row_first(tmp_path: Path) -> None:
    grey = (PIXELS // 256).astype(np.uint8)
    image = read(save(tmp_path, grey))
    np.testing.assert_array_equal(image.data, grey[None, ::-1])
    assert image.flags == ("picture",)
    assert image.pixel_scale is None


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(save(tmp_path, PIXELS)).data, PIXELS[None, ::-1])


def test_colours_are_averaged(tmp_path: Path) -> None:
    colours = np.stack([np.full((32, 32), level, np.uint8) for level in (10, 20, 60)], axis=-1)
    np.testing.assert_array_equal(read(save(tmp_path, colours)).data, 30.0)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_refused_and_an_opaque_alpha_channel_is_not(
    mode: str, tmp_path: Path
) -> None:
    grey = (PIXELS // 256).astype(np.uint8)
    options = {"transparency": 0} if mode == "P" else {}
    if mode != "P":
        assert isinstance(read(save(tmp_path, grey, mode)), RawImage)
    path = save(tmp_path, grey, mode, **options)
    if mode != "P":
        picture = Image.open(path)
        picture.putalpha(0)
        picture.save(path)
    refused = read(path)
    assert isinstance(refused, Rejection)
    assert refused.reason == RejectReason.NOT_FINITE
    assert "transparency" in refused.detail


def test_damaged_pictures_are_refused_wherever_they_end(tmp_path: Path) -> None:
    whole = save(tmp_path, PIXELS).read_bytes()
    path = tmp_path / "cut.png"
    for length in (0, 4, 20, 40, len(whole) // 2):
        path.write_bytes(whole[:length])
        assert isinstance(read(path), Rejection), length
    path.write_bytes(b"GIF89a" + whole[6:])
    assert "no PNG" in read(path).detail


def test_a_picture_that_claims_to_be_huge_is_not_unpacked(tmp_path: Path) -> None:
    path = save(tmp_path, np.zeros((2, 2), np.uint8))
    content = bytearray(path.read_bytes())
    content[16:24] = (60000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    refused = read(path)
    assert refused.reason == RejectReason.TOO_LARGE
