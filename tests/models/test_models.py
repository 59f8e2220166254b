"""The contract every model keeps; a new kind is tested by existing."""

import pytest
import torch
from safetensors.torch import load, save

from pipeline.core.errors import ConfigError, UnknownKindError
from pipeline.models._backbone import Backbone
from pipeline.models.base import MODELS, build_model, image_sizes
from pipeline.models.lens_hybrid import Config as LensHybridConfig

KINDS = MODELS.kinds()


def mini(kind: str):
    module = MODELS.load(kind)
    return module.VARIANTS.get("mini", module.Config())


def fitted(model, in_channels: int, size: int):
    """A model as training leaves it: at a random point of its weights, or fitted to noise."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.03 * torch.randn(parameter.shape, generator=generator)
    if model.is_fitted:
        noise = torch.randn(60, in_channels, size, size, generator=generator)
        model.fit(model.describe(noise), torch.arange(60) % 3, torch.empty(60, 0))
    return model


def network(kind: str, in_channels: int = 1, size: int | None = None):
    size = size or image_sizes(mini(kind)).examples()[0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return fitted(build_model(mini(kind), in_channels, size), in_channels, size)


def images(n: int, kind: str, in_channels: int = 1) -> torch.Tensor:
    size = image_sizes(mini(kind)).examples()[0]
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, in_channels, size, size, generator=generator)


def test_the_models_of_this_release_are_listed():
    promised = {
        "c8_steerable_cnn", "cait", "cct", "coatnet_nano", "cross_vit", "crossformer", "cvt",
        "efficientnet_b0", "lens_hybrid", "levit", "max_vit", "mobile_vit", "nest", "pit",
        "regionvit", "resnet101", "resnet34", "scalable_vit", "shortcut", "timm", "twins_svt",
        "vit", "vit_pytorch", "xcit",
    }  # fmt: skip
    assert promised <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_channels", [1, 3])
def test_features_have_the_declared_shape(kind, in_channels):
    model = network(kind, in_channels)
    assert model(images(2, kind, in_channels)).shape == (2, model.n_features)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient(kind):
    model = network(kind)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if model.is_fitted:
        assert trained == {}, "a model that is fitted at once has nothing for a gradient"
        return
    weights = torch.randn(model.n_features, generator=torch.Generator().manual_seed(2))
    (model(images(4, kind)) @ weights).square().sum().backward()
    silent = [n for n, p in trained.items() if p.grad is None or not p.grad.abs().sum() > 0]
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
    exact = mini(kind).with_changes(fit="exact")
    sizes = image_sizes(exact)
    for size in sizes.examples(2):
        model = build_model(exact, 1, size).eval()
        assert model(torch.zeros(1, 1, size, size)).isfinite().all()
    wrong = next(size for size in range(sizes.examples()[0] - 1, 0, -1) if size not in sizes)
    with pytest.raises(ConfigError, match=f"{kind}.*{wrong}x{wrong}.*takes.*{sizes.minimum}"):
        build_model(exact, 1, wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_a_size_between_is_fitted_by_the_models_own_rule(kind):
    sizes = image_sizes(mini(kind))
    first, second = sizes.examples(2)
    between = first - 1 if second == first + 1 else second - 1
    assert between not in sizes
    model = fitted(build_model(mini(kind), 1, between), 1, between).eval()
    assert model(torch.zeros(2, 1, between, between)).shape == (2, model.n_features)


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
        torch.testing.assert_close(model.pooled(found), model(batch))


def test_a_layer_named_like_a_method_is_refused_by_name():
    class Mine(Backbone):
        def __init__(self):
            super().__init__()
            self.pooled = torch.nn.Identity()

    with pytest.raises(ConfigError, match=r"Mine\.pooled: a layer cannot have this name"):
        Mine()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_learns_thirty_two_images_by_heart(kind):
    size = max(32, image_sizes(mini(kind)).examples()[0])
    generator = torch.Generator().manual_seed(5)
    batch = torch.randn(32, 1, size, size, generator=generator)
    label = torch.arange(32) % 3
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(mini(kind), 1, size)
        if model.is_fitted:
            # trees need leaves of twenty images: give each image so often
            model.fit(model.describe(batch).repeat(25, 1), label.repeat(25), torch.empty(800, 0))
            assert (model(batch)[:, :3].argmax(dim=1) == label).all()
            return
        head = torch.nn.Linear(model.n_features, 3)
        optimiser = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=5e-4)
        for _ in range(300):
            loss = torch.nn.functional.cross_entropy(head(model.train()(batch)), label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if loss < 0.02:
                break
    assert (head(model(batch)).argmax(dim=1) == label).all()


def test_lens_hybrid_refuses_heads_that_do_not_divide_its_width():
    with pytest.raises(ValueError, match="heads 5 does not divide"):
        LensHybridConfig(channels=(8, 16), blocks=(0, 0), heads=5)


def test_unknown_model_names_the_nearest():
    with pytest.raises(UnknownKindError, match="did you mean 'lens_hybrid'"):
        MODELS.config("lens_hibrid")
