"""The listing is fast because it counts nothing, and true because this test does."""

from pathlib import Path

import pytest

from pipeline.models.base import MODELS
from pipeline.workflow.model_list import (
    count_parameters,
    counted_parameters,
    list_models,
    models_page,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"


#: Building the seed's steerable network takes e2cnn many seconds.
COUNTED = [
    pytest.param(kind, marks=[pytest.mark.slow] if kind == "c8_steerable_cnn" else [])
    for kind in MODELS.kinds()
]


@pytest.mark.parametrize("kind", COUNTED)
def test_the_counted_parameters_are_those_of_the_networks(kind):
    variants = MODELS.load(kind).VARIANTS
    found = {name: count_parameters(config) for name, config in variants.items()}
    assert counted_parameters()[kind] == found, "run examples/count_parameters.py"


@pytest.mark.parametrize("kind", MODELS.kinds())
def test_the_first_variant_is_the_default(kind):
    module = MODELS.load(kind)
    assert next(iter(module.VARIANTS.values())) == module.Config()


def test_every_model_says_what_one_must_know():
    for line in list_models():
        assert line.summary.endswith(".") and line.image_sizes and line.tasks
        assert line.parameters == next(iter(line.variants.values()))


def test_the_page_in_the_documentation_is_the_current_one():
    written = (DOCS / "models.md").read_text(encoding="utf-8")
    assert written == models_page(list_models()), "run deeplense models --out docs/models.md"


def test_the_seeds_networks_have_the_sizes_of_the_seed():
    counts = counted_parameters()
    assert 19.0e6 < counts["cvt"]["seed"] < 20.0e6
    assert 28.0e6 < counts["crossformer"]["seed"] < 28.5e6
    assert 12.0e6 < counts["regionvit"]["seed"] < 12.4e6
    assert 21.0e6 < counts["resnet34"]["default"] < 21.5e6
