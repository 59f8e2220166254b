"""The leak statistics are those of the specification, and find what is there and nothing else."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pipeline.statistics.leaks import (
    LEAK_FEATURES,
    MIN_SIZE,
    SET_A,
    SET_B,
    classifier_auc,
    exceeds_gate,
    leak_features,
    single_auc,
    standard_error,
)


@pytest.fixture(scope="module")
def reference(shared: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "leak_reference", shared / "physics" / "reference.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rings(n_images: int, size: int, seed: int = 0) -> np.ndarray:
    """Noisy, lopsided rings."""
    rng = np.random.default_rng(seed)
    step = (np.arange(size) - (size - 1) / 2) / (size / 2)
    x, y = np.meshgrid(step, step)
    angle = np.arctan2(y, x)
    out = []
    for _ in range(n_images):
        radius, bump = rng.uniform(0.4, 0.6), rng.uniform(0.0, 0.5)
        ring = np.exp(-(((np.hypot(x, y) - radius) / 0.1) ** 2))
        ring *= 1 + bump * np.cos(angle - rng.uniform(0, 6))
        out.append(rng.uniform(5, 20) * ring + rng.normal(0.3, 1.0, (size, size)))
    return np.stack(out)


def column(values: np.ndarray, name: str) -> np.ndarray:
    return values[:, LEAK_FEATURES.index(name)]


@pytest.mark.parametrize("size", [16, 33, 64, 150])
def test_features_agree_with_the_reference(reference: ModuleType, size: int) -> None:
    images = rings(5, size)
    expected = np.stack([reference.leak_features(image) for image in images])
    assert tuple(reference.LEAK_FEATURES) == LEAK_FEATURES
    np.testing.assert_allclose(leak_features(images), expected, rtol=1e-9, atol=1e-10)


def test_sets_share_out_all_features() -> None:
    assert set(SET_A) | set(SET_B) == set(LEAK_FEATURES)
    assert not set(SET_A) & set(SET_B)
    assert len(LEAK_FEATURES) == len(SET_A) + len(SET_B) == 41


def test_features_do_not_depend_on_the_batch() -> None:
    images = rings(300, 16)
    together = leak_features(images)
    np.testing.assert_allclose(leak_features(images[277:278]), together[277:278], rtol=1e-12)


def test_a_constant_shifts_only_levels() -> None:
    images = rings(4, 32)
    change = leak_features(images + 7.0) - leak_features(images)
    levels = ("p50", "p90", "p99", "corner_mean")
    for name in LEAK_FEATURES:
        np.testing.assert_allclose(
            column(change, name), 7.0 if name in levels else 0.0, atol=1e-9, err_msg=name
        )


def test_shapes_do_not_depend_on_the_unit() -> None:
    images = rings(4, 32)
    one, two = leak_features(images), leak_features(1000.0 * images)
    for name in ("frac_bright", "m_xx", "ring_radius", "asym_180", "grad_energy", "az2"):
        np.testing.assert_allclose(column(two, name), column(one, name), rtol=1e-9, err_msg=name)
    np.testing.assert_allclose(column(two, "ps3"), column(one, "ps3") + 6.0, rtol=1e-9)


def test_a_half_turn_flips_the_centroid_and_nothing_else() -> None:
    images = rings(4, 32)
    one, two = leak_features(images), leak_features(images[:, ::-1, ::-1])
    for name in LEAK_FEATURES:
        sign = -1.0 if name in ("m_x", "m_y") else 1.0
        np.testing.assert_allclose(
            column(two, name), sign * column(one, name), rtol=1e-9, atol=1e-9, err_msg=name
        )


def test_blank_images_have_finite_features() -> None:
    assert np.isfinite(leak_features(np.zeros((2, 20, 20)))).all()


def test_images_too_small_for_the_bins_are_refused() -> None:
    with pytest.raises(ValueError, match=str(MIN_SIZE)):
        leak_features(np.zeros((1, MIN_SIZE - 1, MIN_SIZE - 1)))


def test_single_auc_matches_scikit_learn_and_names_the_planted_feature() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(3)
    second = rng.random(400) < 0.4
    features = rng.normal(size=(400, 3))
    features[:, 1] -= 0.8 * second
    features[:, 2] = np.round(features[:, 2])  # ties
    found = single_auc(features, second)
    expected = [roc_auc_score(second, f) for f in features.T]
    np.testing.assert_allclose(found, [max(a, 1 - a) for a in expected], rtol=1e-12)
    assert found.argmax() == 1


def test_classifiers_find_a_planted_leak_and_nothing_where_there_is_none() -> None:
    rng = np.random.default_rng(1)
    second, groups = np.arange(800) % 2 == 1, np.arange(800) // 2
    features = rng.normal(size=(800, 4))
    clean = classifier_auc(features, second, groups)
    assert all(abs(a - 0.5) < 4 * standard_error(400) for a in clean)
    features[:, 2] += 1.0 * second  # AUC of a unit shift: Phi(1/sqrt 2) = 0.760
    leaky = classifier_auc(features, second, groups)
    assert all(abs(a - 0.760) < 4 * standard_error(400) for a in leaky)


def test_boosting_finds_what_is_no_linear_difference() -> None:
    rng = np.random.default_rng(2)
    second, groups = np.arange(800) % 2 == 1, np.arange(800) // 2
    features = rng.normal(size=(800, 2)) * np.where(second, 2.0, 1.0)[:, None]
    logistic, boosting = classifier_auc(features, second, groups)
    assert boosting > 0.65 > 0.6 > logistic


def test_twins_never_straddle_a_fold() -> None:
    """A label that is a property of the group alone cannot be learnt from other groups."""
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(60), 10)
    second = (rng.random(60) < 0.5)[groups]
    features = rng.normal(size=(60, 3))[groups]  # identifies the group exactly
    assert max(classifier_auc(features, second, groups)) < 0.7


def test_gate_grants_chance_its_error() -> None:
    assert standard_error(4000) == pytest.approx(0.0065, abs=1e-4)
    assert not exceeds_gate(0.56, 4000)
    assert exceeds_gate(0.562, 4000)
    assert not exceeds_gate(0.60, 100)
