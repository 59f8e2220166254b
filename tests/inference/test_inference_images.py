"""Reading one file: right pixels from the right HDU, or a reason; nothing else, ever."""

import bz2
import gzip
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_area
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.inference.images import MAX_BYTES, RawImage, Rejection, RejectReason, read_image

from .fits_samples import ring, sky_header


def read(path: Path, **options: object) -> RawImage:
    image, sha256 = read_image(path, **options)  # type: ignore[arg-type]
    assert isinstance(image, RawImage), image
    assert sha256 is not None
    return image


def rejected(path: Path, **options: object) -> Rejection:
    rejection, _ = read_image(path, **options)  # type: ignore[arg-type]
    assert isinstance(rejection, Rejection), rejection
    assert rejection.detail
    return rejection


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "i4", "i8", "u1", "u2", "u4"])
def test_pixels_equal_those_of_astropy(write, picture, dtype):
    pixels = np.clip(picture * 50, 0, 200).astype(dtype)
    path = write(pixels)
    image = read(path)
    assert image.data.dtype == np.float64 and image.data.dtype.isnative
    np.testing.assert_array_equal(image.data[0], fits.getdata(path).astype(float))


def test_scaled_integers_and_blank(write):
    stored = np.arange(64 * 64, dtype="i2").reshape(64, 64)
    hdu = fits.PrimaryHDU(stored)
    hdu.header["BLANK"] = 5
    path = write([hdu])
    with fits.open(path, mode="update", do_not_scale_image_data=True) as opened:
        opened[0].header["BSCALE"], opened[0].header["BZERO"] = 0.5, 10.0
    image = read(path).data[0]
    assert np.isnan(image[0, 5])
    assert image[0, 6] == 6 * 0.5 + 10
    assert np.isnan(image).sum() == 1


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_packed_file_reads_like_the_plain_one(write, picture, pack):
    plain = write(picture)
    packed = write(pack(plain.read_bytes()), "image.fits.packed")
    np.testing.assert_array_equal(read(packed).data, read(plain).data)


@pytest.mark.parametrize("kind", ["GZIP_1", "GZIP_2", "RICE_1", "HCOMPRESS_1", "PLIO_1"])
def test_tile_compressed_image(write, picture, kind):
    pixels = np.clip(picture * 100, 0, 255).astype("i4")
    path = write([fits.PrimaryHDU(), fits.CompImageHDU(pixels, compression_type=kind)])
    np.testing.assert_array_equal(read(path).data[0], pixels)


@pytest.mark.slow
def test_an_hcompress_stream_that_lies_about_its_size_harms_nobody(write, picture):
    pixels = np.clip(picture * 100, 0, 255).astype("i4")
    image = fits.CompImageHDU(pixels, compression_type="HCOMPRESS_1")
    content = write([fits.PrimaryHDU(), image]).read_bytes()
    smaller = content.replace(b"ZTILE2  =                   16", b"ZTILE2  =                    2")
    assert smaller != content
    assert rejected(write(smaller, "small_tiles.fits")).reason is RejectReason.UNREADABLE
    start = content.index(b"\xdd\x99") + 2  # magic, then the sizes nx and ny
    bigger = content[:start] + b"\0\0\x40\0\0\0\x40\0" + content[start + 8 :]
    assert rejected(write(bigger, "big_stream.fits")).reason is RejectReason.UNREADABLE


def _extensions(picture, *names: str) -> list[fits.ImageHDU]:
    science = {"SCI", "IMAGE", "VIS_BGSUB"}
    hdus = [
        fits.ImageHDU(picture if name in science or not name else picture * 0 + 1, name=name)
        for name in names
    ]
    return [fits.PrimaryHDU(), *hdus]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("SCI", "ERR", "DQ"), "SCI"),
        (("DQ", "ERR", "SCI"), "SCI"),
        (("WHT", "IMAGE"), "IMAGE"),
        (("VIS_PSF", "VIS_RMS", "VIS_BGSUB"), "VIS_BGSUB"),
        (("",), "1"),
    ],
)
def test_science_hdu_is_chosen_by_name_not_by_position(write, picture, names, chosen):
    image = read(write(_extensions(picture, *names)))
    assert image.hdu == chosen
    np.testing.assert_array_equal(image.data[0], picture)


