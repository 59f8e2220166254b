"""A search space is checked against the configuration before anything is trained."""

import math

import pytest

from pipeline.core.errors import ConfigError
from pipeline.training.config import training_presets
from pipeline.tuning.space import load_recipe, tuning_presets

TRAINING = sorted(path.stem for path in training_presets().glob("*.yaml"))
SPACES = sorted(path.stem for path in tuning_presets().glob("*.yaml"))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("config", TRAINING)
def test_shipped_spaces_go_with_every_shipped_configuration(config, space):
    recipe = load_recipe(config, space)
    assert len(recipe.space.description) > 20
    assert load_recipe(config, space, (), ["sampler=grid"]).space.n_trials == recipe.space.trials


FAULTS = {
    "optimiser.learning_rat: [1.0e-3]": r"space\.yaml:2: optimiser\.learning_rat: unknown key.*"
    r"did you mean 'learning_rate'\?",
    "optimizer.learning_rate: [1.0e-3]": r"space\.yaml:2: optimizer: .*did you mean 'optimiser'\?",
    "model.dpeth: [1]": r"space\.yaml:2: model\.dpeth: .*did you mean 'depth'\?",
    "batch_size: {kind: uniform, low: 2, high: 64}": r"space\.yaml:2: batch_size: .*integer",
    "optimiser.clip: {kind: uniform, low: -1, high: 1}": r"space\.yaml:2: optimiser\.clip: .*"
    r"greater than 0; found -1",
    "schedule.name: [cosine, cosin]": r"space\.yaml:2: schedule\.name: .*found 'cosin'",
    "epochs: {kind: integr, low: 1, high: 9}": r"did you mean 'integer'\?",
    "epochs: {kind: integer, low: 9, high: 1}": "low must be below high",
    "epochs: {kind: integer, low: 1, high: 9, stpe: 2}": r"did you mean 'step'\?",
    "epochs: 3": "expected a list of values, or a block with kind",
    "epochs: [3, 3]": "the same value twice: 3",
    "epochs: []": "at least 1 item",
}


@pytest.mark.parametrize("line", FAULTS)
def test_fault_is_named_with_its_line(line, make_recipe):
    with pytest.raises(ConfigError, match=FAULTS[line]):
        make_recipe(f"parameters:\n  {line}\n")


def test_key_must_exist_whatever_else_is_chosen(make_recipe):
    text = "parameters:\n  model: [{kind: vit}, {kind: cvt}]\n  model.depth: [1, 2]\n"
    with pytest.raises(ConfigError, match=r"space\.yaml:3: model\.depth"):
        make_recipe(text)
    recipe = make_recipe(text.replace(", {kind: cvt}", ""))
    assert recipe.config({"model": '{"kind":"vit"}', "model.depth": "2"}).model.depth == 2


def test_values_of_every_kind_reach_the_configuration(make_recipe):
    recipe = make_recipe(
        "parameters:\n"
        "  optimiser.learning_rate: {kind: log_uniform, low: 1e-7, high: 1e-2}\n"
        "  epochs: {kind: integer, low: 2, high: 8, step: 3}\n"
        "  ema: [null, 0.9]\n"
        "  augment.flip: [true, false]\n"
        "  schedule.name: [cosine, 'constant']\n"
        "  optimiser.betas: [[0.9, 0.99], [0.8, 0.9]]\n"
        "  model.kind: [vit, lens_hybrid]\n"
    )
    chosen = {
        "optimiser.learning_rate": 1e-7, "epochs": 5, "ema": "null", "augment.flip": "false",
        "schedule.name": "constant", "optimiser.betas": "[0.8,0.9]", "model.kind": "vit",
    }  # fmt: skip
    made = recipe.config(chosen)
    assert made.optimiser.learning_rate == 1e-7 and made.optimiser.betas == (0.8, 0.9)
    assert (made.epochs, made.ema, made.augment.flip) == (5, None, False)
    assert (made.schedule.name, made.model.kind) == ("constant", "vit")
    assert recipe.base.model.kind == "lens_hybrid" and recipe.base.epochs == 2


GRID = """\
parameters:
  optimiser.learning_rate: {kind: log_uniform, low: 1.0e-4, high: 1.0e-2, n_grid: 3}
  schedule.warmup: {kind: uniform, low: 0.0, high: 0.4, n_grid: 3}
  epochs: {kind: integer, low: 2, high: 8, step: 3}
  augment.flip: [true, false]
sampler: grid
trials: 1000
"""


def test_grid_has_every_combination_once(make_recipe):
    space = make_recipe(GRID).space
    assert space.n_trials == 3 * 3 * 3 * 2
    points = [space.grid_point(number) for number in range(space.n_trials)]
    assert len({tuple(sorted(point.items())) for point in points}) == len(points)
    rates = sorted({point["optimiser.learning_rate"] for point in points})
    assert [math.log10(rate) for rate in rates] == pytest.approx([-4.0, -3.0, -2.0])
    assert {point["epochs"] for point in points} == {2, 5, 8}
    for key in points[0]:
        assert len({point[key] for point in points[:9]}) >= 2, "the first few are all alike"


def test_grid_of_a_range_needs_the_number_of_points(make_recipe):
    with pytest.raises(ConfigError, match=r"space\.yaml:3: .*warmup: a grid needs n_grid"):
        make_recipe(GRID.replace("high: 0.4, n_grid: 3", "high: 0.4"))
