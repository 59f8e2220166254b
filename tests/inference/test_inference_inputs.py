"""Images that are not one FITS file each: stacks, datasets, mosaics, bands, masks, centres."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from pipeline.core.errors import ConfigError, ScoringError
from pipeline.inference.images import RawImage, ReadOptions, Rejection, RejectReason, read_image
from pipeline.inference.mosaic import find_cutouts
from pipeline.inference.prepare import Prepared, prepare_image
from pipeline.inference.read_item import read_item, read_raw
from pipeline.inference.search import find_images
from pipeline.inference.sky_catalogue import read_sky_catalogue
from pipeline.inference.target import Target

from .fits_samples import ring, sky_header

TARGET = Target(("F814W",), 0.05, 64, is_unit_free=True)
COLOUR = Target(("g", "r", "i"), 0.05, 64, is_unit_free=True)


def prepared(path: Path, target: Target = TARGET, **asked: object) -> list[Prepared | Rejection]:
    items = find_images([path], len(target.bands)).files
    return [read_item(item, target, ReadOptions(**asked)).image for item in items]  # type: ignore[arg-type]


def test_every_image_of_a_stack_is_a_row_named_by_its_number(tmp_path):
    stack = np.stack([ring(noise=0.02) + i for i in range(12)])
    np.save(tmp_path / "stack.npy", stack)
    np.savez_compressed(tmp_path / "two.npz", a=stack[0], b=stack[1:3])
    names = [item.name for item in find_images([tmp_path]).files]
    assert names[:12] == [f"stack.npy[{i}]" for i in range(12)]
    assert names[12:] == ["two.npz:a", "two.npz:b[0]", "two.npz:b[1]"]
    for item, i in zip(find_images([tmp_path]).files, (*range(12), 0, 1, 2), strict=True):
        raw, digest = read_raw(item)
        assert isinstance(raw, RawImage)
        np.testing.assert_array_equal(raw.data[0], stack[i])
        assert digest is not None and len(digest) == 64


def test_an_array_is_a_picture_of_bands_where_the_network_has_as_many(tmp_path):
    planes = np.stack([ring()] * 3)
    np.save(tmp_path / "first.npy", planes)
    np.save(tmp_path / "last.npy", np.moveaxis(planes, 0, -1))
    assert len(prepared(tmp_path / "first.npy")) == 3  # one band: a stack
    for name in ("first.npy", "last.npy"):
        (image,) = prepared(tmp_path / name, COLOUR)
        assert isinstance(image, Prepared) and image.image.shape == (3, 64, 64)
    (red,) = prepared(tmp_path / "last.npy", band="2")
    assert isinstance(red, Prepared)


def test_arrays_that_are_no_pictures_are_rows_with_a_reason(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([ring(), 1.0], dtype=object), allow_pickle=True)
    np.save(tmp_path / "text.npy", np.array([["a"] * 64] * 64))
    np.save(tmp_path / "line.npy", np.arange(64.0))
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    (tmp_path / "damaged.npy").write_bytes(b"\x93NUMPY\x01\x00garbage")
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04garbage")
    whole = tmp_path / "whole.npy"
    np.save(whole, ring())
    (tmp_path / "short.npy").write_bytes(whole.read_bytes()[:5000])
    whole.unlink()
    with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
        pass
    found = {item.name: read_item(item, TARGET, ReadOptions()).image
             for item in find_images([tmp_path]).files}  # fmt: skip
    assert len(found) == 8
    assert all(isinstance(image, Rejection) for image in found.values()), found


def test_a_members_claim_of_gigabytes_is_not_believed(tmp_path):
    header = b"\x93NUMPY\x01\x00"
    text = "{'descr': '<f8', 'fortran_order': False, 'shape': (70000, 70000), }".ljust(117) + "\n"
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header + len(text).to_bytes(2, "little") + text.encode())
    (image,) = prepared(tmp_path / "bomb.npz")
    assert isinstance(image, Rejection) and image.reason is RejectReason.TOO_LARGE


@pytest.fixture
def mosaic(tmp_path: Path) -> tuple[Path, WCS, list[tuple[float, float]]]:
    """A field of 600 x 500 pixels with SIP distortion and four rings at known pixels."""
    header = sky_header(0.05, 25)
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    header["CRVAL1"], header["CRVAL2"], header["CRPIX1"], header["CRPIX2"] = 150.1, 2.2, 290, 260
    for name in ("A", "B"):
        header[f"{name}_ORDER"] = 2
    header["A_2_0"], header["B_0_2"], header["A_1_1"] = 2e-5, -1e-5, 1e-5
    sky = np.random.default_rng(0).normal(0, 0.02, (500, 600))
    places = [(100.0, 90.0), (300.0, 400.0), (520.0, 250.0), (5.0, 480.0)]
    for x, y in places[:3]:
        sky[int(y) - 32 : int(y) + 32, int(x) - 32 : int(x) + 32] += ring(noise=0)
    path = tmp_path / "mosaic.fits"
    fits.PrimaryHDU(sky.astype("f4"), header).writeto(path)
    return path, WCS(header), places


@pytest.mark.parametrize("form", [".csv", ".ecsv", ".fits", ".vot", ".parquet"])
def test_cutouts_lie_where_the_catalogue_says_distortions_included(tmp_path, mosaic, form):
    path, wcs, places = mosaic
    ra, dec = wcs.all_pix2world(*np.transpose(places), 0)
    table = Table({"NAME": ["a", "b", "c", "edge", "far"], "RA": [*ra, 10.0], "Dec": [*dec, -70.0]})
    table.write(tmp_path / f"cat{form}", format="votable" if form == ".vot" else None)
    catalogue = read_sky_catalogue(tmp_path / f"cat{form}")
    mosaics = find_images([path]).files
    items = find_cutouts(catalogue, mosaics, TARGET.bands, ReadOptions())
    assert [i.name for i in items[:4]] == [f"mosaic.fits#{n}" for n in ("a", "b", "c", "edge")]
    images = [read_item(item, TARGET, ReadOptions()).image for item in items]
    data = fits.getdata(path)
    for (x, y), image, r, d in zip(places[:3], images, ra, dec, strict=False):
        assert isinstance(image, Prepared), image
        corner = slice(int(y) - 32, int(y) + 32), slice(int(x) - 32, int(x) + 32)
        np.testing.assert_allclose(image.image[0], data[corner], atol=1e-6)
        assert image.facts["ra"] == pytest.approx(r, abs=1e-7)
        assert image.facts["dec"] == pytest.approx(d, abs=1e-7)
        assert (image.facts["center_x"], image.facts["center_y"]) == pytest.approx((x + 1, y + 1))
    assert isinstance(images[3], Rejection) and images[3].reason is RejectReason.TOO_SMALL
    assert isinstance(images[4], Rejection) and images[4].reason is RejectReason.OUTSIDE


def test_a_compressed_mosaic_gives_the_same_cutouts(tmp_path, mosaic):
    path, wcs, places = mosaic
    packed = tmp_path / "packed.fits.fz"
    hdu = fits.CompImageHDU(
        fits.getdata(path), fits.getheader(path), compression_type="GZIP_2", quantize_level=0
    )
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(packed)
    ra, dec = wcs.all_pix2world(*np.transpose(places[:2]), 0)
    Table({"ra": ra, "dec": dec}).write(tmp_path / "cat.csv")
    catalogue = read_sky_catalogue(tmp_path / "cat.csv")
    for_each = []
    for source in (path, packed):
        items = find_cutouts(catalogue, find_images([source]).files, ("F814W",), ReadOptions())
        for_each.append([read_item(i, TARGET, ReadOptions()).image.image for i in items])
    np.testing.assert_array_equal(for_each[0], for_each[1])


def test_a_mosaic_of_forty_gigabytes_costs_no_more_than_its_cutouts(tmp_path):
    header = sky_header()
    header["CRVAL1"], header["CRVAL2"], header["CRPIX1"], header["CRPIX2"] = 10.0, 5.0, 5e4, 5e4
    header = fits.PrimaryHDU(header=header).header
    for key, value in (("BITPIX", -32), ("NAXIS", 2), ("NAXIS1", 100_000), ("NAXIS2", 100_000)):
        header[key] = value
    path = tmp_path / "huge.fits"
    text = fits.Header(sorted(header.cards, key=lambda c: _ORDER.get(c[0], 9))).tostring().encode()
    with path.open("wb") as stream:
        stream.write(text)
        stream.truncate(len(text) + 4 * 100_000**2)  # a hole: no disk is used
    Table({"ra": [10.0], "dec": [5.0]}).write(tmp_path / "cat.csv")
    catalogue = read_sky_catalogue(tmp_path / "cat.csv")
    (item,) = find_cutouts(catalogue, find_images([path]).files, ("F814W",), ReadOptions())
    image = read_item(item, TARGET, ReadOptions()).image
    assert isinstance(image, Rejection) and image.reason is RejectReason.BLANK


_ORDER = {"SIMPLE": 0, "BITPIX": 1, "NAXIS": 2, "NAXIS1": 3, "NAXIS2": 4}


def test_a_catalogue_without_positions_or_mosaics_without_wcs_are_errors(tmp_path):
    Table({"x": [1.0]}).write(tmp_path / "cat.csv")
    with pytest.raises(ScoringError, match="RA and Dec"):
        read_sky_catalogue(tmp_path / "cat.csv")
    Table({"ra": [1.0], "dec": [1.0]}).write(tmp_path / "good.csv")
    fits.PrimaryHDU(ring()).writeto(tmp_path / "plain.fits")
    catalogue = read_sky_catalogue(tmp_path / "good.csv")
    with pytest.raises(ScoringError, match="no mosaic can be used"):
        find_cutouts(catalogue, find_images([tmp_path / "plain.fits"]).files, (), ReadOptions())


def test_sexagesimal_positions_are_hours_and_degrees(tmp_path):
    (tmp_path / "cat.csv").write_text("id,ra,dec\na,10:00:00,+02:30:00\nb,150.0,nonsense\n")
    catalogue = read_sky_catalogue(tmp_path / "cat.csv")
    assert (catalogue.ra[0], catalogue.dec[0]) == pytest.approx((150.0, 2.5))
    assert np.isnan(catalogue.dec[1])


def test_bands_in_hdus_of_their_own_become_planes_in_the_networks_order(write):
    hdus = [fits.ImageHDU((k + 1) * ring(), name=f"SCI_{n}") for k, n in enumerate(("R", "I", "G"))]
    path = write([fits.PrimaryHDU(), *hdus])
    image, _ = read_image(path, bands=COLOUR.bands)
    assert isinstance(image, RawImage) and image.hdu == "SCI_G,SCI_R,SCI_I"
    np.testing.assert_allclose(image.data, [3 * ring(), ring(), 2 * ring()])


def test_a_plane_of_a_cube_is_taken_by_number_or_name(write):
    header = fits.Header({"FILTER": "g,r,i"})
    cube = np.stack([ring(), 2 * ring(), 3 * ring()]).astype("f4")
    path = write(cube, header=header)
    for band in ("2", "r", "R"):
        (image,) = prepared(path, band=band)
        assert isinstance(image, Prepared) and image.facts["band"] in ("r", band)
        np.testing.assert_array_equal(image.image[0], cube[1])
    (missing,) = prepared(path, band="z")
    assert isinstance(missing, Rejection) and missing.reason is RejectReason.MISSING_BAND


def _with_maps(write, **maps: np.ndarray) -> Path:
    extensions = [fits.ImageHDU(values, name=name) for name, values in maps.items()]
    return write([fits.PrimaryHDU(), fits.ImageHDU(ring(), sky_header(), name="SCI"), *extensions])


def test_pixels_that_masks_weights_or_errors_call_bad_are_filled(write):
    dq, wht, err = np.zeros((64, 64), "i4"), np.ones((64, 64)), np.full((64, 64), 0.02)
    dq[10, 12], wht[20, 40], err[50, 30], err[51, 30] = 16, 0, 1e16, np.nan
    path = _with_maps(write, DQ=dq, WHT=wht, ERR=err)
    image, _ = read_image(path)
    assert isinstance(image, RawImage) and "masked" in image.flags
    assert set(zip(*np.nonzero(np.isnan(image.data[0])), strict=True)) == {
        (10, 12), (20, 40), (50, 30), (51, 30),
    }  # fmt: skip
    (result,) = prepared(path)
    assert isinstance(result, Prepared) and result.facts["masked_fraction"] == 4 / 64**2
    unmasked, _ = read_image(path, options=ReadOptions(masks=False))
    assert isinstance(unmasked, RawImage) and np.isfinite(unmasked.data).all()


def test_a_mask_that_leaves_nothing_is_ignored_and_said(write):
    image, _ = read_image(_with_maps(write, DQ=np.ones((64, 64), "i4")))
    assert isinstance(image, RawImage)
    assert "mask_ignored" in image.flags and np.isfinite(image.data).all()


def test_the_width_of_a_psf_extension_is_compared_with_the_training_images(write):
    y, x = np.mgrid[:31, :31] - 15.0
    psf = np.exp(-0.5 * (x**2 + y**2) / (4.0 / 2.3548) ** 2)  # FWHM of 4 pixels
    path = _with_maps(write, PSF=psf)
    image, _ = read_image(path)
    assert isinstance(image, RawImage) and image.psf_fwhm == pytest.approx(0.2, rel=0.02)
    for trained, differs in ((0.1, True), (0.2, False), (0.4, True)):
        target = Target(("F814W",), 0.05, 64, True, psf_fwhm=trained)
        result = prepare_image(image, target)
        assert isinstance(result, Prepared) and ("psf_differs" in result.flags) == differs


def test_the_centre_is_the_middle_the_peak_or_a_pixel(write):
    wide = np.random.default_rng(0).normal(0, 0.02, (120, 130)).astype("f4")
    wide[30:94, 40:104] += ring(noise=0).astype("f4")
    path = write(wide)
    (at,) = prepared(path, center="72.5,62.5")
    y, x = np.mgrid[:120, :130]
    galaxy = wide + 9 * np.exp(-0.5 * ((x - 71) ** 2 + (y - 61) ** 2) / 3**2).astype("f4")
    (peak,) = prepared(write(galaxy, "galaxy.fits"), center="peak")
    assert isinstance(at, Prepared) and isinstance(peak, Prepared)
    np.testing.assert_array_equal(at.image[0], wide[30:94, 40:104])
    assert np.hypot(peak.facts["center_x"] - 72, peak.facts["center_y"] - 62) < 1.5
    (outside,) = prepared(path, center="500,2")
    assert isinstance(outside, Rejection) and outside.reason is RejectReason.OUTSIDE
    with pytest.raises(ConfigError, match="--center"):
        prepared(path, center="left")
