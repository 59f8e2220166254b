"""The contract every task keeps, and what each one promises by itself."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from pipeline.checkpoint.network import Network
from pipeline.core.errors import ConfigError
from pipeline.dataset.loader import Batch
from pipeline.models._backbone import Backbone
from pipeline.statistics.regression import MEDIAN
from pipeline.tasks.base import (
    OTHER_DOMAIN,
    TASKS,
    Outputs,
    TargetTransform,
    build_task,
    fit_target,
)
from pipeline.training.objective import Objective

CLASSES = ("no", "subhalo", "vortex")
PRIOR = tuple(np.linspace(-23.75, -22.25, 65).tolist())
TARGET = TargetTransform(
    name="axion_mass", unit="eV", function="log10", mean=-23.0, std=0.433, prior=PRIOR
)
#: Every kind, and every way in which one can work.
WAYS = {
    "regression": ("head", ("gaussian", "binned", "quantile")),
    "anomaly": ("method", ("vae", "adversarial", "mahalanobis", "knn")),
    "adaptation": ("method", ("source_only", "coral", "dann", "adamatch")),
}
SMALL = {"anomaly": {"latent": 4, "width": 4}}
ASKED = {kind: kind for kind in TASKS.kinds()} | {
    f"{kind}, {way}": {"kind": kind, key: way, **SMALL.get(kind, {})}
    for kind, (key, ways) in WAYS.items()
    for way in ways
}
SIZE = 8


class Means(Backbone):
    """Features are the means of the channels, so that an image can be made of its features."""

    n_features = 8

    def forward(self, image):
        return image.mean(dim=(2, 3))


def images(features: torch.Tensor) -> torch.Tensor:
    """Images (B, 8, SIZE, SIZE) that have these features (B, 8)."""
    return features[:, :, None, None].expand(-1, -1, SIZE, SIZE)


def task(asked):
    config = TASKS.config(asked)
    targets = (TARGET,) if config.targets else ()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = build_task(config, 8, CLASSES, targets, (8, SIZE, SIZE))
        assert built.head is not None  # made now, from this seed
        return built


def raw(built, features: torch.Tensor) -> torch.Tensor:
    return Network(Means(), built.head)(images(features))


def training_loss(built, features, label, target) -> torch.Tensor:
    """What a training step lowers, with a second domain that differs by a factor."""
    extra = {OTHER_DOMAIN: images(1.5 * features)}
    batch = Batch(images(features), label, target, torch.arange(len(label)), extra)
    return Objective(Network(Means(), built.head), built)(batch)


def outputs(asked, n: int = 60) -> Outputs:
    rng = np.random.default_rng(3)
    features = torch.from_numpy(rng.normal(size=(n, 8)).astype(np.float32))
    with torch.inference_mode():
        built = task(asked)
        built.head.eval()
        values = raw(built, features).double().numpy()
    mass = 10.0 ** rng.uniform(-23.75, -22.25, size=(n, 1))
    mass[np.arange(n) % 3 != 2] = np.nan
    return Outputs(values, np.arange(n) % 3, mass, np.arange(n))


#: Tasks whose answer becomes part of an exported graph.
IN_GRAPH = ["classification", "joint"] + [
    {"kind": "regression", "head": head} for head in ("gaussian", "binned", "quantile")
]


@pytest.mark.parametrize("kind", IN_GRAPH, ids=str)
def test_answer_of_tensors_is_that_of_arrays(kind):
    built, made = task(kind), outputs(kind)
    calibration = built.calibrate(made)
    expected = built.answer(made.values, calibration)
    found = built.answer(torch.from_numpy(made.values), calibration)
    for name, value in vars(expected).items():
        if value is None:
            assert getattr(found, name) is None
        else:
            assert_allclose(getattr(found, name).numpy(), value, rtol=1e-12, err_msg=name)


def test_an_answer_needs_no_torch():
    code = f"""
