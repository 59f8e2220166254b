"""Binning and convolution: unit sum, agreement with scipy, edges."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.core.config import validate
from pipeline.core.errors import ConfigError
from pipeline.physics.geometry import Grid
from pipeline.physics.psf import FWHM_PER_SIGMA, GaussianPsf, MoffatPsf, NoPsf, blur, moffat_kernel

GRID = Grid(24, 0.05, 3)


@pytest.fixture
def rays():
    return np.random.default_rng(1).random((72, 72))


def _binned(rays):
    return rays.reshape(24, 3, 24, 3).mean(axis=(1, 3))


def test_perfect_telescope_averages_the_rays_of_each_pixel(rays):
    np.testing.assert_allclose(blur(NoPsf(), GRID)(rays), _binned(rays), rtol=1e-13)


def test_gaussian_after_binning_is_scipys(rays):
    psf = GaussianPsf(fwhm=0.1, truncation=4.0)
    sigma = 0.1 / FWHM_PER_SIGMA / 0.05
    truth = ndimage.gaussian_filter(_binned(rays), sigma, truncate=4.0, mode="nearest")
    np.testing.assert_allclose(blur(psf, GRID)(rays), truth, rtol=1e-12)


def test_gaussian_on_the_rays_is_scipys(rays):
    psf = GaussianPsf(fwhm=0.1, truncation=5.0, supersampled=True)
    sigma = 0.1 / FWHM_PER_SIGMA / GRID.ray_scale
    truth = _binned(ndimage.gaussian_filter(rays, sigma, truncate=5.0, mode="nearest"))
    np.testing.assert_allclose(blur(psf, GRID)(rays), truth, rtol=1e-12)


def test_moffat_is_the_direct_convolution(rays):
    psf = MoffatPsf(fwhm=0.12, beta=3.0, half_size=6)
    truth = ndimage.convolve(_binned(rays), moffat_kernel(psf, 0.05), mode="nearest")
    np.testing.assert_allclose(blur(psf, GRID)(rays), truth, rtol=1e-11)


def test_moffat_falls_to_half_at_half_its_fwhm():
    kernel = moffat_kernel(MoffatPsf(fwhm=0.5, beta=2.5, half_size=20), 0.05)
    assert kernel[20, 25] / kernel[20, 20] == pytest.approx(0.5, rel=1e-12)
    assert kernel.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "psf",
    [
        GaussianPsf(fwhm=0.2),
        GaussianPsf(fwhm=0.2, supersampled=True),
        MoffatPsf(fwhm=0.3, beta=4.0, half_size=8),
    ],
)
def test_flux_far_from_the_edge_is_kept(psf):
    rays = np.zeros((72, 72))
    rays[36, 36] = 1.0
    assert blur(psf, GRID)(rays).sum() * 9 == pytest.approx(1.0, rel=1e-6)


def test_psf_of_no_width_is_refused():
    with pytest.raises(ConfigError, match="fwhm"):
        validate({"kind": "gaussian", "fwhm": 0.0}, GaussianPsf)
