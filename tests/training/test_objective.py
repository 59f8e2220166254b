"""The loss on maps: learnt from the backbone's features map, left out of the checkpoint."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from pipeline.checkpoint.load import load_run
from pipeline.checkpoint.network import build_network
from pipeline.core.errors import ConfigError, TrainingError
from pipeline.dataset.loader import Batch
from pipeline.models.base import MODELS
from pipeline.tasks.base import TASKS
from pipeline.training.accelerator import Accelerator
from pipeline.training.config import Auxiliary
from pipeline.training.journal import read_rows
from pipeline.training.objective import Readout, make_objective
from pipeline.training.run import run_training
from pipeline.training.state import read_state

from .conftest import MODEL, tiny_training

AUXILIARY = Auxiliary(maps=("difference", "kappa"), weight=0.5)


def network(model=MODEL):
    return build_network(
        MODELS.config(model), TASKS.config("classification"),
        in_channels=2, image_size=32, class_names=("no", "subhalo"), targets=(),
    )  # fmt: skip


def objective(auxiliary, model=MODEL):
    built, task = network(model)
    return make_objective(built, task, auxiliary, image_size=32, in_channels=2, n_bands=1, seed=0)


def batch(n: int = 8) -> Batch:
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(n, 2, 32, 32)).astype(np.float32))
    maps = {"difference": 1e-4 * image[:, :1], "kappa": 7.0 * image[:, 1:]}
    label = torch.arange(n) % 2
    return Batch(image, label, torch.empty((n, 0)), torch.arange(n), maps)


def test_without_maps_the_loss_is_the_tasks():
    torch.manual_seed(0)
    built = objective(None)
    built.eval()
    b = batch()
    alone = built._task.loss(built.network(b.image), b.label, b.target)
    assert_allclose(built(b).item(), alone.item())
    assert {name.split(".")[0] for name, _ in built.named_parameters()} == {"network"}


def test_loss_with_maps_is_the_weighted_sum_and_moves_the_backbone():
    built = objective(AUXILIARY)
    built.eval()
    b = batch()
    alone = built._task.loss(built.network(b.image), b.label, b.target)
    features = built.network.backbone.features_map(b.image)
    both = alone + 0.5 * built.readout.loss(features, b.extra)
    assert_allclose(built(b).item(), both.item(), rtol=1e-5)
    built(b).backward()
    assert all(p.grad is not None for p in built.parameters())


def test_readout_sees_each_map_in_its_own_units_and_learns_it():
    readout = Readout(4, 2, {"difference": 1, "kappa": 1})
    features = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    true = torch.pixel_shuffle(features, 2)
    extra = {"difference": 1e-9 * true, "kappa": 1e3 * true}
    optimiser = torch.optim.Adam(readout.parameters(), lr=0.05)
    first = readout.loss(features, extra).item()
    for _ in range(200):
        optimiser.zero_grad()
        readout.loss(features, extra).backward()
        optimiser.step()
    assert first > 0.5
    assert readout.loss(features, extra).item() < 1e-3  # fraction not explained
    smooth = {name: torch.zeros_like(value) for name, value in extra.items()}
    assert torch.isfinite(readout.loss(features, smooth))


def test_model_without_a_features_map_is_refused():
    with pytest.raises(ConfigError, match="no features map"):
        objective(AUXILIARY, {"kind": "vit", "patch": 8, "dim": 16, "depth": 1, "heads": 2})


def test_stored_images_have_no_maps_and_the_refusal_says_what_has(data, tmp_path):
    config = tiny_training(auxiliary={"maps": ("difference",)})
    with pytest.raises(ConfigError, match="images simulated on the fly have"):
        run_training(config, data, tmp_path / "run", device="cpu")


@pytest.mark.slow
def test_images_simulated_on_the_fly_teach_their_maps(tmp_path):
    config = tiny_training(
        auxiliary={"maps": ("difference", "kappa"), "weight": 1.0},
        online={"images": 64, "val_images": 24, "test_images": 24},
        epochs=2,
        loggers=(),
    )
    run_training(config, "demo", tmp_path / "run", device="cpu")
    state = read_state(tmp_path / "run")
    assert state["readout"]["convolution.weight"].abs().sum() > 0
    spec = load_run(tmp_path / "run").spec
    assert spec.simulated_on_the_fly


class Greedy(torch.nn.Module):
    """Asks for more memory than any machine has."""

    def forward(self, image):
        return torch.empty(2**50) + self.weight

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))


def test_memory_that_does_not_suffice_says_what_to_lower():
    built = objective(None)
    built.network.backbone.stages = Greedy()
    accelerator = Accelerator("cpu", "32-true")
    accelerator.setup(built, torch.optim.SGD(built.parameters(), lr=0.1))
    with pytest.raises(TrainingError, match=r"batch of 8 images.*Lower batch_size.*accumulate"):
        accelerator.step([batch()], clip=None)


@pytest.mark.slow
def test_compiled_network_learns_what_the_plain_one_learns(data, tmp_path):
    losses = []
    for compiled in (False, True):
        config = tiny_training(epochs=1, compile=compiled, loggers=(), model=MODEL)
        run_training(config, data, tmp_path / str(compiled), device="cpu")
        losses.append(read_rows(tmp_path / str(compiled))[0]["train_loss"])
        assert load_run(tmp_path / str(compiled)).spec.n_parameters > 0
    assert_allclose(losses[1], losses[0], rtol=1e-4)
