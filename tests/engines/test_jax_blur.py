"""From rays to pixels JAX does what ``physics.psf`` does, whatever the PSF and the sampling."""

import numpy as np
import pytest

from pipeline.engines._jax_blur import rays_to_pixels
from pipeline.physics.geometry import Grid
from pipeline.physics.psf import GaussianPsf, MoffatPsf, NoPsf, blur

jax = pytest.importorskip("jax")
PSFS = {
    "none": NoPsf(),
    "narrow": GaussianPsf(fwhm=0.1),
    "narrow on the rays": GaussianPsf(fwhm=0.1, supersampled=True),
    "wider than half the image": GaussianPsf(fwhm=0.9, supersampled=True),
    "moffat": MoffatPsf(fwhm=0.1, beta=2.5, half_size=5),
}


@pytest.mark.parametrize("name", PSFS)
@pytest.mark.parametrize("supersample", [1, 2, 3])
def test_pixels_are_those_of_the_specification(name, supersample):
    grid = Grid(23, 0.05, supersample)
    rays = np.random.default_rng(5).random((23 * supersample, 23 * supersample))
    with jax.enable_x64(True):
        found = np.asarray(jax.jit(rays_to_pixels(PSFS[name], grid, "float64"))(rays))
    expected = blur(PSFS[name], grid)(rays) * grid.pixel_scale**2
    np.testing.assert_allclose(found, expected, rtol=1e-12)
