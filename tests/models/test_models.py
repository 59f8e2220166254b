"""The contract every model keeps; a new kind is tested by existing."""

import pytest
import torch
from safetensors.torch import load, save

from pipeline.core.errors import ConfigError, UnknownKindError
from pipeline.models.base import MODELS, ImageSizes, build_model, image_sizes
from pipeline.models.lens_hybrid import Config as LensHybridConfig

KINDS = MODELS.kinds()


def mini(kind: str):
    return MODELS.load(kind).VARIANTS["mini"]


def network(kind: str, in_channels: int = 1, size: int | None = None):
    size = size or image_sizes(mini(kind)).examples()[0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model(mini(kind), in_channels, size)


def images(n: int, kind: str, in_channels: int = 1) -> torch.Tensor:
    size = image_sizes(mini(kind)).examples()[0]
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, in_channels, size, size, generator=generator)


def test_the_models_of_this_release_are_listed():
    assert {"cvt", "lens_hybrid", "vit"} <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_channels", [1, 3])
def test_features_have_the_declared_shape(kind, in_channels):
    model = network(kind, in_channels)
    assert model(images(2, kind, in_channels)).shape == (2, model.n_features)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient(kind):
    model = network(kind)
    weights = torch.randn(model.n_features, generator=torch.Generator().manual_seed(2))
    (model(images(4, kind)) @ weights).square().sum().backward()
    silent = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert silent == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_scores_the_same_alone_and_in_a_batch(kind):
    model = network(kind).eval()
    batch = images(3, kind)
    with torch.inference_mode():
        alone, together = model(batch[1:2]), model(batch)[1:2]
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_declared_sizes_run_and_others_are_refused_by_name(kind):
    sizes = image_sizes(mini(kind))
    for size in sizes.examples(2):
        model = network(kind, size=size).eval()
        assert model(torch.zeros(1, 1, size, size)).isfinite().all()
    with pytest.raises(ConfigError, match=f"{kind}.*{sizes.minimum}"):
        build_model(mini(kind), 1, sizes.minimum - 1)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_survive_a_safetensors_round_trip(kind):
    model, other = network(kind).eval(), build_model(mini(kind), 1, images(1, kind).shape[-1])
    other.load_state_dict(load(save(model.state_dict())), strict=True)
    batch = images(2, kind)
    with torch.inference_mode():
        torch.testing.assert_close(other.eval()(batch), model(batch), rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_last_memory_changes_speed_not_features(kind):
    model = network(kind).eval()
    batch = images(2, kind)
    with torch.inference_mode():
        plain = model(batch)
        turned = model.to(memory_format=torch.channels_last)(
            batch.to(memory_format=torch.channels_last)
        )
    torch.testing.assert_close(plain, turned, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_features_map_pools_to_the_features(kind):
    model = network(kind).eval()
    if not model.map_channels:
        pytest.skip("has no map")
    batch = images(2, kind)
    with torch.inference_mode():
        found = model.features_map(batch)
        assert found.shape[:2] == (2, model.map_channels) and found.ndim == 4
        torch.testing.assert_close(model.pool(found), model(batch))


def test_default_sizes_of_the_networks_are_those_of_their_documentation():
    def parameters(kind: str) -> float:
        config = MODELS.config(kind)
        with torch.device("meta"):
            model = build_model(config, 1, 64)
        return sum(p.numel() for p in model.parameters())

    assert 19.0e6 < parameters("cvt") < 20.0e6
    assert 0.2e6 < parameters("lens_hybrid") < 0.4e6


def test_lens_hybrid_refuses_heads_that_do_not_divide_its_width():
    with pytest.raises(ValueError, match="heads 5 does not divide"):
        LensHybridConfig(channels=(8, 16), blocks=(0, 0), heads=5)


def test_unknown_model_names_the_nearest():
    with pytest.raises(UnknownKindError, match="did you mean 'lens_hybrid'"):
        MODELS.config("lens_hibrid")


def test_size_rules_read_as_a_sentence():
    assert str(ImageSizes(16, multiple_of=8)) == "multiples of 8 from 16 pixels up"
    assert 24 in ImageSizes(16, multiple_of=8) and 20 not in ImageSizes(16, multiple_of=8)
    assert ImageSizes(224, maximum=224).examples() == (224,)
