"""Fits of whole batches: what comes out is right, belongs to its image, and says when it is not."""

import dataclasses

import numpy as np
import pytest

from pipeline.core.errors import EngineError
from pipeline.core.seeding import Stream, image_rng
from pipeline.fit.config import FitConfig, GaussianPrior
from pipeline.fit.fitter import Fitter
from pipeline.fit.noise import Noise
from pipeline.fit.result import Fits, Status
from pipeline.physics.detector import expose

from .conftest import N_PIX, Lenses

TRUTHS = ("theta_E", "e1", "e2", "center_x", "center_y", "gamma1", "gamma2")


@pytest.fixture(scope="module")
def fits(fitter: Fitter, lenses: Lenses) -> Fits:
    return fitter.fit(lenses.images)


def rows_equal(one: Fits, i: int, other: Fits, j: int) -> bool:
    for field in dataclasses.fields(Fits):
        if field.name in ("names", "units"):
            continue
        a, b = getattr(one, field.name)[i], getattr(other, field.name)[j]
        same = a == b if isinstance(a, str) else np.array_equal(a, b, equal_nan=True)
        if not same:
            return False
    return True


def test_smooth_lenses_are_fitted_blind_down_to_the_noise(fits: Fits) -> None:
    assert fits.count(Status.GOOD) == len(fits)
    deviation = (fits.chi2 - 1.0) * np.sqrt(N_PIX**2 / 2.0)
    assert np.abs(deviation).max() < 4.5


def test_parameters_are_recovered_within_their_errors(fits: Fits, lenses: Lenses) -> None:
    pulls = np.stack(
        [
            (fits.of(name) - [scene.truth[name] for scene in lenses.scenes])
            / fits.errors[:, fits.names.index(name)]
            for name in TRUTHS
        ]
    )
    # 168 pulls, those of one lens correlated: 68 % and 95 % within about 3 standard errors.
    assert 0.5 < np.mean(np.abs(pulls) < 1.0) < 0.86
    assert np.mean(np.abs(pulls) < 1.96) > 0.87
    assert np.abs(pulls).max() < 5.5


def test_an_image_alone_gives_the_bits_it_gives_in_a_batch(
    fitter: Fitter, lenses: Lenses, fits: Fits
) -> None:
    for k in (0, 5, 23):
        assert rows_equal(fitter.fit(lenses.images[k : k + 1]), 0, fits, k)


def test_residual_model_and_image_belong_together(fits: Fits, lenses: Lenses) -> None:
    noise = Noise.of(lenses.config.instruments)
    sigma = np.sqrt(noise.floor + noise.slope * np.maximum(fits.model, 0.0))
    expected = (lenses.images - fits.model) / sigma
    np.testing.assert_allclose(fits.residual, expected, atol=2e-3)


def test_bad_images_have_a_reason_and_change_no_other(
    fitter: Fitter, lenses: Lenses, fits: Fits
) -> None:
    rng = image_rng(5, 0, Stream.NOISE)
    empty = expose(np.zeros((1, N_PIX, N_PIX)), lenses.config.instruments, rng)
    images = lenses.images[:8].copy()
    images[1] = np.nan
    images[3] = empty
    images[5] = 1e30
    images[6, 0, :, :3] = np.inf
    found = fitter.fit(images)
    assert found.status[1] == Status.FAILED
    assert found.reason[1] == "no pixel has a finite value"
    assert (found.status[3], found.reason[3]) == (
        Status.POOR,
        "no lensed source stands out of the noise",
    )
    assert found.status[5] != Status.GOOD and found.reason[5]
    assert found.status[6] == Status.GOOD
    for name in ("residual", "model"):
        assert np.isfinite(getattr(found, name)).all()
    assert np.isnan(found.chi2[1]) and np.isnan(found.values[1]).all()
    for k in (0, 2, 4, 7):
        assert rows_equal(found, k, fits, k)


