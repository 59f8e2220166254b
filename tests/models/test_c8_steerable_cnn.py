"""The symmetry in the model's name, measured; and the traps of e2cnn's derived kernels."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.models.base import MODELS, build_model

SIZE = 65


def model(kind: str = "c8_steerable_cnn", size: int = SIZE):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_model(MODELS.config({"kind": kind, "variant": "mini"}), 1, size)
    network.train()(rings(8, size))  # running statistics that are not those of nothing
    return network.eval()


def rings(n: int, size: int = SIZE, turn: float = 0.0) -> torch.Tensor:
    """Smooth lopsided rings, turned by ``turn`` radian: drawn so, not resampled."""
    rng = np.random.default_rng(0)
    axis = (np.arange(size) - (size - 1) / 2) / (size / 2)
    x, y = np.meshgrid(axis, axis)
    x, y = np.cos(turn) * x + np.sin(turn) * y, -np.sin(turn) * x + np.cos(turn) * y
    r, phi = np.hypot(x, y), np.arctan2(y, x)
    found = []
    for _ in range(n):
        radius, width, bright, where = rng.uniform([0.3, 0.08, 0.3, 0], [0.5, 0.16, 0.9, 2 * np.pi])
        # powers of r make the lobes smooth in the centre
        lobes = 1 + 2 * bright * r * np.cos(phi - where) + 4 * r**3 * np.cos(3 * phi - 6 * where)
        found.append(np.exp(-0.5 * ((r - radius) / width) ** 2) * lobes)
    return torch.from_numpy(np.array(found)[:, None]).float()


def change(network, turn: float, size: int = SIZE) -> float:
    """Change of the features under a turn, in units of their spread over images."""
    with torch.inference_mode():
        before, after = network(rings(12, size)), network(rings(12, size, turn))
    return float((after - before).square().mean().sqrt() / before.std(dim=0).mean())


@pytest.mark.parametrize("eighths", range(8))
def test_features_do_not_change_under_the_eight_turns(eighths):
    allowed = 1e-4 if eighths % 2 == 0 else 0.1
    assert change(model(), eighths * np.pi / 4) < allowed


def test_a_plain_network_does_change():
    assert change(model("resnet34"), np.pi / 4) > 0.5
    assert change(model("resnet34"), np.pi / 2) > 0.5


def test_the_map_turns_with_the_image():
    network = model()
    with torch.inference_mode():
        turned = network.features_map(rings(3).rot90(1, (2, 3)))
        expected = network.features_map(rings(3)).rot90(1, (2, 3))
    torch.testing.assert_close(turned, expected, rtol=1e-3, atol=1e-5)


def test_even_images_keep_the_quarter_turns_through_resampling():
    assert change(model(size=64), np.pi / 2, size=64) < 1e-4


def test_expanded_kernels_are_not_stored_and_are_made_anew_when_weights_are_loaded():
    network = model()
    state = network.state_dict()
    assert not [name for name in state if name.endswith((".filter", ".expanded_bias"))]
    other = build_model(MODELS.config("c8_steerable_cnn:mini"), 1, SIZE).eval()
    other.load_state_dict(state, strict=True)
    with torch.inference_mode():
        torch.testing.assert_close(other(rings(2)), network(rings(2)), rtol=0, atol=0)


def test_training_goes_on_after_an_evaluation_and_a_copy_follows():
    network = model()
    other = copy.deepcopy(network)
    for each in (network, other):
        each.train()
        functional.mse_loss(each(rings(4)), torch.ones(4, each.n_features)).backward()
        torch.optim.SGD(each.parameters(), lr=0.1).step()
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(rings(2)), other.eval()(rings(2)))
