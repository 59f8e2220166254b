"""What a run folder says in YAML is what was configured."""

import pytest

from pipeline.checkpoint.yaml_text import yaml_text
from pipeline.core.config import dump
from pipeline.core.resources import sim_params
from pipeline.core.yaml_source import read_yaml
from pipeline.dataset.config import load_dataset_config
from pipeline.training.config import load_training_config, training_presets


@pytest.mark.parametrize("name", sorted(p.stem for p in training_presets().glob("*.yaml")))
def test_training_preset_reads_back_equal(name, tmp_path):
    config = load_training_config(name, ["optimiser.learning_rate=1e-22"])
    (tmp_path / "config.yaml").write_text(yaml_text(config), encoding="utf-8")
    assert load_training_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("name", sorted(p.stem for p in sim_params().glob("*.yaml")))
def test_dataset_preset_keeps_every_value(name, tmp_path):
    config = load_dataset_config(name)
    (tmp_path / "dataset.yaml").write_text(yaml_text(config), encoding="utf-8")
    assert read_yaml(tmp_path / "dataset.yaml")[0] == dump(config)
