"""The shortcut: scikit-learn's trees without scikit-learn, and trained by the ordinary command."""

import json

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from pipeline.core.errors import ConfigError
from pipeline.models.base import MODELS, build_model
from pipeline.statistics.leaks import leak_features

OPTIONS = {"early_stopping": False, "random_state": 0}


def shortcut(**changes):
    config = MODELS.config({"kind": "shortcut", "rounds": 30, **changes})
    return build_model(config, 1, 24)


def statistics(n: int) -> torch.Tensor:
    return torch.randn(n, 41, generator=torch.Generator().manual_seed(0)).double()


def test_the_forest_answers_as_scikit_learn_does():
    x = statistics(400)
    label = ((x[:, 0] + x[:, 1] ** 2 > 0).long() + (x[:, 2] > 0.5).long()).clamp(max=2)
    model = shortcut(depth=4)
    model.fit(x, label, torch.empty(400, 0))
    theirs = HistGradientBoostingClassifier(
        max_iter=30, max_depth=4, learning_rate=0.08, **OPTIONS
    ).fit(x.numpy(), label.numpy())
    ours = model.features_of(statistics(500))
    np.testing.assert_allclose(
        ours[:, :3], theirs.decision_function(statistics(500).numpy()), rtol=1e-5, atol=1e-6
    )
    assert (ours[:, 3:] == 0).all()


def test_two_classes_and_a_target_have_scores_of_their_own():
    x = statistics(300)
    label, target = (x[:, 0] > 0).long(), x[:, 1] ** 2
    target[::7] = torch.nan
    model = shortcut()
    model.fit(x, label, target[:, None])
    known = torch.isfinite(target)
    theirs = HistGradientBoostingRegressor(
        max_iter=30, max_depth=3, learning_rate=0.08, **OPTIONS
    ).fit(x[known].numpy(), target[known].numpy())
    ours = model.features_of(x)
    np.testing.assert_allclose(ours[:, 2], theirs.predict(x.numpy()), rtol=1e-5, atol=1e-6)
    assert (ours[:, 0] == 0).all() and ((ours[:, 1] > 0) == (label > 0)).float().mean() > 0.95


def test_it_sees_the_statistics_of_the_audit():
    image = torch.randn(3, 1, 24, 24, generator=torch.Generator().manual_seed(1))
    found = shortcut().describe(image)
    np.testing.assert_allclose(found, leak_features(image[:, 0].numpy()))


def test_more_classes_than_scores_are_refused():
    with pytest.raises(ConfigError, match="scores: 2, too few for 3 classes"):
        shortcut(scores=2).fit(statistics(30), torch.arange(30) % 3, torch.empty(30, 0))


def test_it_is_trained_evaluated_and_loaded_like_every_model(deeplense, data, tmp_path):
    config = tmp_path / "t.yaml"
    config.write_text("model: shortcut:mini\nepochs: 3\nbatch_size: 8\nema: 0.9\nloggers: []\n")
    run = tmp_path / "run"
    done = deeplense("train", config, "--data", data, "--out", run, "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["epochs"] == 1 and "at once" in summary["stopped"]
    again = deeplense("train", config, "--data", data, "--out", run, "--device", "cpu", "--json")
    assert json.loads(again.stdout)["already_done"]
    judged = deeplense("evaluate", run, "--data", data, "--split", "train", "--json")
    assert judged.returncode == 0, judged.stderr
    assert json.loads(judged.stdout)["macro_auc"] > 0.5
