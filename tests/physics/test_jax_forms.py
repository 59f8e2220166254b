"""The logarithms that JAX runs in float32: digits, derivatives, and what is not a number."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.physics.profiles.array_api import log1p_above, log_above, settle
from pipeline.physics.profiles.halos import deflection_tnfw

jnp = pytest.importorskip("jax.numpy")
#: Largest relative error: two units in the last place of a float32.
DIGITS = 2.4e-7


@settings(deadline=None, max_examples=200)
@given(st.floats(-29, 29))
def test_logarithm_is_good_to_the_last_digits(exponent):
    x = np.float32(10.0**exponent)
    found = float(log_above(jnp.asarray(x)))
    assert abs(found - np.log(float(x))) <= DIGITS * max(1.0, abs(np.log(float(x))))


@settings(deadline=None, max_examples=200)
@given(st.floats(-20, 12))
def test_logarithm_of_one_and_more_keeps_the_digits_of_the_smallest(exponent):
    z = np.float32(10.0**exponent)
    assert float(log1p_above(jnp.asarray(z))) == pytest.approx(np.log1p(float(z)), rel=DIGITS)


def test_logarithms_have_their_exact_derivatives():
    import jax

    x = jnp.asarray([1e-6, 0.3, 0.99, 7.0, 1e5], jnp.float32)
    np.testing.assert_allclose(jax.vmap(jax.grad(log_above))(x), 1 / x, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(log1p_above))(x), 1 / (1 + x), rtol=1e-6)


def test_zero_stays_zero():
    assert float(log1p_above(jnp.zeros((), jnp.float32))) == 0.0


@pytest.mark.parametrize("name", ["theta_E", "scale_radius", "tau", "center_x"])
def test_a_halo_that_is_not_a_number_stays_one(name):
    params = {"theta_E": 0.1, "scale_radius": 0.2, "tau": 3.0, "center_x": 0.0, name: np.nan}
    x = jnp.linspace(-1.0, 1.0, 7, dtype=jnp.float32)
    assert np.isnan(np.asarray(deflection_tnfw(x, x, **params))).all()


def test_numpy_arrays_pass_the_fence_untouched():
    x = np.arange(3.0)
    assert settle(x)[0] is x
