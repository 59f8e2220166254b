"""Parameters keep their bounds, and the maps to coordinates without bounds are exact inverses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import ConfigError
from pipeline.fit.config import (
    FitConfig,
    GaussianPrior,
    LensModel,
    MacroModel,
    PixelSource,
    SersicSource,
    ShapeletSource,
)
from pipeline.fit.parameters import Coordinates, parameter_names

MODELS = [
    LensModel(),
    LensModel(macro=MacroModel(profile="sie", shear=False)),
    LensModel(macro=MacroModel(multipoles=(3, 4)), lens_light=2, background=True),
    LensModel(source=SersicSource(n_components=2)),
    LensModel(source=ShapeletSource(), lens_light=1),
    LensModel(source=PixelSource()),
]


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_coordinates_give_values_inside_the_bounds(
    model: LensModel, data: st.DataObject
) -> None:
    coordinates = Coordinates(FitConfig(model=model))
    n = len(coordinates)
    z = np.array(data.draw(st.lists(st.floats(-60, 60), min_size=n, max_size=n)))
    values = coordinates.values(z)
    for k, p in enumerate(coordinates.parameters):
        if p.kind == "log":
            assert values[k] > 0
        elif p.kind == "interval":
            assert p.low <= values[k] <= p.high
        elif p.kind == "disc":
            first = k if p.name.endswith("1") else k - 1
            assert np.hypot(values[first], values[first + 1]) <= p.high * (1 + 1e-12)


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_whitening_inverts_the_values(model: LensModel, seed: int) -> None:
    coordinates = Coordinates(FitConfig(model=model))
    z = np.random.default_rng(seed).normal(size=(5, len(coordinates)))
    z[:, coordinates.width == 0] = 0.0
    np.testing.assert_allclose(coordinates.whitened(coordinates.values(z)), z, atol=1e-8)


@pytest.mark.parametrize("model", MODELS)
def test_jacobian_agrees_with_differences(model: LensModel) -> None:
    coordinates = Coordinates(FitConfig(model=model))
    z = np.random.default_rng(3).normal(size=len(coordinates))
    step = 1e-5 * np.eye(len(z))
    numerical = (coordinates.values(z + step) - coordinates.values(z - step)).T / 2e-5
    np.testing.assert_allclose(coordinates.jacobian(z), numerical, atol=1e-8)


def test_prior_has_the_mean_and_the_width_that_were_asked_for() -> None:
    priors = {
        "theta_E": GaussianPrior(mean=1.3, sigma=0.01),
        "slope": GaussianPrior(mean=1.9, sigma=0.01),
        "e1": GaussianPrior(mean=0.05, sigma=0.001),
        "e2": GaussianPrior(mean=-0.02, sigma=0.001),
    }
    coordinates = Coordinates(FitConfig(priors=priors))
    z = np.random.default_rng(0).normal(size=(4000, len(coordinates)))
    drawn = coordinates.values(z)
    for name, prior in priors.items():
        column = drawn[:, coordinates.index(name)]
        assert column.mean() == pytest.approx(prior.mean, abs=4 * prior.sigma / 4000**0.5)
        assert column.std() == pytest.approx(prior.sigma, rel=0.05)


def test_a_prior_of_no_width_holds_the_parameter() -> None:
    config = FitConfig(priors={"slope": GaussianPrior(mean=2.1, sigma=0.0)})
    coordinates = Coordinates(config)
    values = coordinates.values(np.full(len(coordinates), 3.0))
    assert values[coordinates.index("slope")] == pytest.approx(2.1)


def test_unknown_parameters_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'theta_E'"):
        FitConfig(priors={"theta_e": GaussianPrior(mean=1.0, sigma=0.1)})


def test_impossible_means_are_refused() -> None:
    config = FitConfig(priors={"theta_E": GaussianPrior(mean=-1.0, sigma=0.1)})
    with pytest.raises(ConfigError, match=r"priors\.theta_E\.mean: -1 is not above 0"):
        Coordinates(config)


def test_names_are_unique() -> None:
    for model in MODELS:
        names = parameter_names(model)
        assert len(set(names)) == len(names)
