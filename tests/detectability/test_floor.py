"""The information floor: exact marginalisation, calibration, and its two limits."""

import numpy as np
import pytest

from pipeline.core.errors import PhysicsError
from pipeline.dataset.config import load_dataset_config
from pipeline.detectability.floor import Floor, information_floor, marginal_log_likelihood
from pipeline.detectability.measure import Survey


def legacy(*overrides: str) -> Survey:
    config = load_dataset_config(
        "legacy_model_ii", ["n_pix=40", "instruments=[euclid_vis_legacy]", *overrides]
    )
    return Survey(config.scenes, config.seed, config.grid, config.instruments)


def test_marginal_likelihood_is_that_of_the_dense_covariance() -> None:
    rng = np.random.default_rng(1)
    residual, jacobian = rng.normal(size=(4, 15)), rng.normal(size=(4, 15, 3))
    widths = np.array([0.3, 2.0, 50.0])
    covariance = np.eye(15) + (jacobian * widths**2) @ jacobian.swapaxes(-1, -2)
    dense = -0.5 * np.einsum(
        "bi,bi->b", residual, np.linalg.solve(covariance, residual[..., None])[..., 0]
    )
    dense -= 0.5 * np.linalg.slogdet(covariance)[1]
    np.testing.assert_allclose(marginal_log_likelihood(residual, jacobian, widths), dense)


def test_a_long_vortex_is_measured_and_the_grid_is_fine_enough() -> None:
    axion = "scenes.classes.vortex.substructure.log10_axion_mass"
    survey = legacy(f"{axion}={{kind: uniform, low: -23.6, high: -23.2}}")
    floor = information_floor(survey, "vortex", 4)
    assert set(floor.nuisances) == {"source_x", "source_y", "vortex_angle"}
    assert floor.mae < 0.05
    assert np.all(floor.spacing < 0.25 * max(floor.mae, 0.01))


@pytest.mark.slow
def test_without_a_signal_the_prior_is_all_there_is() -> None:
    # A rod of a millionth of the mass: the median is the middle of the prior.
    floor = information_floor(legacy("scenes.signal_scale=1.0e-6"), "vortex", 8)
    assert floor.mae == pytest.approx(floor.width / 4.0, rel=0.02)


@pytest.mark.slow
def test_free_nuisances_never_help() -> None:
    survey = legacy()
    known = information_floor(survey, "vortex", 16, free=())
    free = information_floor(survey, "vortex", 16)
    assert known.nuisances == ()
    assert known.mae <= free.mae + free.error


def test_errors_are_grouped_by_the_true_mass() -> None:
    truth = np.array([-23.9, -23.4, -23.3, -22.2])
    floor = Floor(truth, truth + np.array([0.1, 0.2, -0.4, 0.0]), np.full(4, 0.01), 2.0, ())
    found = floor.by_bin([-24.0, -23.5, -23.0, -22.5, -22.0])
    np.testing.assert_allclose(found, [0.1, 0.3, np.nan, 0.0])
    assert floor.mae == pytest.approx(0.175)


def test_what_has_no_axion_mass_or_noise_is_refused() -> None:
    with pytest.raises(PhysicsError, match="no vortex"):
        information_floor(legacy(), "subhalo", 1)
    with pytest.raises(PhysicsError, match="noise_free"):
        information_floor(legacy("instruments=[legacy_model_ii]"), "vortex", 1)
    with pytest.raises(PhysicsError, match="spin"):
        information_floor(legacy(), "vortex", 1, free=("spin",))
