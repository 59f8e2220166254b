"""Detectability of simulated lenses: what must hold for any, and where it is not defined."""

import numpy as np
import pytest

from pipeline.dataset.config import DatasetConfig, load_dataset_config
from pipeline.detectability.measure import (
    Measure,
    Survey,
    detectability,
    mean_counts,
    mean_slope,
)
from pipeline.physics.instrument import load_instrument
from pipeline.physics.scene import draw_scene

LENS_LIGHT = "scenes.lens_light={components: [{magnitude: 17.0, r_eff: 0.8, n: 4.0}]}"


def survey(config: DatasetConfig) -> Survey:
    return Survey(config.scenes, config.seed, config.grid, config.instruments)


def instrument_with(config: DatasetConfig, **changes: object) -> DatasetConfig:
    changed = config.instruments[0].model_copy(update=changes)
    return config.model_copy(update={"instruments": (changed,)})


def test_values_are_ordered_and_differ(config: DatasetConfig) -> None:
    d = detectability(survey(config), range(6), "subhalo")
    assert np.all(d.raw > d.prior)
    assert np.all(d.prior >= d.refit)
    assert np.all(d.refit > 0)
    assert d.raw.shape == (6, 1)


def test_signal_scales_nearly_with_mass_and_vanishes_without(config: DatasetConfig) -> None:
    def scaled(factor: float) -> np.ndarray:
        scenes = config.scenes.model_copy(update={"signal_scale": factor})
        return detectability(
            survey(config.model_copy(update={"scenes": scenes})), range(4), "vortex"
        ).raw

    assert np.all(scaled(0.0) < 1e-6)
    np.testing.assert_allclose(scaled(0.02), 2.0 * scaled(0.01), rtol=0.02)


def test_a_photon_limited_value_grows_as_the_root_of_the_exposure(config: DatasetConfig) -> None:
    short, long = (
        detectability(
            survey(instrument_with(config, read_noise=0.0, n_exposures=n)), range(4), "vortex"
        )
        for n in (2, 8)
    )
    np.testing.assert_allclose(long.raw, 2.0 * short.raw, rtol=1e-9)
    np.testing.assert_allclose(long.refit, 2.0 * short.refit, rtol=1e-6)


@pytest.mark.slow
def test_a_coarse_grid_for_shallow_halos_changes_no_value_by_one_per_cent() -> None:
    dense = survey(load_dataset_config("physical_roman", ["n_pix=32"]))
    scenes = [draw_scene(dense.scenes, dense.seed, i, "subhalo") for i in range(3)]
    exact, coarse = Measure(dense)(scenes), Measure(dense, coarse=True)(scenes)
    np.testing.assert_allclose(coarse.raw, exact.raw, rtol=1e-2)
    np.testing.assert_allclose(coarse.prior, exact.prior, rtol=1e-2)
    assert np.any(coarse.raw != exact.raw)  # there were shallow halos


def test_two_substructures_are_compared_with_each_other(config: DatasetConfig) -> None:
    measure = Measure(survey(config))
    halos = [draw_scene(config.scenes, config.seed, i, "subhalo") for i in range(3)]
    vortices = [draw_scene(config.scenes, config.seed, i, "vortex") for i in range(3)]
    d = measure(halos, (None, "subhalo", "vortex"))
    assert np.all(np.isnan(d.raw[:, 1]))
    np.testing.assert_allclose(d.refit[:, 2], measure(vortices, ("subhalo",)).refit[:, 0])
    back = measure(vortices).raw[:, 0]
    assert np.all(d.raw[:, 2] <= d.raw[:, 0] + back)
    assert np.all(d.raw[:, 2] >= np.abs(d.raw[:, 0] - back))


def test_a_telescope_without_noise_has_no_value_and_says_why() -> None:
    legacy = survey(load_dataset_config("legacy_model_ii"))
    assert "noise_free" in legacy.unmeasurable
    assert "legacy_model_ii" in legacy.unmeasurable
    assert np.all(np.isnan(detectability(legacy, range(2), "vortex").raw))


def test_an_ordinary_exposure_has_the_image_as_its_mean(config: DatasetConfig) -> None:
    images = np.linspace(0.0, 2.0, 5).reshape(1, 1, 5)
    assert np.array_equal(mean_counts(images, config.instruments), images)
    assert np.all(mean_slope(images, config.instruments) == 1.0)


def test_slope_of_the_legacy_mean_is_its_derivative() -> None:
    legacy = (load_instrument("legacy_model_i"),)
    images = np.array([0.0, 1e-3, 1e-2, 0.05, 0.5]).reshape(1, 1, 5)
    step = 1e-6
    numeric = (mean_counts(images + step, legacy) - mean_counts(images, legacy)) / step
    assert mean_slope(images, legacy) == pytest.approx(numeric, rel=1e-3)


def test_fewer_free_nuisances_leave_more_to_see(config: DatasetConfig) -> None:
    scenes = [draw_scene(config.scenes, config.seed, i, "vortex") for i in range(3)]
    everything = Measure(survey(config))(scenes)
    ring = Measure(survey(config), ("theta_E", "source_x", "source_y"))(scenes)
    assert np.array_equal(ring.raw, everything.raw)
    assert np.all(ring.refit > everything.refit)
    assert np.all(ring.refit < ring.raw)


def test_subtracted_lens_light_leaves_its_noise_behind() -> None:
    small = ["n_pix=40", "instruments=[hst_acs_f814w]"]
    dark, lit = (load_dataset_config("demo", [*small, *more]) for more in ([], [LENS_LIGHT]))
    without, with_light = (detectability(survey(c), range(2), "vortex").raw for c in (dark, lit))
    assert np.all(with_light < 0.9 * without)
