"""The compiled smooth lens: the engine's image, exact derivatives, and projected amplitudes."""

from typing import Any

import numpy as np
import pytest

from pipeline.fit.config import (
    FitConfig,
    LensModel,
    MacroModel,
    PixelSource,
    SersicSource,
    ShapeletSource,
)
from pipeline.physics.geometry import Grid
from pipeline.physics.light import count_rate, sersic_flux
from pipeline.physics.psf import GaussianPsf, MoffatPsf

from .conftest import N_PIX, Lenses

MODELS = {
    "epl": LensModel(),
    "sie, light": LensModel(macro=MacroModel(profile="sie"), lens_light=1, background=True),
    "multipoles": LensModel(macro=MacroModel(profile="sie", multipoles=(4,))),
    "two galaxies": LensModel(
        macro=MacroModel(profile="sie", shear=False), source=SersicSource(n_components=2)
    ),
    "shapelets": LensModel(macro=MacroModel(profile="sie"), source=ShapeletSource(n_max=3)),
    "pixels": LensModel(macro=MacroModel(profile="sie"), source=PixelSource(n_side=5)),
}
#: These take ten seconds and more to compile.
LONG = ("multipoles", "two galaxies")


def smooth_model(config: FitConfig, psf: Any, n_pix: int = 24, binning: int = 1) -> Any:
    from pipeline.fit._model import SmoothModel

    return SmoothModel(config, Grid(n_pix, 0.15, 2), [psf], binning)


def test_image_is_that_of_the_engine(lenses: Lenses) -> None:
    import jax

    from pipeline.fit._model import SmoothModel

    instrument = lenses.config.instruments[0]
    config = FitConfig(precision="float64")
    with jax.enable_x64(True):
        grid = Grid(N_PIX, instrument.pixel_scale, 2)
        model = SmoothModel(config, grid, [instrument.psf])
        columns = jax.jit(model.columns)
        for scene, expected in zip(lenses.scenes[:4], lenses.noiseless, strict=False):
            truth = scene.truth
            values = [truth[name] for name in ("theta_E", "slope", "e1", "e2")]
            values += [truth[name] for name in ("center_x", "center_y", "gamma1", "gamma2")]
            values += [truth[f"source_{a}"] - truth[f"center_{a}"] for a in "xy"]
            values += [truth[f"source_{name}"] for name in ("r_eff", "n", "e1", "e2")]
            rate = count_rate(truth["source_magnitude"], instrument.zero_point)
            rate /= sersic_flux(truth["source_r_eff"], truth["source_n"])
            image = rate * np.asarray(columns(np.array(values)))[0, 0]
            error = image.reshape(N_PIX, N_PIX) - expected[0]
            assert np.abs(error).max() < 2e-4 * expected.max()  # the engine works in float32


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in MODELS]
)
def test_derivatives_agree_with_differences(name: str) -> None:
    import jax

    config = FitConfig(model=MODELS[name], precision="float64")
    with jax.enable_x64(True):
        model = smooth_model(config, GaussianPsf(fwhm=0.2))
        rng = np.random.default_rng(1)
        z = 0.4 * rng.normal(size=len(model.coordinates))
        values = model.coordinates.values(z)
        amplitudes = rng.normal(size=(1, model.n_columns))
        linearised = jax.jit(model.linearised)
        columns, derivatives = (np.asarray(a) for a in linearised(values, amplitudes))
        np.testing.assert_allclose(columns, np.asarray(model.columns(values)), atol=1e-12)
        render = jax.jit(lambda v: (amplitudes @ model.columns(v)[0])[0])
        for k in np.flatnonzero(model.coordinates.width):
            step = np.zeros(len(values))
            step[k] = 1e-5
            numerical = (np.asarray(render(values + step)) - render(values - step)) / 2e-5
            # The hats of source pixels have corners, which differences smear.
            size = np.abs(numerical).max()
            tolerance = 2e-2 if name == "pixels" else 2e-6
            error = np.sqrt(np.mean((derivatives[0, k] - numerical) ** 2))
            assert error <= tolerance * size, model.coordinates.names[k]


def test_binned_pixels_are_sums_of_pixels() -> None:
    psf = MoffatPsf(fwhm=0.3, beta=3.0, half_size=5)
    fine, coarse = (smooth_model(FitConfig(), psf, binning=b) for b in (1, 2))
    values = np.asarray(fine.coordinates.values(np.zeros(len(fine.coordinates))), np.float32)
    image = np.asarray(fine.columns(values))[0, 0].reshape(12, 2, 12, 2).sum((1, 3))
    np.testing.assert_allclose(
        np.asarray(coarse.columns(values))[0, 0].reshape(12, 12), image, rtol=1e-4, atol=1e-6
    )


def test_projected_amplitudes_are_those_of_full_least_squares() -> None:
    import jax

    from pipeline.fit._solve import Observed, Solver

    model_config = LensModel(
        macro=MacroModel(profile="sie"), source=ShapeletSource(n_max=3), background=True
    )
    config = FitConfig(model=model_config, precision="float64")
    with jax.enable_x64(True):
        model = smooth_model(config, GaussianPsf(fwhm=0.2))
        rng = np.random.default_rng(2)
        z = 0.3 * rng.normal(size=len(model.coordinates))
        image = rng.normal(size=(1, model.side**2))
        weights = rng.uniform(0.5, 2.0, size=image.shape)
        seen = Observed(image, np.ones_like(image), 1.0 / weights**2, np.zeros_like(image))
        solver = Solver(model, 0.02)
        strength = np.array([3.0])
        cost, amplitudes = solver._evaluate(z, seen, weights, strength)
        columns = np.asarray(model.columns(model.coordinates.values(z)))[0]
    # Regularisation as further rows of an ordinary least-squares problem.
    root = np.sqrt(strength[0]) * np.sqrt(model.regularisation)  # it is diagonal
    rows = np.concatenate([(columns * weights).T, root])
    right = np.concatenate([(image * weights)[0], np.zeros(len(root))])
    expected, *_ = np.linalg.lstsq(rows, right)
    np.testing.assert_allclose(np.asarray(amplitudes)[0], expected, rtol=1e-3, atol=1e-4)
    best = np.sum((right - rows @ expected) ** 2) + np.sum(z**2)
    assert float(cost) == pytest.approx(best, rel=1e-6)
