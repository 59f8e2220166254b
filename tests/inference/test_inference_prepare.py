"""Preparation changes the pixel scale, size and gaps, never the sky; and it says what it did."""

import numpy as np
import pytest

from pipeline.inference.images import RawImage, Rejection, RejectReason
from pipeline.inference.prepare import Prepared, prepare_image
from pipeline.inference.resample import resampling_matrix
from pipeline.inference.target import Target

from .fits_samples import ring

TARGET = Target(bands=("F814W",), pixel_scale=0.05, size=64, is_unit_free=True)


def raw(data: np.ndarray, scale: float | None = 0.05, unit: str | None = None) -> RawImage:
    planes = data if data.ndim == 3 else data[None]
    return RawImage(planes.astype(float), "0", scale, unit, None)


def prepare(image: RawImage, target: Target = TARGET) -> Prepared:
    prepared = prepare_image(image, target)
    assert isinstance(prepared, Prepared), prepared
    assert prepared.image.shape == (len(target.bands), target.size, target.size)
    assert prepared.image.dtype == np.float32
    assert np.isfinite(prepared.image).all()
    return prepared


def rejected(image: RawImage, target: Target = TARGET) -> RejectReason:
    rejection = prepare_image(image, target)
    assert isinstance(rejection, Rejection), rejection
    return rejection.reason


def noise_of(image: np.ndarray) -> float:
    border = np.concatenate([image[:4].ravel(), image[-4:].ravel(), image[:, :4].ravel()])
    return float(border.std())


def normalised(prepared: Prepared) -> np.ndarray:
    image = prepared.image[0].astype(float)
    return (image - np.median(image)) / np.median(np.abs(image - np.median(image)))


def test_a_matching_image_keeps_every_pixel_up_to_unit_and_background():
    image = ring()
    prepared = prepare(raw(image))
    assert prepared.flags == ()
    slope, offset = np.polyfit(image.ravel(), prepared.image.ravel(), 1)
    np.testing.assert_allclose(prepared.image[0], slope * image + offset, atol=1e-5)


@pytest.mark.parametrize("is_unit_free", [True, False])
@pytest.mark.parametrize(("factor", "offset"), [(1.0, 0.0), (1e-30, 0.0), (2.0**40, 1e14)])
def test_float32_pixels_reach_the_network_bit_for_bit(factor, offset, is_unit_free):
    image = (ring() * factor + offset).astype(np.float32)
    target = Target(("F814W",), 0.05, 64, is_unit_free)
    prepared = prepare(raw(image.astype(float), unit="electron/s"), target)
    np.testing.assert_array_equal(prepared.image[0], image)


@pytest.mark.parametrize(("factor", "offset"), [(1e-30, 0.0), (1e4, 0.0), (1.0, -0.5), (3e9, 1e11)])
def test_any_linear_unit_gives_the_same_picture(factor, offset):
    image = ring().astype(np.float32).astype(float)
    other = normalised(prepare(raw(image * factor + offset)))
    np.testing.assert_allclose(other, normalised(prepare(raw(image))), atol=2e-4)


@pytest.mark.parametrize(
    ("n_in", "n_out", "ratio"), [(100, 50, 0.4), (40, 100, 3.0), (80, 64, 1.3)]
)
def test_resampling_conserves_flux_and_centre(n_in, n_out, ratio):
    x = np.arange(n_in) - (n_in - 1) / 2
    line = np.exp(-0.5 * ((x - 1.5) / 4) ** 2)
    new = resampling_matrix(n_in, n_out, ratio) @ line
    position = (np.arange(n_out) - (n_out - 1) / 2) / ratio
    assert new.sum() == pytest.approx(line.sum(), rel=1e-3)
    assert np.average(position, weights=new) == pytest.approx(1.5, abs=0.02)


def test_resampling_on_the_same_grid_changes_nothing():
    np.testing.assert_allclose(resampling_matrix(20, 20, 1.0), np.eye(20), atol=1e-12)


@pytest.mark.parametrize(("scale", "n"), [(0.03, 120), (0.04, 90), (0.08, 50), (0.1, 40)])
def test_the_same_sky_at_another_pixel_scale_gives_the_same_picture(scale, n):
    electron = Target(bands=("F814W",), pixel_scale=0.05, size=64, is_unit_free=False)
    expected = prepare(raw(ring(noise=0), unit="electron/s"), electron).image[0]
    other = prepare(raw(ring(n, scale, noise=0), scale, "electron/s"), electron)
    assert {"resampled", "cropped"} <= set(other.flags)
    # the core is sharper than the coarse pixels; elsewhere the flux agrees
    far = np.hypot(*(np.mgrid[:64, :64] - 31.5)) > 8
    assert np.abs(other.image[0] - expected)[far].max() < 0.05 * expected[far].max()
    assert other.image.sum() == pytest.approx(expected.sum(), rel=0.01)


