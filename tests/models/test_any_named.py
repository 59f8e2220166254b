"""Networks of timm and vit-pytorch by name: arguments checked, nothing downloaded."""

import pytest
import torch

from pipeline.core.errors import ConfigError, UnknownKindError
from pipeline.models._vit_pytorch import classifiers
from pipeline.models.base import MODELS, build_model


def build(in_channels: int = 1, **block):
    return build_model(MODELS.config(block), in_channels, 32)


def run(model, in_channels: int = 1):
    features = model.eval()(torch.zeros(2, in_channels, 32, 32))
    assert features.shape == (2, model.n_features) and features.isfinite().all()


@pytest.mark.parametrize(
    "name", ["mobilenetv3_small_050", "vit_tiny_patch16_224", "edgenext_xx_small"]
)
def test_timm_networks_run_at_the_datas_size_and_channels(name):
    run(build(kind="timm", name=name, in_channels=2), in_channels=2)


def test_timm_options_reach_the_builder():
    small = build(kind="timm", name="resnet18", options={"layers": (1, 1, 1, 1)})
    assert sum(p.numel() for p in small.parameters()) < 6e6


@pytest.mark.parametrize("name", ["resnet19", "hf_hub:timm/resnet18", "../resnet18"])
def test_a_name_that_timm_does_not_list_is_refused_before_anything_is_fetched(name):
    with pytest.raises(UnknownKindError, match="is not a model of timm"):
        build(kind="timm", name=name)


@pytest.mark.parametrize("option", ["pretrained", "checkpoint_path", "num_classes"])
def test_options_that_fetch_or_that_are_ours_are_refused(option):
    with pytest.raises(ConfigError, match=f"{option}.*not yours"):
        build(kind="timm", name="resnet18", options={option: "x"})


def test_an_unknown_timm_option_is_named():
    with pytest.raises(ConfigError, match=r"resnet18.*cannot be built.*colour"):
        build(kind="timm", name="resnet18", options={"colour": 3})


def test_a_size_makes_images_fit():
    with pytest.raises(ConfigError, match=r"inception_v3.*32x32.*299 pixels\. 'size: N'"):
        build(kind="timm", name="inception_v3")
    model = build(kind="timm", name="resnet18", size=64)
    assert model.size == 64 and model.resamples
    run(model)
    with pytest.raises(ConfigError, match="at most a factor of 4"):
        build(kind="timm", name="resnet18", size=224)


def test_vit_pytorch_finds_its_classifiers_without_importing_them():
    found = classifiers()
    assert {"simple_vit", "cvt", "deepvit", "xcit"} <= found.keys()
    assert found["cvt"] == ("CvT",)


def test_vit_pytorch_options_are_checked_against_the_signature():
    options = {"patch_size": 8, "dim": 32, "depth": 1, "heads": 2, "mlp_dim": 32}
    run(build(kind="vit_pytorch", name="deepvit", options=options))
    run(build(kind="vit_pytorch", name="vit_for_small_dataset.ViT", options=options))
    with pytest.raises(ConfigError, match=r"deepvit.*unknown option 'dpth'.*did you mean 'depth'"):
        build(kind="vit_pytorch", name="deepvit", options={**options, "dpth": 2})
    with pytest.raises(ConfigError, match=r"deepvit.*needs options: patch_size, dim"):
        build(kind="vit_pytorch", name="deepvit")
    with pytest.raises(ConfigError, match="'channels' is filled in"):
        build(kind="vit_pytorch", name="deepvit", options={**options, "channels": 3})


def test_vit_pytorch_names_are_hinted():
    with pytest.raises(UnknownKindError, match="did you mean 'deepvit'"):
        build(kind="vit_pytorch", name="deep_vit")
    with pytest.raises(UnknownKindError, match=r"no classifier 'DeepVit'.*did you mean 'DeepViT'"):
        build(kind="vit_pytorch", name="deepvit.DeepVit")


def test_a_network_of_three_channels_says_so():
    options = {"patch_size": 8, "dim": 32, "depth": 1, "cls_depth": 1, "heads": 2, "mlp_dim": 32}
    with pytest.raises(ConfigError, match=r"cait.*three channels only; the data have 1"):
        build(kind="vit_pytorch", name="cait", options=options)
    run(build(kind="vit_pytorch", name="cait", options=options, in_channels=3), in_channels=3)


def test_what_does_not_divide_is_told_in_the_librarys_words():
    options = {"patch_size": 7, "dim": 32, "depth": 1, "heads": 2, "mlp_dim": 32}
    config = MODELS.config({"kind": "vit_pytorch", "name": "deepvit", "options": options})
    with pytest.raises(ConfigError, match=r"32x32.*multiples of 7"):
        build_model(config.with_changes(fit="exact"), 1, 32)
    run(build_model(config, 1, 32))
