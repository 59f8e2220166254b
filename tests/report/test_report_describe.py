"""A configuration printed with its units reads back as the same configuration."""

from pathlib import Path

import pytest

from pipeline.core.config import StrictModel, config_sha256, load_config
from pipeline.core.resources import sim_params
from pipeline.dataset.config import load_dataset_config
from pipeline.models.base import MODELS
from pipeline.report.describe import list_presets, resolved_yaml

PRESETS = sorted(path.stem for path in sim_params().glob("*.yaml"))


@pytest.mark.parametrize("name", PRESETS)
def test_printed_preset_reads_back_as_itself(name: str, tmp_path: Path) -> None:
    config = load_dataset_config(name)
    path = tmp_path / "copy.yaml"
    path.write_text(resolved_yaml(config), encoding="utf-8")
    again = load_dataset_config(path)
    assert again == config
    assert again.sha256 == config.sha256


@pytest.mark.parametrize("kind", MODELS.kinds())
def test_printed_model_reads_back_as_itself(kind: str, tmp_path: Path) -> None:
    config: StrictModel = MODELS.load(kind).Config()
    path = tmp_path / "model.yaml"
    path.write_text(resolved_yaml(config), encoding="utf-8")
    again = load_config(path, type(config), presets=tmp_path)
    assert config_sha256(again) == config_sha256(config)


def test_numbers_carry_their_units() -> None:
    config = load_dataset_config("demo")
    lines = {line.strip() for line in resolved_yaml(config).splitlines()}
    assert f"low: {config.scenes.macro.theta_E.support()[0]}  # arcsec" in lines
    assert "host_mass: 1.0e13  # M_sun" in lines
    assert '"no":' in lines


def test_every_preset_has_a_summary() -> None:
    lines = list_presets(sim_params())
    assert [line.name for line in lines] == PRESETS
    assert all(line.summary for line in lines)


class _Awkward(StrictModel):
    text: str
    number: float
    numbers: tuple[float, ...]
    flag: bool
    long: str
    empty: str = ""


@pytest.mark.parametrize("text", ["no", "1e5", "a: b", "x # y", "Ünïcode", '"', " lead", "a\nb"])
@pytest.mark.parametrize("number", [0.0, -1e-22, 1.584893192461114e9, 5e-324, 123456.75, 1e22])
def test_awkward_values_read_back(text: str, number: float, tmp_path: Path) -> None:
    config = _Awkward(
        text=text, number=number, numbers=(number, 1.0), flag=True, long="word " * 40 + "end"
    )
    path = tmp_path / "awkward.yaml"
    path.write_text(resolved_yaml(config), encoding="utf-8")
    assert load_config(path, _Awkward, presets=tmp_path) == config