def test_several_science_images_are_decided_by_the_checkpoints_band(write, picture):
    path = write(_extensions(picture, "G_BGSUB", "VIS_BGSUB", "R_BGSUB"))
    assert read(path, bands=("R",)).hdu == "R_BGSUB"
    fallback = read(path, bands=("F814W",))
    assert (fallback.hdu, fallback.flags) == ("VIS_BGSUB", ("hdu_choice",))


def test_two_nameless_images_are_ambiguous_unless_one_is_asked_for(write, picture):
    path = write(_extensions(picture, "", ""))
    assert rejected(path).reason is RejectReason.AMBIGUOUS_IMAGE
    assert read(path, hdu="2").hdu == "2"
    assert rejected(path, hdu="7").reason is RejectReason.NO_IMAGE


def test_only_auxiliary_images_or_tables_or_nothing_is_no_image(write, picture):
    table = fits.BinTableHDU.from_columns([fits.Column("RA", "D", array=np.arange(10.0))])
    assert rejected(write(_extensions(picture, "PSF"), "psf.fits")).reason is RejectReason.NO_IMAGE
    assert rejected(write([fits.PrimaryHDU(), table], "t.fits")).reason is RejectReason.NO_IMAGE
    assert rejected(write([fits.PrimaryHDU()], "none.fits")).reason is RejectReason.NO_IMAGE


def test_degenerate_axes_are_dropped_and_a_spectrum_is_refused(write, picture):
    assert read(write(picture[None, None], "radio.fits")).data.shape == (1, 64, 64)
    spectrum = write(np.ones(2048, "f4"), "spectrum.fits", fits.Header())
    assert rejected(spectrum).reason is RejectReason.WRONG_SHAPE


def test_every_truncation_of_a_file_is_refused(write, picture):
    content = write(picture).read_bytes()
    end_of_pixels = 2880 + picture.nbytes
    for length in (*range(0, end_of_pixels, 997), end_of_pixels - 1):
        assert rejected(write(content[:length], "cut.fits")).reason is RejectReason.UNREADABLE
    assert read(write(content[:end_of_pixels], "unpadded.fits"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(2880),
        b"<!DOCTYPE html>\n<html></html>",
        b"\x1f\x8b",
        b"\x1f\x8bnot gzip",
        b"BZh9",
    ],
)
def test_what_is_not_fits_is_unreadable(write, content):
    assert rejected(write(content)).reason is RejectReason.UNREADABLE


def test_a_header_that_claims_forty_gigabytes_costs_nothing(write):
    header = fits.Header({"SIMPLE": True, "BITPIX": -64, "NAXIS": 2})
    header["NAXIS1"], header["NAXIS2"] = 70_000, 70_000
    path = write(header.tostring().encode() + bytes(2880))
    read_image(path)  # imports
    tracemalloc.start()
    assert rejected(path).reason is RejectReason.UNREADABLE
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6


