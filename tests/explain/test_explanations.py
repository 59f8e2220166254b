"""Every explanation of the family: where it looks is where the answer comes from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.checkpoint.load import Run, load_run
from pipeline.checkpoint.network import Network
from pipeline.core.errors import ConfigError, ExplanationError, UnknownKindError
from pipeline.explain.explanations.base import EXPLANATIONS
from pipeline.explain.explanations.integrated_gradients import Config as Integrated
from pipeline.explain.explanations.integrated_gradients import shares
from pipeline.explain.maps import explain
from pipeline.explain.question import Question, ask
from pipeline.models._backbone import Backbone
from pipeline.models._resized import Resized
from pipeline.models.base import MODELS
from pipeline.tasks.base import TASKS, build_task, fit_target

from ..checkpoint.untrained_run import SIZE, lens_images, write_run

#: The only pixels that the networks below look at.
ROWS, COLUMNS = slice(8, 16), slice(24, 32)
#: Models that stand for convolutions, both, tokens, and no gradient at all; and what each refuses.
MODELS_TRIED = {
    "resnet34": {"attention"},
    "lens_hybrid": set(),
    "vit": {"grad_cam"},
    "shortcut": {"attention", "grad_cam", "gradient", "integrated_gradients", "smooth_gradient"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    root = tmp_path_factory.mktemp("runs")
    return {kind: load_run(_written(root / kind, kind)) for kind in MODELS_TRIED}


def _written(folder: Path, kind: str) -> Path:
    write_run(folder, kind)
    return folder


class Window(Backbone):
    """Features are the values of a few convolved pixels, squared."""

    n_features = 2

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 2, 1, bias=False)
        nn.init.ones_(self.maps.weight)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.maps(image)
        place = torch.zeros_like(maps)
        place[..., ROWS, COLUMNS] = 1.0
        return (maps.square() * place).mean(dim=(2, 3))


class Attending(Backbone):
    """Every patch of 8 x 8 pixels attends to the bright ones."""

    n_features = 1

    def forward(self, image: Tensor) -> Tensor:
        tokens = functional.avg_pool2d(image, 8).flatten(1)[..., None]  # (B, 25, 1)
        query = 20.0 * torch.ones_like(tokens)
        mixed = functional.scaled_dot_product_attention(
            query[:, None], tokens[:, None], tokens[:, None]
        )
        return mixed[:, 0].mean(dim=1)


def question(backbone: Backbone, images: Tensor) -> Question:
    head = nn.Linear(backbone.n_features, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0], [-1.0]]).expand_as(head.weight))
        head.bias.zero_()
    network = Network(backbone, head).eval()
    shape = (1, SIZE, SIZE)
    config = TASKS.config("classification")
    task = build_task(config, backbone.n_features, ("a", "b"), (), shape)
    return Question(network, task, images, torch.zeros(len(images), dtype=torch.int64), 2)


def images_with_light_everywhere(n: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).uniform(1.0, 2.0, (n, 1, SIZE, SIZE))).float()


@pytest.mark.parametrize("kind", sorted(set(EXPLANATIONS.kinds()) - {"attention"}))
def test_all_heat_is_where_the_network_looks(kind: str) -> None:
    images = images_with_light_everywhere(2)
    images[..., ROWS, COLUMNS] += 3.0  # something that weighted maps can show
    config = EXPLANATIONS.config(kind)
    heat = EXPLANATIONS.load(kind).heat(config, question(Window(), images)).detach()
    assert heat.shape == (2, SIZE, SIZE) and float(heat.min()) >= 0
    peak = divmod(int(heat[0].argmax()), SIZE)
    assert ROWS.start <= peak[0] < ROWS.stop and COLUMNS.start <= peak[1] < COLUMNS.stop
    if kind != "grad_cam":  # which weighs whole maps
        reach = getattr(config, "patch", 1) - 1
        far = heat.clone()
        rows = slice(ROWS.start - reach, ROWS.stop + reach)
        far[:, rows, COLUMNS.start - reach : COLUMNS.stop + reach] = 0.0
        assert float(far.max()) == 0.0


def test_attention_is_received_by_the_bright_patch() -> None:
    images = torch.zeros(2, 1, SIZE, SIZE)
    images[0, :, 8:16, 24:32] = 1.0
    images[1, :, 32:40, 0:8] = 1.0
    config = EXPLANATIONS.config("attention")
    heat = EXPLANATIONS.load("attention").heat(config, question(Attending(), images))
    peaks = [divmod(int(one.argmax()), SIZE) for one in heat]
    assert 8 <= peaks[0][0] < 16 and 24 <= peaks[0][1] < 32
    assert 32 <= peaks[1][0] < 40 and 0 <= peaks[1][1] < 8


def test_integrated_gradients_add_up_to_the_answer(runs: dict[str, Run]) -> None:
    run = runs["lens_hybrid"]
    asked = ask(run, torch.from_numpy(run.preprocess.apply(lens_images(4, 3))), None)
    parts = shares(Integrated(n_steps=64), asked).sum(dim=(1, 2, 3))
    with torch.no_grad():
        rest = asked.answers(asked.prepared) - asked.answers(
            asked.blank.expand_as(asked.prepared).clone()
        )
    torch.testing.assert_close(parts, rest, rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("model", MODELS_TRIED)
@pytest.mark.parametrize("kind", EXPLANATIONS.kinds())
def test_a_map_is_one_image_s_own_or_refused_with_a_way_out(
    runs: dict[str, Run], model: str, kind: str
) -> None:
    images = lens_images(3, 5)
    if kind in MODELS_TRIED[model]:
        with pytest.raises(ExplanationError, match="occlusion"):
            explain(runs[model], images, kind)
        return
    maps = explain(runs[model], images, kind)
    assert maps.shape == (3, SIZE, SIZE)
    assert maps.min() >= 0 and np.all((maps.max(axis=(1, 2)) == 1.0) | (maps.max(axis=(1, 2)) == 0))
    np.testing.assert_allclose(explain(runs[model], images[1:2], kind)[0], maps[1], atol=2e-3)


def test_the_class_asked_about_changes_the_map(runs: dict[str, Run]) -> None:
    images = lens_images(2, 5)
    one, other = (
        explain(runs["resnet34"], images, "integrated_gradients", np.full(2, k)) for k in (0, 1)
    )
    assert np.abs(one - other).max() > 0.05


def test_a_map_over_a_padded_image_comes_back_to_its_pixels() -> None:
    inner = MODELS.load("vit").build(MODELS.config("vit:mini"), 1, 48)
    over = Resized(inner, 48, "pad")
    heat = torch.zeros(1, 48, 48)
    heat[0, 4 + 7, 4 + 30] = 1.0  # a border of 4 pixels on each side of 40
    found = over.over_image(heat, 40)
    assert found.shape == (1, 40, 40) and divmod(int(found.argmax()), 40) == (7, 30)
    assert Resized(inner, 48, "resample").over_image(heat, 24).shape == (1, 24, 24)


def test_of_a_regression_the_estimate_is_explained() -> None:
    values = np.random.default_rng(0).uniform(1.0, 2.0, 100)
    targets = (fit_target("axion_mass", "eV", "identity", values),)
    for head in ("gaussian", "binned", "quantile"):
        config = TASKS.config({"kind": "regression", "targets": ("axion_mass",), "head": head})
        task = build_task(config, 4, (), targets, (1, SIZE, SIZE))
        outputs = torch.randn(5, task.head.out_features, generator=torch.Generator().manual_seed(1))
        estimate = task.estimate(outputs)  # type: ignore[attr-defined]
        answer = task.answer(outputs.double().numpy(), task.uncalibrated)
        assert answer.target_quantile is not None and answer.target_mean is not None
        stated = targets[0].inverse(estimate.double().numpy())
        middle = answer.target_quantile[:, 0, answer.target_quantile.shape[2] // 2]
        expected = middle if head == "quantile" else answer.target_mean[:, 0]
        np.testing.assert_allclose(stated, expected, rtol=1e-5)


def test_options_are_checked_and_unknown_methods_are_hinted() -> None:
    with pytest.raises(UnknownKindError, match="did you mean 'occlusion'"):
        EXPLANATIONS.config("oclusion")
    with pytest.raises((ConfigError, ValueError), match="stride must not exceed patch"):
        EXPLANATIONS.config({"kind": "occlusion", "patch": 4, "stride": 8})