import sys
import numpy as np
from pipeline.tasks.base import TASKS, TargetTransform, build_task
target = TargetTransform(**{TARGET.model_dump()!r})
for asked in ("classification", "regression", "joint"):
    config = TASKS.config(asked)
    targets = (target,) if config.targets else ()
    built = build_task(config, 8, {CLASSES!r}, targets, (1, 40, 40))
    built.answer(np.zeros((2, {{'classification': 3}}.get(config.kind, 200))), built.uncalibrated)
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("kind", ASKED.values(), ids=ASKED)
def test_loss_is_a_finite_scalar_that_moves_the_head(kind):
    built, made = task(kind), outputs(kind)
    features = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    target = made.targets if TASKS.config(kind).targets else np.empty((60, 0))
    label, target = torch.from_numpy(made.labels), torch.from_numpy(target).float()
    for loss in (
        built.loss(raw(built, features), label, target),
        training_loss(built, features, label, target),
    ):
        built.head.zero_grad()
        loss.backward()
        assert loss.shape == () and torch.isfinite(loss)
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in built.head.parameters())


@pytest.mark.parametrize("kind", ASKED.values(), ids=ASKED)
def test_answer_and_metrics_are_finite_and_hold_what_is_monitored(kind):
    built, made = task(kind), outputs(kind)
    calibration = built.calibrate(made)
    answer = built.answer(made.values, calibration)
    given = (answer.class_probability, answer.target_mean, answer.anomaly)
    filled = [a for a in given if a is not None]
    assert filled and all(np.isfinite(a).all() and len(a) == 60 for a in filled)
    for numbers in (calibration, built.uncalibrated):
        assert np.isfinite(built.metrics(made, numbers)[built.monitor])


def test_class_probabilities_sum_to_one_and_keep_the_networks_ranking():
    made = outputs("classification")
    probability = task("classification").answer(made.values, {"temperature": 3.0})
    assert_allclose(probability.class_probability.sum(axis=1), 1.0)
    assert (probability.class_probability.argmax(axis=1) == made.values.argmax(axis=1)).all()


def test_classification_of_one_class_is_refused():
    with pytest.raises(ConfigError, match="two classes"):
        build_task(TASKS.config("classification"), 8, ("no",), (), (1, SIZE, SIZE))


def test_target_transform_is_inverted_and_keeps_missing_values():
    mass = np.array([1e-22, np.nan, 3e-24, 0.0])
    z = TARGET.forward(mass)
    assert_allclose(TARGET.inverse(z)[[0, 2]], [-22.0, np.log10(3e-24)])
    assert np.isnan(z[[1, 3]]).all()


def test_fitted_target_has_zero_mean_and_unit_spread():
    mass = 10.0 ** np.random.default_rng(0).uniform(-24, -22, size=500)
    mass[::3] = np.nan
    z = fit_target("axion_mass", "eV", "log10", mass).forward(mass)
    assert_allclose([np.nanmean(z), np.nanstd(z)], [0.0, 1.0], atol=1e-9)


def test_target_without_values_is_refused_by_name():
    with pytest.raises(ConfigError, match="'axion_mass': 0 training images"):
        fit_target("axion_mass", "eV", "log10", np.full(5, np.nan))


def test_regression_learns_nothing_from_images_without_a_value():
    built = task("regression")
    features = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    mass = torch.tensor([[1e-22], [torch.nan], [3e-23], [torch.nan]])
    labels = torch.zeros(4, dtype=torch.int64)
    whole = built.loss(built.head(features), labels, mass)
    kept = built.loss(built.head(features[::2]), labels[::2], mass[::2])
    torch.testing.assert_close(whole, kept)
    empty = built.loss(built.head(features), labels, torch.full((4, 1), torch.nan))
    empty.backward()
    assert empty.item() == 0.0
    assert torch.isfinite(built.head.weight.grad).all()


@pytest.mark.parametrize("kind", ASKED.values(), ids=ASKED)
def test_calibration_has_the_numbers_of_no_calibration(kind):
    built = task(kind)
    assert built.calibrate(outputs(kind)).keys() == built.uncalibrated.keys()


