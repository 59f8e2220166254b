"""Schedules, optimiser groups, weight averaging and the shipped configurations."""

import math
from itertools import pairwise

import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from pipeline.core.errors import ConfigError
from pipeline.training.config import (
    Optimiser,
    Schedule,
    load_training_config,
    training_presets,
)
from pipeline.training.optimiser import averaged, learning_rate, make_optimiser

PRESETS = sorted(path.stem for path in training_presets().glob("*.yaml"))


def test_cosine_warms_up_linearly_and_ends_at_its_floor():
    schedule = Schedule(name="cosine", warmup=0.1, floor=0.01)
    assert_allclose(learning_rate(0.05, 2.0, schedule), 1.0)
    assert_allclose(learning_rate(0.1, 2.0, schedule), 2.0)
    assert_allclose(learning_rate(0.55, 2.0, schedule), 2.0 * (0.01 + 0.99 / 2))
    assert_allclose(learning_rate(1.0, 2.0, schedule), 0.02)
    assert_allclose(learning_rate(1.3, 2.0, schedule), 0.02)  # a step past a time budget


def test_steps_divide_after_every_so_many_epochs_exactly():
    schedule = Schedule(name="step", warmup=0.0, every=10, factor=0.1)
    per_epoch = [learning_rate(k / 30, 1.0, schedule, epochs=30) for k in range(30)]
    assert_allclose(per_epoch, [1.0] * 10 + [0.1] * 10 + [0.01] * 10)
    assert_allclose(learning_rate(1.0, 1.0, schedule, epochs=30), 1e-3)


def test_sgd_carries_its_momentum_and_spares_the_same_weights_as_adam():
    network = nn.Sequential(nn.Linear(4, 2))
    sgd = make_optimiser(network, Optimiser(name="sgd", momentum=0.8, weight_decay=0.1))
    assert isinstance(sgd, torch.optim.SGD)
    assert all(group["momentum"] == 0.8 for group in sgd.param_groups)
    assert [group["weight_decay"] for group in sgd.param_groups] == [0.1, 0.0]


def test_loggers_and_prose_are_no_part_of_the_hash_but_accumulation_is():
    config = load_training_config("demo")
    assert config.with_changes(loggers=("wandb",)).sha256 == config.sha256
    assert config.with_changes(accumulate=2).sha256 != config.sha256


@pytest.mark.parametrize("name", ["cosine", "one_cycle", "constant"])
def test_schedules_have_no_jump_and_never_exceed_the_peak(name):
    schedule = Schedule(name=name, warmup=0.3)
    values = [learning_rate(i / 1000, 1.0, schedule) for i in range(1001)]
    assert max(values) <= 1.0 and min(values) >= 0.01 - 1e-12
    assert max(abs(a - b) for a, b in pairwise(values)) < 0.01


def test_weight_decay_spares_biases_norms_and_positions():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    network.position = nn.Parameter(torch.zeros(1, 9, 4))
    decayed, plain = make_optimiser(network, Optimiser(weight_decay=0.1)).param_groups
    assert {p.ndim for p in decayed["params"]} == {4, 2} and decayed["weight_decay"] == 0.1
    assert len(plain["params"]) == 5 and plain["weight_decay"] == 0.0


def test_average_follows_the_closed_form_of_its_decay():
    network = nn.Linear(1, 1, bias=False)
    average = averaged(network, decay=0.5)
    values = [4.0, 2.0, 8.0]
    for value in values:
        nn.init.constant_(network.weight, value)
        average.update_parameters(network)
    expected = values[0]
    for n, value in enumerate(values[1:], start=1):
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
    assert_allclose(average.module.weight.item(), expected, rtol=1e-6)


def test_average_keeps_the_running_statistics_of_norms():
    network = nn.BatchNorm1d(2)
    average = averaged(network, decay=0.9)
    for _ in range(3):
        network(torch.randn(8, 2) + 5)
        average.update_parameters(network)
    assert average.module.num_batches_tracked == 3
    assert (average.module.running_mean > 0.4).all()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_load_and_say_what_they_are(name):
    config = load_training_config(name)
    assert config.description
    assert config.sha256 == config.with_changes(description="other words").sha256


def test_recipe_of_the_seed_is_shipped():
    step = load_training_config("seed_step").schedule
    assert (step.name, step.every, step.factor) == ("step", 10, 0.1)
    config = load_training_config("cvt")
    assert config.model.kind == "cvt" and config.model.dropout == 0.1
    assert config.optimiser.name == "adam" and config.optimiser.learning_rate == 1e-4
    assert config.epochs == 30
    assert math.isclose(config.schedule.floor, 0.01)


def test_misspelt_key_and_model_name_the_nearest():
    with pytest.raises(ConfigError, match=r"did you mean 'learning_rate'"):
        load_training_config("demo", ["optimiser.learnin_rate=1e-3"])
    with pytest.raises(ConfigError, match=r"did you mean 'cvt'"):
        load_training_config("demo", ["model={kind: cvtt}"])
    with pytest.raises(ConfigError, match="did you mean 'demo'"):
        load_training_config("demoo")
