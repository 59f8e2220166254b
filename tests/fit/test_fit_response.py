"""Where a small mass would explain what a fit leaves: by plain sums, and where one really is."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.special import logsumexp

from pipeline.core.seeding import Stream, image_rng
from pipeline.engines import jax as engine
from pipeline.fit._dictionary import Dictionary
from pipeline.fit._model import SmoothModel
from pipeline.fit._response import N_SIZES, PRIOR, Response
from pipeline.fit._solve import Solver, State
from pipeline.fit.config import FitConfig, Perturbers
from pipeline.fit.fitter import Fitter
from pipeline.fit.result import Fits, Status
from pipeline.physics import components
from pipeline.physics.detector import expose
from pipeline.physics.geometry import Grid
from pipeline.physics.profiles.array_api import Array
from pipeline.physics.profiles.halos import deflection_plummer
from pipeline.physics.profiles.rod import deflection_rod
from pipeline.physics.psf import GaussianPsf
from pipeline.physics.scene import Scene

from .conftest import N_PIX, Lenses

#: Of the perturbers of these tests.
EINSTEIN_RADIUS2 = 0.02  # arcsec^2
SOFTENING = 0.05  # arcsec


@pytest.mark.parametrize("n", [20, 60, 61])  # blocks of one pixel, of two, and of two but the last
def test_what_is_found_is_that_of_plain_sums(n: int) -> None:
    rng = np.random.default_rng(0)
    perturbers = Perturbers(softenings=(0.1, 0.4), half_lengths=(0.3,))
    dictionary = Dictionary(Grid(n, 0.05, 1), perturbers, 1.0)
    slopes, residual = rng.normal(size=(2, 5, n * n)), rng.normal(size=(2, n * n))
    derivatives = rng.normal(size=(3, 2, n * n))
    fields, block = dictionary.fields(), blocks_of_pixels(dictionary)
    templates = -np.einsum("mfp,cfp->mcp", fields[:, :, block], slopes)
    # One of them much like the trace of a mass: most of that trace then says nothing.
    derivatives[0] = templates[5] + 0.1 * derivatives[0]
    prior = np.diag([1.0, 0.0, 2.0])
    inner = np.einsum("kcm,lcm->kl", derivatives, derivatives) + prior
    known = np.sum(templates**2, axis=(1, 2))
    shared = np.einsum("kcp,mcp->km", derivatives, templates)
    known -= np.einsum("km,kl,lm->m", shared, np.linalg.inv(inner), shared)
    found = np.einsum("mcp,cp->m", templates, residual)

    response = Response(dictionary)
    linear, squares = response.traces(
        *(jnp.asarray(a, jnp.float32) for a in (slopes, residual, derivatives, prior))
    )
    maps, bayes = (np.asarray(a)[0] for a in response(1, linear[None], squares[None]))

    at = known[5] / np.sum(templates[5] ** 2)
    assert at < 0.1
    for group, value in zip(dictionary.groups, bayes, strict=True):
        low, high = np.log(perturbers.theta_E)
        m = np.exp(low + (high - low) * (np.arange(N_SIZES) + 0.5) / N_SIZES)[:, None] ** 2
        gains = m * found[group] - 0.5 * m**2 * known[group]
        assert value == pytest.approx(logsumexp(gains) - np.log(gains.size), rel=2e-3, abs=2e-3)
    places = dictionary.lattice
    axis = (np.arange(n) - (n - 1) / 2.0) * 0.05
    where = np.stack(np.meshgrid(axis, axis), axis=-1)[..., ::-1]
    for group, seen in zip(dictionary.groups[:2], maps, strict=True):
        lattice = np.zeros(dictionary.in_reach.shape)
        lattice[dictionary.in_reach] = (found / np.sqrt(known + PRIOR**-2))[group]
        expected = RegularGridInterpolator((places, places), lattice, bounds_error=False)(where)
        inside = np.isfinite(expected)
        np.testing.assert_allclose(
            seen[inside], expected[inside], atol=3e-3 * np.abs(lattice).max()
        )


def blocks_of_pixels(dictionary: Dictionary) -> NDArray[np.int64]:
    """Number of the block of each pixel, (M,)."""
    one = np.arange(dictionary.grid.n_pix) // dictionary.binning
    return np.asarray(one[:, None] * dictionary.n_blocks + one).ravel()


def test_blocks_lose_nothing_of_the_trace_of_a_mass() -> None:
    """Against shifts of every ray, of which the fit can follow all but a hundredth."""
    grid, perturbers = Grid(80, 0.05, 2), Perturbers(softenings=(0.2,), half_lengths=(0.6,))
    dictionary = Dictionary(grid, perturbers, 1.0)
    response, first_rod = Response(dictionary), dictionary.groups[1].start
    with jax.enable_x64(True):
        model = SmoothModel(FitConfig(precision="float64"), grid, [GaussianPsf(fwhm=0.1)])
        z = 0.3 * np.random.default_rng(3).normal(size=len(model.coordinates))
        values = model.coordinates.values(z)
        amplitudes = np.full((1, model.n_columns), 100.0)
        solver, one = Solver(model, 0.02), jnp.ones(())
        state = State(jnp.asarray(z), jnp.asarray(amplitudes), one, one, jnp.zeros(1), one, one)
        image = solver.expected(state)
        weights = 40.0 / jnp.sqrt(image.max() * (image.max() + 30.0 * image))
        derivatives, prior = solver.derivatives(solver.linearised(state), state, weights)
        residual = jnp.asarray(np.random.default_rng(4).normal(size=image.shape))
        slopes = model.slopes(values, amplitudes, response.middles) * weights[:, None]
        traces = response.traces(slopes, residual, derivatives, prior)
        found, known = (a[0] for a in response.significances(1, *(a[None] for a in traces)))

        def change(deflection: tuple[Array, Array]) -> NDArray[np.float64]:
            """Of the image, in sigma, by the deflection of each ray, per theta_E^2."""
            macro, rest, step = values[:8], values[8:], 1e-4
            x, y = model._traced(macro)
            plus, minus = (
                model._on_pixels(
                    model._source_columns(x - k * deflection[0], y - k * deflection[1], rest)
                )
                for k in (step, -step)
            )
            difference = (plus - minus)[:, 0] * amplitudes[:, :1] * weights / (2 * step)
            return np.asarray(difference)

        rays = grid.rays()
        inner = np.einsum("kcm,lcm->kl", derivatives, derivatives) + np.asarray(prior)
        places = np.argwhere(dictionary.in_reach)
        masses = {}
        for k in (len(places) // 5, len(places) // 3, len(places) // 2 + 3):
            y, x = dictionary.lattice[places[k]]
            masses[k] = change(deflection_plummer(*rays, 1.0, 0.2, x, y))
        for k in (0, len(dictionary.rods) // 2):
            length, angle, x, y = dictionary.rods[k]
            masses[first_rod + k] = change(deflection_rod(*rays, 1.0, length, angle, 0.06, x, y))
        shares = []
        for k, template in masses.items():
            shared = np.einsum("kcm,cm->k", derivatives, template)
            whole = np.sum(template**2)
            left = whole - shared @ np.linalg.solve(inner, shared)
            shares.append(left / whole)
            assert known[k] == pytest.approx(left, rel=0.15)
            assert abs(found[k] - np.sum(template * residual)) < 0.15 * np.sqrt(left)
        assert min(shares) < 0.02  # where most of a trace is lost, what is left must be exact


def test_evidence_is_hard_to_come_by_without_a_mass(
    perturbed: tuple[NDArray[np.float64], Fits], fitter: Fitter, lenses: Lenses
) -> None:
    """The mean of a Bayes factor over images without the mass is 1: one in k exceeds k at most."""
    smooth = fitter.fit(lenses.images).ln_bayes
    assert np.mean(smooth > np.log(20.0)) < 0.1
    assert np.median(perturbed[1].ln_bayes[:, 0]) > 20.0


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
    mass = components.Perturbers("plummer", np.full(1, scene.host.z_lens), params, np.ones(1))
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
    nothing = Perturbers(softenings=(), half_lengths=())
    rods = Perturbers(softenings=(), half_lengths=(0.3,))
    for looked_for in (nothing, rods):
        config = fit_config.with_changes(response=looked_for)
        fits = Fitter(config, N_PIX, instruments, 8).fit(lenses.images[:2])
        assert fits.response.shape == (2, 0, N_PIX, N_PIX)
        assert np.isnan(fits.perturber).all()
        assert fits.ln_bayes.shape == (2, looked_for.n_groups)
        assert np.isfinite(fits.ln_bayes).all()


def test_images_without_a_fit_have_blank_maps(fitter: Fitter, lenses: Lenses) -> None:
    images = lenses.images[:2].copy()
    images[1] = np.nan
    fits = fitter.fit(images)
    assert fits.status == (Status.GOOD, Status.FAILED)
    assert fits.response[0].any() and not fits.response[1].any()
    assert np.isfinite(fits.response).all()
    assert np.isfinite(fits.ln_bayes[0]).all() and np.isnan(fits.ln_bayes[1]).all()
