"""What headers say of an image: zero point, place and orientation on the sky, PSF, lens light."""

import math

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import skycoord_to_pixel
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.inference.fits_header import Cards
from pipeline.inference.images import RawImage, ReadOptions, Rejection, RejectReason
from pipeline.inference.lens_light import subtract_lens_light
from pipeline.inference.photometry import Photometry, zero_point
from pipeline.inference.pointing import Pointing
from pipeline.inference.prepare import Prepared, prepare_image
from pipeline.inference.psf_width import kernel_fwhm
from pipeline.inference.target import Target

from .fits_samples import ring, sky_header

#: Ends of cards behind the keyword, plain and not.
ENDINGS = (
    st.integers(-(10**12), 10**12).map(lambda n: f"= {n:>20d}")
    | st.floats(-1e9, 1e9).map(lambda x: f"= {x:>20.10E}")
    | st.floats(-1e3, 1e3).map(lambda x: f"= {x:>20.6f} / width")
    | st.sampled_from(
        ["= " + " " * 19 + "T", "= " + " " * 19 + "F / no", "= T", "=    2E-05", "= .5"]
    )
    | st.text("ab :/'&=T1.", max_size=12).map(lambda text: f"= '{text}'")
    | st.text("ab :/'&=T1.", max_size=12)
    | st.sampled_from(
        ["=", "= ", "=   / nothing", "= 'x' y", "= 1.0D3", "= 0012", "= '\x80'", "= é"]
    )
)
KEYWORDS = st.sampled_from(
    [
        "A",
        "NAXIS",
        "DATE-OBS",
        "A",
        "a",
        "COMMENT",
        "HISTORY",
        "",
        "CONTINUE",
        "A B",
        "HIERARCH",
        "DP1",
    ]
)


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
@given(st.lists(st.tuples(KEYWORDS, ENDINGS), max_size=4))
@example([("A", "= 'name: 1.0'")])
@example([("A", "= 'long &'"), ("CONTINUE", "  'string'")])
@example([("A", "= 1"), ("A", "= 2")])
def test_cards_read_here_say_what_astropy_reads_in_them(cards: list[tuple[str, str]]) -> None:
    text = "".join(
        f"{keyword:8}{ending}"[:80].ljust(80) for keyword, ending in [*cards, ("END", "")]
    )
    block = text.encode("latin-1", "replace")
    try:
        header = fits.Header.fromstring(block.decode("ascii", "replace"))
        theirs = Cards(header)
    except (ValueError, fits.VerifyError):
        return
    ours = Cards(block)
    for keyword in ("A", "NAXIS", "DATE-OBS", "a", "DP1"):
        assert (keyword in ours) == (keyword in theirs)
        found, expected = ours.value(keyword), theirs.value(keyword)
        assert type(found) is type(expected) and repr(found) == repr(expected)


def photometry(unit: str | None, scale: float | None = 0.05, **cards: float) -> Photometry:
    header = fits.Header(cards)
    return zero_point(Cards(header), Cards(fits.Header()), unit, scale)


@pytest.mark.parametrize("unit", ["Jy", "mJy", "uJy", "nJy", "nJy/pix"])
def test_flux_densities_have_the_ab_zero_point_of_astropy(unit):
    expected = (1 * units.Unit(unit.removesuffix("/pix"))).to(units.ABmag).value
    assert photometry(unit).zero_point == pytest.approx(expected, abs=2e-4)


def test_surface_brightness_needs_the_area_of_a_pixel():
    area = ((0.03 * units.arcsec) ** 2).to(units.sr)
    expected = (1 * units.MJy / units.sr * area).to(units.ABmag).value
    assert photometry("MJy/sr", 0.03).zero_point == pytest.approx(expected, abs=2e-4)
    found = photometry("MJy/sr", None, PIXAR_SR=area.value)
    assert found.zero_point == pytest.approx(expected, abs=2e-4)
    assert photometry("MJy/sr", None).zero_point is None


def test_mega_is_not_milli():
    assert photometry("MJy").zero_point == pytest.approx(photometry("mJy").zero_point - 22.5)


def test_hst_counts_are_rates_or_divided_by_the_exposure_time():
    # ACS/WFC F814W, 2002: PHOTFLAM and PHOTPLAM of its headers; AB zero point 25.9 (Bohlin 2016)
    cards = {"PHOTFLAM": 7.07e-20, "PHOTPLAM": 8045.0}
    rate = photometry("ELECTRONS/S", **cards).zero_point
    assert rate == pytest.approx(25.94, abs=0.03)
    total = photometry("ELECTRONS", EXPTIME=2000.0, **cards).zero_point
    assert total == pytest.approx(rate + 2.5 * math.log10(2000))
    assert photometry("ELECTRONS", **cards).zero_point is None
    assert photometry("furlong", **cards).zero_point is None


def test_keywords_of_surveys_and_unknown_units():
    assert photometry("adu", FLUXMAG0=10**10.8).zero_point == pytest.approx(27.0)
    assert photometry("adu", MAGZERO=30.0) == Photometry(30.0, "MAGZERO")
    assert photometry("adu") == photometry(None) == Photometry()
    assert photometry("adu", MAGZERO=-99.0) == Photometry()