@pytest.mark.parametrize("kind", ASKED.values(), ids=ASKED)
def test_head_learns_what_the_features_say(kind):
    built = task(kind)
    built.prepare(np.arange(300) % 3, np.zeros((300, 1)))
    rng = np.random.default_rng(5)
    z = rng.uniform(-1.7, 1.7, 300)
    label = np.where(np.abs(z) < 0.6, 0, np.where(z > 0, 1, 2))
    basis = np.stack([z**k for k in range(4)] + [label == k for k in range(3)] + [z > 0], axis=1)
    features = torch.from_numpy(basis).float()
    noisy = TARGET.inverse(z + 0.1 * rng.normal(size=300))
    mass = 10.0 ** torch.from_numpy(noisy[:, None])
    target = mass.float() if TASKS.config(kind).targets else torch.empty((300, 0))
    optimiser = torch.optim.Adam(built.head.parameters(), lr=0.02)
    losses = []
    torch.manual_seed(0)
    has_truth = "anomaly" not in str(kind)
    for _ in range(500 if has_truth else 30):
        loss = built.loss(raw(built, features), torch.from_numpy(label), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    built.head.eval()
    values = raw(built, features).detach().double().numpy()
    made = Outputs(values, label, target.double().numpy(), np.arange(300))
    answer = built.answer(values, built.calibrate(made))
    if answer.class_probability is not None:
        assert (answer.class_probability.argmax(axis=1) == label).mean() > 0.95
    if answer.target_quantile is not None:
        error = np.abs(answer.target_quantile[:, 0, MEDIAN] - TARGET.inverse(z))
        assert error.mean() < 0.08  # dex; a constant has 0.37
    assert np.mean(losses[-10:]) < losses[0]


def test_balanced_weights_make_a_rare_class_count_as_much_as_a_common_one():
    built = task({"kind": "classification", "class_weights": "balanced"})
    label = np.r_[np.zeros(8), np.ones(1), np.full(3, 2)].astype(np.int64)
    built.prepare(label, np.empty((12, 0)))
    logits = torch.zeros((12, 3), requires_grad=True)
    built.loss(logits, torch.from_numpy(label), torch.empty((12, 0))).backward()
    pull = [logits.grad[label == k, k].sum().item() for k in range(3)]
    assert_allclose(pull, pull[0], rtol=1e-5)


def test_weights_by_name_and_a_misspelt_name():
    named = task({"kind": "classification", "class_weights": {"vortex": 3.0}})
    named.prepare(np.arange(6) % 3, np.empty((6, 0)))
    assert named.weights.tolist() == [1.0, 1.0, 3.0]
    with pytest.raises(ConfigError, match="did you mean 'vortex'"):
        task({"kind": "classification", "class_weights": {"vortx": 3.0}})


@pytest.mark.parametrize("kind", ["classification", "joint"])
def test_training_images_of_one_class_are_refused_by_its_name(kind):
    with pytest.raises(ConfigError, match="all 5 training images are of class 'subhalo'"):
        task(kind).prepare(np.ones(5, np.int64), np.full((5, 1), 1e-22))


def test_joint_is_its_two_tasks_side_by_side():
    made = outputs("joint")
    joint, classes, values = task("joint"), task("classification"), task("regression")
    calibration = joint.calibrate(made)
    answer = joint.answer(made.values, calibration)
    which = Outputs(made.values[:, :3], made.labels, made.targets, made.index)
    about = Outputs(made.values[:, 3:], made.labels, made.targets, made.index)
    assert calibration == {**classes.calibrate(which), **values.calibrate(about)}
    alone = classes.answer(which.values, calibration).class_probability
    assert_allclose(answer.class_probability, alone)
    alone = values.answer(about.values, calibration).target_quantile
    assert_allclose(answer.target_quantile, alone)


def test_several_targets_are_learnt_and_told_apart():
    config = TASKS.config({"kind": "regression", "targets": ("axion_mass", "f_sub")})
    other = TARGET.model_copy(update={"name": "f_sub", "mean": -2.0})
    built = build_task(config, 8, CLASSES, (TARGET, other), (8, SIZE, SIZE))
    made = outputs("regression")
    values = np.random.default_rng(0).normal(size=(60, built.n_outputs))
    both = np.column_stack((made.targets, np.full(60, 0.01)))
    both = Outputs(values, made.labels, both, made.index)
    calibration = built.calibrate(both)
    metrics = built.metrics(both, calibration)
    n = np.array([20, 60])
    mixed = (n * [metrics["mae_dex_axion_mass"], metrics["mae_dex_f_sub"]]).sum() / n.sum()
    assert_allclose(metrics["mae_dex"], mixed)
    assert {"axion_mass.scale", "f_sub.level_0.5"} <= calibration.keys()


def test_split_without_any_value_has_no_metric_and_no_calibration():
    built, made = task("regression"), outputs("regression")
    empty = Outputs(made.values, made.labels, np.full((60, 1), np.nan), made.index)
    assert built.calibrate(empty) == dict(built.uncalibrated)
    assert np.isnan(built.metrics(empty, built.uncalibrated)["mae_dex"])
