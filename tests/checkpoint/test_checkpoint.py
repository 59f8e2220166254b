"""A run folder gives back the network that was put in, or says why not. Nothing in it executes."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.checkpoint.load import load_run
from pipeline.checkpoint.network import build_network
from pipeline.checkpoint.spec import FORMAT_VERSION
from pipeline.core.errors import CheckpointError, ConfigError
from pipeline.core.provenance import canonical_json, sha256_hex
from pipeline.models.base import MODELS
from pipeline.tasks.base import TASKS

from .untrained_run import CLASSES, SIZE, lens_images, write_run


def edit_spec(folder: Path, *, rehash: bool, **changes) -> None:
    path = folder / "checkpoint.json"
    content = {**json.loads(path.read_text()), **changes}
    if rehash:
        del content["sha256"]
        content["sha256"] = sha256_hex(canonical_json(content))
    path.write_text(json.dumps(content))


def test_loaded_network_scores_exactly_as_the_saved_one(run_folder):
    images = lens_images(5, seed=9)
    run = load_run(run_folder)
    network, task = build_network(
        MODELS.load("lens_hybrid").VARIANTS["mini"],
        TASKS.config("classification"),
        in_channels=1,
        image_size=SIZE,
        class_names=CLASSES,
        targets=(),
    )
    with torch.inference_mode():
        logits = network.eval()(torch.from_numpy(run.preprocess.apply(images))).double().numpy()
    expected = task.answer(logits, {"temperature": 1.5}).class_probability
    assert_array_equal(run.predict(images).class_probability, expected)


def test_run_says_where_it_came_from(run_folder):
    run = load_run(run_folder)
    assert run.class_names == CLASSES
    assert run.spec.dataset_sha256 == "d" * 64
    assert run.sha256 == json.loads((run_folder / "checkpoint.json").read_text())["sha256"]


def test_probabilities_sum_to_one_and_do_not_depend_on_the_batch(run_folder):
    run, images = load_run(run_folder), lens_images(6, seed=4)
    whole = run.predict(images)
    assert_allclose(whole.class_probability.sum(axis=1), 1.0)
    for k in range(6):
        alone = run.predict(images[k : k + 1])
        assert_allclose(alone.class_probability[0], whole.class_probability[k], rtol=1e-4)


def test_score_is_blind_to_the_unit_of_the_image(run_folder):
    run, images = load_run(run_folder), lens_images(4, seed=5)
    scaled = (1e-3 * images + 7.0).astype(np.float32)
    assert_allclose(
        run.predict(scaled).class_probability, run.predict(images).class_probability, atol=1e-4
    )


def test_novelty_is_uniform_for_known_images_and_one_for_strange_ones(run_folder):
    run = load_run(run_folder)
    known = run.predict(lens_images(200, seed=6)).novelty
    assert 0.4 < known.mean() < 0.6
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(5, 1, SIZE, SIZE)).astype(np.float32)
    gradient = np.broadcast_to(np.arange(SIZE, dtype=np.float32), (1, 1, SIZE, SIZE))
    assert (run.predict(noise).novelty == 1.0).all()
    assert run.predict(gradient + 0.01 * noise[:1]).novelty == 1.0


def test_images_of_another_shape_are_refused(run_folder):
    with pytest.raises(CheckpointError, match=r"takes images of shape \(B, 1, 40, 40\)"):
        load_run(run_folder).predict(np.zeros((1, 1, 39, 40), np.float32))


@pytest.mark.parametrize("name", ["weights.safetensors", "reference.safetensors"])
def test_changed_and_missing_files_are_refused_by_name(run_folder, name):
    content = bytearray((run_folder / name).read_bytes())
    content[-1] ^= 1
    (run_folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: does not match the sha256"):
        load_run(run_folder)
    (run_folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: cannot be read"):
        load_run(run_folder)


def test_weights_of_a_later_kill_are_refused(run_folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    write_run(other, seed=1)
    (run_folder / "weights.safetensors").write_bytes((other / "weights.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="does not match"):
        load_run(run_folder)


def test_edited_specification_is_refused(run_folder):
    edit_spec(run_folder, rehash=False, class_names=["vortex", "subhalo", "no"])
    with pytest.raises(CheckpointError, match="does not match its own sha256"):
        load_run(run_folder)


def test_newer_format_version_is_refused_and_says_so(run_folder):
    edit_spec(run_folder, rehash=True, format_version=FORMAT_VERSION + 1)
    with pytest.raises(CheckpointError, match="a newer deeplense-pipeline wrote it"):
        load_run(run_folder)


def test_specification_with_a_wrong_value_is_refused_with_its_key(run_folder):
    edit_spec(run_folder, rehash=True, image_size="64")
    with pytest.raises(CheckpointError, match="image_size"):
        load_run(run_folder)


def test_weights_of_another_model_are_refused(run_folder):
    model = {**json.loads((run_folder / "checkpoint.json").read_text())["model"], "depth": 3}
    edit_spec(run_folder, rehash=True, model=model)
    with pytest.raises(CheckpointError, match="the weights do not fit their model"):
        load_run(run_folder)


def test_checkpoint_of_another_task_is_refused(run_folder):
    with pytest.raises(CheckpointError, match="for 'classification', needed is 'regression'"):
        load_run(run_folder, task="regression")


def test_what_is_no_run_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no such run folder"):
        load_run(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"no checkpoint\.json"):
        load_run(tmp_path)
    (tmp_path / "checkpoint.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_run(tmp_path)
    (tmp_path / "checkpoint.json").write_text('{"format": "other"}')
    with pytest.raises(CheckpointError, match="not a deeplense checkpoint"):
        load_run(tmp_path)


class Bomb:
    """Leaves a file behind when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickle_in_place_of_weights_is_not_executed(run_folder, tmp_path):
    payload = pickle.dumps(Bomb(tmp_path / "executed"))
    (run_folder / "weights.safetensors").write_bytes(payload)
    edit_spec(run_folder, rehash=True, weights_sha256=sha256_hex(payload))
    with pytest.raises(CheckpointError):
        load_run(run_folder)
    assert not (tmp_path / "executed").exists()


def test_unknown_device_is_refused(run_folder):
    with pytest.raises(ConfigError, match="'tpu' is not available"):
        load_run(run_folder, device="tpu")


def test_card_names_classes_limits_and_hashes(run_folder):
    card = (run_folder / "MODEL_CARD.md").read_text()
    spec = load_run(run_folder).spec
    for word in ("no, subhalo, vortex", "## Limits", spec.weights_sha256, spec.dataset_sha256):
        assert word in card
    assert "No test split has been evaluated yet" in card


@pytest.mark.parametrize("kind", MODELS.kinds())
def test_every_model_survives_saving_and_loading(kind, tmp_path):
    write_run(tmp_path, kind)
    images = lens_images(3)
    first, second = load_run(tmp_path), load_run(tmp_path)
    assert_array_equal(
        first.predict(images).class_probability, second.predict(images).class_probability
    )
    assert first.spec.model.kind == kind
