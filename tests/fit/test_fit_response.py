"""Where a small mass would explain what a fit leaves: by plain sums, and where one really is."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.core.seeding import Stream, image_rng
from pipeline.engines import jax as engine
from pipeline.fit._response import PRIOR, ResponseMaps
from pipeline.fit.config import FitConfig
from pipeline.fit.fitter import Fitter
from pipeline.fit.result import Fits, Status
from pipeline.physics.components import Perturbers
from pipeline.physics.detector import expose
from pipeline.physics.geometry import Grid
from pipeline.physics.scene import Scene

from .conftest import N_PIX, Lenses

#: Of the perturbers of these tests.
EINSTEIN_RADIUS2 = 0.02  # arcsec^2
SOFTENING = 0.05  # arcsec


def test_maps_are_those_of_plain_sums() -> None:
    rng = np.random.default_rng(0)
    grid, softenings, n = Grid(20, 0.1, 1), (0.1, 0.4), 20
    slopes, residual = rng.normal(size=(2, 2, n * n)), rng.normal(size=(2, n * n))
    derivatives = rng.normal(size=(3, 2, n * n))
    # One of them much like the trace of a mass: most of that trace then says nothing.
    templates = plain_templates(slopes, grid, softenings)
    derivatives[0] = templates[1, 150] + 0.1 * derivatives[0]
    prior = np.diag([1.0, 0.0, 2.0])
    inner = np.einsum("kcm,lcm->kl", derivatives, derivatives) + prior
    known = np.sum(templates**2, axis=(2, 3))
    shared = np.einsum("kcm,spcm->ksp", derivatives, templates)
    known -= np.einsum("ksp,kl,lsp->sp", shared, np.linalg.inv(inner), shared)
    expected = np.einsum("spcm,cm->sp", templates, residual) / np.sqrt(known + PRIOR**-2)
    found = np.asarray(ResponseMaps(grid, softenings)(slopes, residual, derivatives, prior))
    # N is found on pixels of twice the size, which white noise for a source feels most.
    size = np.abs(expected).max()
    assert np.abs(found.reshape(2, -1) - expected).max() < 0.15 * size
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.995


def plain_templates(
    slopes: NDArray[np.float64], grid: Grid, softenings: tuple[float, ...]
) -> NDArray[np.float64]:
    """Change (S, places, C, M) of the image by a mass at each pixel, per theta_E^2."""
    n = grid.n_pix
    axis = (np.arange(n) - (n - 1) / 2.0) * grid.pixel_scale
    x, y = (a.ravel() for a in np.meshgrid(axis, axis))
    dx, dy = x - x[:, None], y - y[:, None]
    templates = []
    for softening in softenings:
        r2 = dx**2 + dy**2 + softening**2
        templates.append(-(slopes[:, 0] * (dx / r2)[:, None] + slopes[:, 1] * (dy / r2)[:, None]))
    return np.stack(templates)


@pytest.fixture(scope="module")
def perturbed(fitter: Fitter, lenses: Lenses) -> tuple[NDArray[np.float64], Fits]:
    """Places (n, 2) of perturbers on the brightest part of the ring, and fits of these lenses."""
    grid = Grid(N_PIX, lenses.config.instruments[0].pixel_scale, 2)
    axis = (np.arange(N_PIX) - (N_PIX - 1) / 2.0) * grid.pixel_scale
    places, scenes = [], []
    for scene, image in zip(lenses.scenes, lenses.noiseless, strict=True):
        y, x = np.unravel_index(np.argmax(image[0]), image[0].shape)
        places.append((axis[x], axis[y]))
        scenes.append(with_mass(scene, *places[-1]))
    noiseless = engine.build(engine.Config()).render(scenes, grid, lenses.config.instruments)
    images = [
        expose(image, lenses.config.instruments, image_rng(2, k, Stream.NOISE))
        for k, image in enumerate(noiseless)
    ]
    return np.array(places), fitter.fit(np.stack(images))


def with_mass(scene: Scene, x: float, y: float) -> Scene:
    params = {
        "theta_E": np.array([EINSTEIN_RADIUS2**0.5]),
        "core": np.array([SOFTENING]),
        "center_x": np.array([x]),
        "center_y": np.array([y]),
    }
    mass = Perturbers("plummer", np.full(1, scene.host.z_lens), params, np.ones(1))
    return dataclasses.replace(scene, perturbers=(mass,))


def test_a_perturber_is_found_where_it_is(
    perturbed: tuple[NDArray[np.float64], Fits], fitter: Fitter, lenses: Lenses
) -> None:
    places, fits = perturbed
    smooth = fitter.fit(lenses.images).perturber[:, 0]
    assert np.nanmax(smooth) < 6.0
    sigma, away = fits.perturber[:, 0], np.hypot(*(fits.perturber[:, 1:] - places).T)
    assert np.median(sigma) > 10.0
    assert np.mean(sigma > np.nanmax(smooth)) > 0.8
    assert np.median(away) < 0.2  # two pixels


def test_smooth_lenses_ask_for_a_mass_as_noise_does(fitter: Fitter, lenses: Lenses) -> None:
    maps = fitter.fit(lenses.images).response.astype(float)
    ring = np.abs(lenses.noiseless) > 0.2 * lenses.noiseless.max(axis=(1, 2, 3), keepdims=True)
    values = maps[np.broadcast_to(ring, maps.shape)]
    assert abs(values.mean()) < 0.3
    assert 0.5 < values.std() < 1.3  # 1 but for what the prior holds back


def test_maps_are_left_out_on_request(fit_config: FitConfig, lenses: Lenses) -> None:
    instruments = lenses.config.instruments
    fits = Fitter(fit_config.with_changes(response=()), N_PIX, instruments, 8).fit(
        lenses.images[:2]
    )
    assert fits.response.shape == (2, 0, N_PIX, N_PIX)
    assert np.isnan(fits.perturber).all()


def test_images_without_a_fit_have_blank_maps(fitter: Fitter, lenses: Lenses) -> None:
    images = lenses.images[:2].copy()
    images[1] = np.nan
    fits = fitter.fit(images)
    assert fits.status == (Status.GOOD, Status.FAILED)
    assert fits.response[0].any() and not fits.response[1].any()
    assert np.isfinite(fits.response).all()