def test_a_decompression_bomb_is_refused_in_bounded_memory(write):
    header = fits.Header({"SIMPLE": True, "BITPIX": -32, "NAXIS": 2})
    header["NAXIS1"], header["NAXIS2"] = 20_000, 20_000
    block = gzip.compress(bytes(2**24), compresslevel=1)
    bomb = gzip.compress(header.tostring().encode()) + block * (2 * MAX_BYTES // 2**24)
    path = write(bomb, "bomb.fits.gz")
    tracemalloc.start()
    assert rejected(path).reason is RejectReason.TOO_LARGE
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * MAX_BYTES


def test_places_that_are_no_files_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.fits")
    (tmp_path / "dangling.fits").symlink_to("nothing")
    (tmp_path / "self.fits").symlink_to("self.fits")
    (tmp_path / "folder.fits").mkdir()
    for path in (*tmp_path.iterdir(), Path("/dev/zero"), tmp_path / "a\0b"):
        assert rejected(path).reason is RejectReason.UNREADABLE


def test_pixel_scale_agrees_with_astropys_wcs(write, picture):
    pc = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"})
    pc["CDELT1"], pc["CDELT2"], pc["PC1_1"], pc["PC2_2"] = -1.0, 1.0, 2e-5, 2e-5
    cdelt = fits.Header({"CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR", "CROTA2": 30.0})
    cdelt["CDELT1"], cdelt["CDELT2"] = -3e-5, 3e-5
    arcsec = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"})
    arcsec["CUNIT1"] = arcsec["CUNIT2"] = "arcsec"
    arcsec["CDELT1"], arcsec["CDELT2"] = -0.04, 0.04
    headers = [sky_header(0.05, 37, True), sky_header(0.2, 120), pc, cdelt, arcsec]
    for i, header in enumerate(headers):
        image = read(write(picture, f"{i}.fits", header))
        area = proj_plane_pixel_area(WCS(header))
        unit = 1.0 if WCS(header).wcs.cunit[0] == "arcsec" else 3600.0
        assert image.pixel_scale == pytest.approx(np.sqrt(area) * unit, rel=1e-9)
        assert image.flags == ()


def test_pixel_scale_keyword_is_used_without_wcs_and_nothing_is_guessed(write, picture):
    assert read(write(picture, "a.fits", fits.Header({"PIXSCALE": 0.06}))).pixel_scale == 0.06
    unknown = read(write(picture, "b.fits", fits.Header({"CDELT1": 1.0, "CDELT2": 1.0})))
    assert (unknown.pixel_scale, unknown.flags) == (None, ())


@pytest.mark.parametrize("value", ["unknown", 0.0, 1e300, True])
def test_unusable_wcs_gives_no_scale_and_says_so(write, picture, value):
    header = sky_header()
    for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2"):
        header[key] = value
    image = read(write(picture, header=header))
    assert (image.pixel_scale, image.flags) == (None, ("bad_header",))


def test_damaged_pixels_are_flagged_by_their_checksum(write, picture):
    hdu = fits.PrimaryHDU(picture)
    hdu.add_checksum()
    path = write([hdu])
    assert read(path).flags == ()
    content = bytearray(path.read_bytes())
    content[2880 + 5000] ^= 1
    assert read(write(bytes(content), "flipped.fits")).flags == ("checksum",)


def test_a_noise_map_is_known_by_its_file_name_only_where_its_hdu_has_none(write, picture):
    assert read(write(picture, "lens_noise_map.fits")).flags == ("companion",)
    assert read(write(_extensions(picture, "SCI"), "lens_err.fits")).flags == ()


_HDUS = {
    "plain": [fits.PrimaryHDU(ring().astype("f4"), sky_header())],
    "scaled": [fits.PrimaryHDU(np.arange(4096, dtype="u2").reshape(64, 64))],
    "extensions": [fits.PrimaryHDU(), fits.ImageHDU(ring(16), name="SCI"), fits.ImageHDU(ring(16))],
    "tiles": [fits.PrimaryHDU(), fits.CompImageHDU(ring().astype("f4"), compression_type="GZIP_2")],
}
_EDITS = st.lists(
    st.tuples(st.integers(0, 2**31), st.binary(min_size=1, max_size=20), st.booleans()),
    min_size=1, max_size=8,
)  # fmt: skip


@pytest.mark.parametrize("kind", list(_HDUS))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(edits=_EDITS, cut=st.integers(0, 2**31))
def test_no_mutation_of_a_file_raises(tmp_path_factory, kind, edits, cut):
    path = tmp_path_factory.getbasetemp() / f"mutated_{kind}.fits"
    good = path.with_suffix(".good")
    if not good.exists():
        fits.HDUList([hdu.copy() for hdu in _HDUS[kind]]).writeto(good)
    content = bytearray(good.read_bytes())
    for position, patch, in_header in edits:
        start = position % (2880 * 2 if in_header else len(content))
        content[start : start + len(patch)] = patch
    if cut % 10 == 0:
        del content[cut % len(content) :]
    path.write_bytes(content)
    result, _ = read_image(path)
    assert isinstance(result, RawImage | Rejection)
    if isinstance(result, RawImage):
        assert np.all(np.isnan(result.data) | (np.abs(result.data) < 1e100))
