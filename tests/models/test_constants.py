"""Channels that are one number an image go around the backbone, for any model."""

import pytest
import torch

from pipeline.checkpoint.network import Network, build_network
from pipeline.core.config import StrictModel
from pipeline.models import lens_hybrid
from pipeline.models._constants import WithConstants
from pipeline.models.base import MODELS
from pipeline.tasks.classification import Config as Classification

#: Of five channels.
CONSTANT = (1, 4)


def network_of(model: StrictModel, constant: tuple[int, ...] = CONSTANT) -> Network:
    network, _ = build_network(
        model,
        Classification(),
        in_channels=5,
        image_size=32,
        class_names=("no", "subhalo"),
        targets=(),
        constant_channels=constant,
    )
    return network.eval()


def images() -> torch.Tensor:
    image = torch.randn((6, 5, 32, 32), generator=torch.Generator().manual_seed(0))
    image[:, CONSTANT] = image[:, CONSTANT, :1, :1]
    return image


@pytest.mark.parametrize("kind", ["lens_hybrid", "resnet34", "vit"])
def test_answers_depend_on_every_channel(kind: str) -> None:
    network = network_of(MODELS.load(kind).VARIANTS["mini"])
    image = images()
    with torch.no_grad():
        answer = network(image)
        for channel in range(5):
            other = image.clone()
            other[:, channel] += 1.0 if channel in CONSTANT else torch.randn(6, 32, 32)
            assert (network(other) - answer).abs().max() > 1e-4, channel


def test_constant_channels_leave_the_features_of_the_picture_as_they_are() -> None:
    network = network_of(lens_hybrid.VARIANTS["mini"])
    assert isinstance(network.backbone, WithConstants)
    image, other = images(), images()
    other[:, CONSTANT] *= 3.0
    n_own = network.backbone.inner.n_features
    with torch.no_grad():
        one, two = network.backbone(image), network.backbone(other)
    torch.testing.assert_close(one[:, :n_own], two[:, :n_own])
    assert not torch.allclose(one[:, n_own:], two[:, n_own:])


def test_features_map_and_features_are_of_one_pass() -> None:
    backbone = network_of(lens_hybrid.VARIANTS["mini"]).backbone
    with torch.no_grad():
        maps = backbone.features_map(images())
        assert maps.shape[1] == backbone.map_channels
        torch.testing.assert_close(backbone.pooled(maps), backbone(images()))


def test_without_constant_channels_the_backbone_is_the_models_own() -> None:
    assert isinstance(
        network_of(lens_hybrid.VARIANTS["mini"], ()).backbone,
        type(lens_hybrid.build(lens_hybrid.VARIANTS["mini"], 5, 32)),
    )