def test_a_mask_over_half_the_ring_still_gives_the_lens(fitter: Fitter, lenses: Lenses) -> None:
    usable = np.ones((1, 1, N_PIX, N_PIX), bool)
    usable[..., : N_PIX // 2] = False
    found = fitter.fit(lenses.images[:8], usable=usable)
    truth = np.array([scene.truth["theta_E"] for scene in lenses.scenes[:8]])
    pull = (found.of("theta_E") - truth) / found.errors[:, 0]
    assert np.median(np.abs(pull)) < 2.5
    assert (found.residual[..., : N_PIX // 2] == 0.0).all()
    assert (found.n_used == N_PIX**2 // 2).all()


def test_pixels_without_variance_are_left_out(fitter: Fitter, lenses: Lenses) -> None:
    errors = np.full((8, 1, N_PIX, N_PIX), 0.05)
    errors[0] = 0.0
    errors[1, ..., :4] = 0.0
    errors[2, ..., :4] = np.nan
    found = fitter.fit(lenses.images[:8], Noise.from_errors(errors))
    assert found.status[0] == Status.FAILED
    assert found.reason[0] == "no pixel has a variance above zero"
    assert found.n_used[1] == found.n_used[2] == N_PIX * (N_PIX - 4)
    assert np.isfinite(found.residual).all()


def test_a_galaxy_without_arcs_is_no_good_lens(fitter: Fitter, lenses: Lenses) -> None:
    axis = np.arange(N_PIX) - (N_PIX - 1) / 2.0
    galaxy = lenses.noiseless.max() * np.exp(-0.5 * (axis**2 + axis[:, None] ** 2) / 3.0**2)
    image = expose(galaxy[None], lenses.config.instruments, image_rng(6, 0, Stream.NOISE))
    assert fitter.fit(image[None]).status[0] == Status.POOR


def test_units_of_the_image_do_not_matter(fitter: Fitter, lenses: Lenses, fits: Fits) -> None:
    noise = Noise.of(lenses.config.instruments)
    unit = 1e-21
    scaled = Noise(noise.floor * unit**2, noise.slope * unit)
    found = fitter.fit(lenses.images[:4].astype(np.float64) * unit, scaled)
    np.testing.assert_allclose(found.values, fits.values[:4], atol=2e-3)
    np.testing.assert_allclose(found.chi2, fits.chi2[:4], atol=1e-3)
    np.testing.assert_allclose(found.amplitudes / unit, fits.amplitudes[:4], rtol=1e-2)
    shift = lenses.images[0].size * np.log(unit)
    np.testing.assert_allclose(found.log_evidence + shift, fits.log_evidence[:4], atol=1.0)


@pytest.mark.slow
def test_narrow_priors_win_over_the_image(lenses: Lenses, fit_config: FitConfig) -> None:
    narrow = {"theta_E": GaussianPrior(mean=1.0, sigma=1e-6), "e1": fit_config.priors["e1"]}
    config = fit_config.with_changes(
        priors={**fit_config.priors, **narrow}, search={"more_starts": 0}
    )
    found = Fitter(config, N_PIX, lenses.config.instruments, batch_size=8).fit(lenses.images[:2])
    np.testing.assert_allclose(found.of("theta_E"), 1.0, atol=1e-4)
    assert (found.errors[:, 0] <= 1.01e-6).all()


def test_images_without_information_give_back_the_prior(
    fitter: Fitter, lenses: Lenses, fit_config: FitConfig
) -> None:
    noise = Noise.from_errors(np.full((1, 1, N_PIX, N_PIX), 1e6))
    found = fitter.fit(lenses.images[:1], noise)
    for name, prior in fit_config.priors.items():
        if name in ("gamma1", "gamma2", "center_x", "source_x", "e1"):
            k = found.names.index(name)
            assert found.values[0, k] == pytest.approx(prior.mean, abs=0.02 * prior.sigma + 1e-6)
            assert found.errors[0, k] == pytest.approx(prior.sigma, rel=0.02)


def test_wrong_shapes_are_refused(fitter: Fitter) -> None:
    with pytest.raises(EngineError, match="expected"):
        fitter.fit(np.zeros((1, 1, N_PIX, N_PIX + 1)))


def test_noiseless_instruments_are_refused(lenses: Lenses) -> None:
    from pipeline.physics.instrument import load_instrument

    legacy = load_instrument("legacy_model_i")
    with pytest.raises(EngineError, match="no variance"):
        Noise.of((legacy,))


def test_no_images_give_no_fits(fitter: Fitter) -> None:
    found = fitter.fit(np.zeros((0, 1, N_PIX, N_PIX)))
    assert len(found) == 0 and found.values.shape[1] == len(found.names)


def test_noise_that_was_overestimated_is_said(fitter: Fitter, lenses: Lenses) -> None:
    noise = Noise.of(lenses.config.instruments)
    found = fitter.fit(lenses.images[:2], Noise(4.0 * noise.floor, 4.0 * noise.slope))
    assert found.chi2.max() < 0.3
    assert found.status == (Status.POOR, Status.POOR)
    assert all("the noise is less than assumed" in reason for reason in found.reason)
