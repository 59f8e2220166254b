"""Pixelised PSFs: convolution as scipy does it, content in the configuration, bad files refused."""

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

from pipeline.core.config import config_sha256, dump, load_config, validate
from pipeline.core.errors import ConfigError
from pipeline.core.resources import sim_params
from pipeline.physics.geometry import Grid
from pipeline.physics.instrument import Instrument
from pipeline.physics.psf import KernelPsf, blur

GRID = Grid(24, 0.05, 2)


@pytest.fixture
def kernel():
    return np.random.default_rng(2).random((7, 7))


def _psf(path):
    return validate({"kind": "kernel", "path": str(path)}, KernelPsf)


@pytest.mark.parametrize("suffix", [".fits", ".npy"])
def test_kernel_convolves_the_pixels_with_repeated_edges(tmp_path, kernel, suffix):
    path = tmp_path / f"psf{suffix}"
    if suffix == ".npy":
        np.save(path, kernel)
    else:
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(kernel)]).writeto(path)
    rays = np.random.default_rng(1).random((48, 48))
    binned = rays.reshape(24, 2, 24, 2).mean(axis=(1, 3))
    truth = ndimage.convolve(binned, kernel / kernel.sum(), mode="nearest")
    np.testing.assert_allclose(blur(_psf(path), GRID)(rays), truth, rtol=1e-12)


def test_configuration_holds_the_kernel_and_not_its_path(tmp_path, kernel):
    paths = [tmp_path / "a.npy", tmp_path / "b.npy", tmp_path / "c.npy"]
    for path in paths[:2]:
        np.save(path, kernel)
    np.save(paths[2], kernel + 1e-9)
    first, same, other = map(_psf, paths)
    assert config_sha256(first) == config_sha256(same) != config_sha256(other)
    for path in paths:
        path.unlink()
    again = validate(dump(first), KernelPsf)
    assert again == first
    np.testing.assert_allclose(again.kernel(), kernel / kernel.sum(), rtol=1e-15)


def _write(path, pixels):
    np.save(path, pixels) if path.suffix == ".npy" else fits.writeto(path, pixels)


def _broken(kernel, value):
    return np.where(np.arange(49).reshape(7, 7) == 24, value, kernel)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("even.npy", lambda k: k[:6, :6], "6 x 6, even-sized"),
        ("oblong.fits", lambda k: k[:5], "not square, but 5 x 7 pixels"),
        ("nan.fits", lambda k: _broken(k, np.nan), "1 pixels of the PSF are not finite"),
        ("inf.npy", lambda k: _broken(k, np.inf), "1 pixels of the PSF are not finite"),
        ("empty.npy", np.zeros_like, "sums to 0, not above 0"),
        ("negative.npy", np.negative, "not above 0"),
        ("huge.npy", lambda k: np.ones((259, 259)), "259 pixels wide, more than 257"),
        ("cube.npy", lambda k: k[None], "1 x 7 x 7"),
        ("words.npy", lambda k: np.full((3, 3), "a"), "holds no image"),
    ],
)
def test_bad_kernel_is_refused_when_read(tmp_path, kernel, name, change, message):
    _write(tmp_path / name, change(kernel))
    source = tmp_path / "mine.yaml"
    source.write_text(
        f"extends: euclid_vis\nname: mine\npsf: {{kind: kernel, path: {tmp_path / name}}}\n"
    )
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(source, Instrument, presets=sim_params() / "instruments")
    text = str(caught.value)
    assert "mine.yaml:3" in text and "psf" in text and name in text


@pytest.mark.parametrize("name", ["missing.fits", "text.fits", "kernel.png"])
def test_kernel_file_that_is_none_is_refused(tmp_path, name):
    (tmp_path / "text.fits").write_text("hello")
    with pytest.raises(ConfigError, match=name):
        _psf(tmp_path / name)


def test_stored_kernel_of_another_size_is_refused(tmp_path, kernel):
    np.save(tmp_path / "psf.npy", kernel)
    data = dump(_psf(tmp_path / "psf.npy"))
    with pytest.raises(ConfigError, match="392 bytes are no 9 x 9 kernel"):
        validate({**data, "size": 9}, KernelPsf)
    with pytest.raises(ConfigError, match="one of path and values"):
        validate({**data, "path": str(tmp_path / "psf.npy")}, KernelPsf)


def test_moffat_as_a_file_is_the_moffat(tmp_path):
    from pipeline.physics.psf import MoffatPsf, moffat_kernel

    moffat = MoffatPsf(fwhm=0.12, beta=3.0, half_size=6)
    np.save(tmp_path / "psf.npy", moffat_kernel(moffat, 0.05))
    rays = np.random.default_rng(1).random((48, 48))
    found = blur(_psf(tmp_path / "psf.npy"), GRID)(rays)
    np.testing.assert_allclose(found, blur(moffat, GRID)(rays), rtol=1e-13)