def test_pixel_scales_within_tolerance_and_unknown_ones_are_left_alone():
    assert prepare(raw(ring(), 0.051)).flags == ()
    unknown = prepare(raw(ring(), None))
    assert unknown.flags == ("pixel_scale_unknown",)
    np.testing.assert_array_equal(unknown.image, prepare(raw(ring())).image)


def test_crops_are_centred_and_said():
    wide = np.pad(ring(), ((10, 10), (20, 21)), mode="wrap")
    prepared = prepare(raw(wide))
    assert prepared.flags == ("cropped",)
    np.testing.assert_allclose(normalised(prepared), normalised(prepare(raw(ring()))), atol=1e-4)


def test_padding_has_the_noise_of_the_images_border_and_no_signal():
    image = np.random.default_rng(0).normal(7.0, 3.0, (48, 48))
    image[20:28, 20:28] += 100
    prepared = prepare(raw(image))
    assert "padded" in prepared.flags
    frame = prepared.image[0].copy()
    inner = frame[8:-8, 8:-8]
    # 512 frame pixels: 4 standard errors of a standard deviation are 12 %
    assert noise_of(frame) == pytest.approx(noise_of(inner), rel=0.2)
    assert abs(np.median(frame[:8]) - np.median(inner)) < 0.3 * noise_of(inner)


def test_few_missing_pixels_are_repaired_from_their_neighbours():
    image = ring(noise=0.0) + 1e-3 * np.random.default_rng(0).standard_normal((64, 64))
    holed = image.copy()
    holed[10, 12], holed[40, 40], holed[32, 49] = np.nan, np.inf, np.nan
    prepared = prepare(raw(np.where(np.isfinite(holed), holed, np.nan)))
    assert prepared.flags == ("repaired",)
    whole = prepare(raw(image)).image[0]
    assert np.abs(prepared.image[0] - whole).max() < 0.25 * whole.max()


def test_a_frame_of_missing_pixels_becomes_sky_and_half_an_image_is_refused():
    framed = ring()
    outside = np.ones(framed.shape, bool)
    outside[4:-4, 4:-4] = False
    framed[outside] = np.nan
    prepared = prepare(raw(framed))
    assert prepared.flags == ("repaired",)
    inner = prepared.image[0, 4:-4, 4:-4]
    assert noise_of(prepared.image[0]) == pytest.approx(noise_of(inner), rel=0.25)
    half = ring()
    half[:32] = np.nan
    assert rejected(raw(half)) is RejectReason.NOT_FINITE
    assert rejected(raw(half * np.nan)) is RejectReason.NOT_FINITE


def test_blank_frames_are_refused():
    hot = np.zeros((64, 64))
    hot[10, 50] = 1e6
    for image in (np.zeros((64, 64)), np.full((64, 64), 3.5), hot):
        assert rejected(raw(image)) is RejectReason.BLANK


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (31, 31), (20, 200)])
def test_too_small_a_field_is_refused(shape):
    image = np.random.default_rng(0).standard_normal(shape)
    assert rejected(raw(image)) is RejectReason.TOO_SMALL


def test_much_coarser_pixels_are_refused_and_coarser_ones_flagged():
    assert rejected(raw(ring(), 0.5)) is RejectReason.PIXEL_SCALE_MISMATCH
    assert "coarse_pixels" in prepare(raw(ring(), 0.2)).flags


def test_planes_must_be_the_checkpoints_bands():
    cube = np.stack([ring(), ring(), ring()])
    colour = Target(("g", "r", "i"), 0.05, 64, True)
    assert rejected(raw(cube)) is RejectReason.WRONG_SHAPE
    assert rejected(raw(ring()), colour) is RejectReason.MISSING_BAND
    assert prepare(raw(cube), colour).image.shape == (3, 64, 64)


def test_a_checkpoint_that_needs_a_unit_gets_it_or_refuses():
    fixed = Target(("F814W",), 0.05, 64, is_unit_free=False)
    image = ring()
    kept = prepare(raw(image, unit="ELECTRONS/S"), fixed)
    np.testing.assert_allclose(kept.image[0], image.astype(np.float32))
    assert kept.flags == ()
    assert prepare(raw(image), fixed).flags == ("unit_unknown",)
    assert rejected(raw(image, unit="nJy"), fixed) is RejectReason.UNKNOWN_UNIT


def test_noise_alone_is_flagged_as_faint_and_a_ring_is_not():
    noise = np.random.default_rng(8).standard_normal((64, 64))
    assert prepare(raw(noise)).flags == ("low_snr",)
    assert prepare(raw(ring())).snr > 20


def test_absurd_pixel_values_never_give_a_number_that_is_none():
    image = ring()
    image[3, 3], image[40, 40] = 9e99, -9e99
    for target in (TARGET, Target(("F814W",), 0.05, 64, is_unit_free=False)):
        for scale in (0.05, 0.04):
            result = prepare_image(raw(image, scale, "electron/s"), target)
            if isinstance(result, Prepared):
                assert np.isfinite(result.image).all()
            else:
                assert result.reason is RejectReason.NOT_FINITE