@pytest.mark.parametrize("angle", [0, 37, 120, -80])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("sip", [False, True])
def test_place_and_orientation_agree_with_astropy(angle, flip, sip):
    header = sky_header(0.05, angle, flip)
    header["CRVAL1"], header["CRVAL2"], header["CRPIX1"], header["CRPIX2"] = 359.999, -42, 400, -90
    if sip:
        header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
        header["A_ORDER"], header["B_ORDER"], header["A_2_0"], header["B_1_1"] = 2, 2, 1e-5, -2e-5
    wcs, pointing = WCS(header), Pointing(Cards(header), (7, 3))
    ra, dec = pointing.radec(20.0, 30.0)
    np.testing.assert_allclose((ra, dec), wcs.all_pix2world(27.0, 33.0, 0), rtol=0, atol=1e-9)
    if sip:
        return  # the direction of north is that of the linear part
    here = wcs.pixel_to_world(399, -91)  # the reference pixel
    north = SkyCoord(here.ra, here.dec + 0.5 * units.arcsec)
    east = here.directional_offset_by(90 * units.deg, 0.5 * units.arcsec)
    (x0, y0), (xn, yn), (xe, ye) = (skycoord_to_pixel(c, wcs) for c in (here, north, east))
    expected = math.degrees(math.atan2(-(xn - x0), yn - y0))
    assert (pointing.north_angle - expected + 180) % 360 - 180 == pytest.approx(0, abs=0.01)
    is_east_left_of_north = (xn - x0) * (ye - y0) - (yn - y0) * (xe - x0) > 0
    assert pointing.is_mirrored != is_east_left_of_north


def test_crota_is_a_rotation():
    old = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CROTA2": 30.0})
    old["CDELT1"], old["CDELT2"], old["CRVAL1"], old["CRVAL2"] = -1e-5, 1e-5, 20.0, 10.0
    old["CRPIX1"], old["CRPIX2"] = 10, 12
    found = Pointing(Cards(old)).radec(100.0, 50.0)
    np.testing.assert_allclose(found, WCS(old).all_pix2world(100.0, 50.0, 0), rtol=0, atol=1e-9)


@pytest.mark.parametrize("value", ["text", 1e300, 0.0, True])
def test_a_broken_wcs_gives_no_place_and_no_exception(value):
    for kind in ("RA---TAN", "RA---TAN-SIP", "RA---ZPN"):
        header = sky_header()
        header["CTYPE1"], header["CTYPE2"] = kind, kind.replace("RA--", "DEC-")
        for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2", "A_ORDER", "LONPOLE"):
            header[key] = value
        Pointing(Cards(header)).radec(1.0, 1.0)
        assert Pointing(Cards(header)).north_angle is None or kind != "RA---TAN"


@pytest.mark.parametrize("fwhm", [2.0, 3.3, 6.0])
def test_the_width_of_a_kernel_is_that_of_its_gaussian(fwhm):
    y, x = np.mgrid[:31, :31] - 15.0
    kernel = np.exp(-0.5 * ((x - 0.3) ** 2 + (y + 0.2) ** 2) / (fwhm / 2.35482) ** 2)
    assert kernel_fwhm(kernel) == pytest.approx(fwhm, rel=0.05)
    assert kernel_fwhm(0 * kernel) is None
    assert kernel_fwhm(np.full((31, 31), np.nan)) is None


def test_a_fixed_unit_is_reached_from_any_zero_point_and_refused_without_one():
    target = Target(("F814W",), 0.05, 64, is_unit_free=False, zero_points=(25.94,))
    electrons = ring()
    for unit, point in (("nJy", 31.4), ("electron/s", 24.0), ("adu", 27.3)):
        factor = 10 ** (0.4 * (point - 25.94))  # file units in one electron/s
        raw = RawImage(electrons[None] * factor, "0", 0.05, unit, None,
                       photometry=Photometry(point, "test"))  # fmt: skip
        prepared = prepare_image(raw, target)
        assert isinstance(prepared, Prepared)
        np.testing.assert_allclose(prepared.image[0], electrons, rtol=1e-5, atol=1e-6)
    unknown = prepare_image(RawImage(electrons[None], "0", 0.05, "adu", None), target)
    assert isinstance(unknown, Rejection) and unknown.reason is RejectReason.UNKNOWN_UNIT


def _lens_galaxy(n: int = 64) -> np.ndarray:
    y, x = np.mgrid[:n, :n] - (n - 1) / 2
    u, v = 0.8 * x + 0.6 * y, -0.6 * x + 0.8 * y
    return np.asarray(30 * np.exp(-((np.hypot(u, v / 0.75) / 4.0) ** 0.7)))


def test_lens_light_is_subtracted_and_the_arc_stays():
    y, x = np.mgrid[:64, :64] - 31.5
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    arc = 3 * np.exp(-(((radius - 18) / 2) ** 2)) * (np.abs(angle - 1.0) < 0.9)
    noise = np.random.default_rng(1).normal(0, 0.05, (64, 64))
    left = subtract_lens_light(_lens_galaxy() + arc + noise)
    core, ring_ = radius < 8, arc > 0.3
    assert np.abs(left[core]).mean() < 0.1 * _lens_galaxy()[core].mean()
    assert left[ring_].sum() == pytest.approx(arc[ring_].sum(), rel=0.15)
    raw = RawImage((_lens_galaxy() + arc + noise)[None], "0", 0.05, None, None)
    target = Target(("F814W",), 0.05, 64, is_unit_free=True)
    prepared = prepare_image(raw, target, ReadOptions(lens_light="subtract"))
    assert isinstance(prepared, Prepared) and "lens_light" in prepared.flags


def test_subtracting_light_from_noise_leaves_noise():
    noise = np.random.default_rng(2).normal(5.0, 1.0, (64, 64))
    left = subtract_lens_light(noise)
    assert left.std() == pytest.approx(1.0, abs=0.1)
    assert np.median(left) == pytest.approx(5.0, abs=0.3)
