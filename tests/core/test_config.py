"""Configuration is strict: every fault is found when it is read, and named with file and line."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.config import (
    StrictModel,
    config_sha256,
    dump,
    load_config,
    quantity,
    validate_json,
)
from pipeline.core.errors import ConfigError
from pipeline.core.priors import prior


class Lens(StrictModel):
    theta_E: prior("arcsec", gt=0)
    n_terms: int = 3
    name: str = "lens"


class Top(StrictModel):
    lens: Lens
    others: tuple[Lens, ...] = ()
    radius: quantity("arcsec", gt=0) = 1.0


@pytest.fixture
def read(tmp_path: Path):
    def read(text: str, *overrides: str) -> Top:
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(path, Top, overrides, presets=tmp_path)

    return read


def test_units_are_converted_to_the_canonical_one(read) -> None:
    top = read("radius: 50 mas\nlens: {theta_E: {kind: uniform, low: 800 mas, high: 1.2}}\n")
    assert top.radius == pytest.approx(0.05)
    assert top.lens.theta_E.support() == pytest.approx((0.8, 1.2))


def test_yaml_is_version_1_2(read) -> None:
    top = read("lens: {theta_E: 1e0, name: no}\n")
    assert top.lens.theta_E.value == 1.0
    assert top.lens.name == "no"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("lens:\n  theta_E: 1\n  n_termz: 3\n", 3, ["n_termz", "did you mean 'n_terms'"]),
        ("lens:\n  theta_E: 1\n  n_terms: '3'\n", 3, ["lens.n_terms", "'3'"]),
        ("lens:\n  theta_E: 1\n  theta_E: 2\n", 3, ["'theta_E'", "twice"]),
        ("lens:\n  theta_E: -1\n", 2, ["lens.theta_E", "-1"]),
        ("lens:\n  theta_E: {kind: normal, mean: 1, sigma: 1}\n", 2, ["truncated_normal"]),
        ("lens:\n  theta_E: {kind: uniform, low: 2, high: 1}\n", 2, ["low must be below high"]),
        ("lens:\n  theta_E: 1\nradius: 3 kg\n", 3, ["kg", "arcsec"]),
        ("lens:\n  theta_E: 1\nradius: .nan\n", 3, ["radius", "finite"]),
        ("lens:\n  n_terms: 1\n", 1, ["lens.theta_E", "required"]),
        ("lens: [\n", 2, ["not YAML"]),
        ("others:\n- theta_E: 1\n- theta_F: 1\nlens: {theta_E: 1}\n", 3, ["others.1", "theta_F"]),
    ],
)
def test_a_fault_names_file_line_key_and_expectation(read, text, line, words) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    message = str(caught.value)
    assert f"mine.yaml:{line}" in message
    for word in words:
        assert word in message


def test_every_fault_is_reported_at_once(read) -> None:
    with pytest.raises(ConfigError) as caught:
        read("lens: {theta_E: 1, n_terms: x}\nradius: -2\n")
    assert len(str(caught.value).splitlines()) == 2


def test_set_overrides_and_is_named_in_the_message(read) -> None:
    text = "lens: {theta_E: 1}\nothers: [{theta_E: 1}]\n"
    top = read(text, "lens.n_terms=7", "others.0.name=b")
    assert (top.lens.n_terms, top.others[0].name) == (7, "b")
    with pytest.raises(ConfigError, match=r"--set lens.n_terms=many: lens.n_terms"):
        read(text, "lens.n_terms=many")
    with pytest.raises(ConfigError, match=r"expected KEY\.KEY=VALUE"):
        read(text, "lens.n_terms")
    with pytest.raises(ConfigError, match="no position in a list of 1"):
        read(text, "others.5.name=b")


def test_extends_merges_mappings_and_replaces_blocks_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "radius: 2\nlens: {n_terms: 9, theta_E: {kind: uniform, low: 1, high: 2}}\n"
    )
    (tmp_path / "mine.yaml").write_text(
        "extends: base\nlens: {theta_E: {kind: log_uniform, low: 3, high: 4}}\n"
    )
    top = load_config("mine", Top, presets=tmp_path)
    assert (top.radius, top.lens.n_terms, top.lens.theta_E.kind) == (2.0, 9, "log_uniform")


def test_a_fault_in_an_extended_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("lens: {theta_E: 1}\nradius: -2\n")
    (tmp_path / "mine.yaml").write_text("extends: base\n")
    with pytest.raises(ConfigError, match=r"base.yaml:2: radius"):
        load_config("mine", Top, presets=tmp_path)


def test_circular_extends_and_unknown_presets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("extends: two\n")
    (tmp_path / "two.yaml").write_text("extends: one\n")
    with pytest.raises(ConfigError, match="extends itself"):
        load_config("one", Top, presets=tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'two'"):
        load_config("twoo", Top, presets=tmp_path)
    with pytest.raises(ConfigError, match="no such file"):
        load_config("no/such.yaml", Top, presets=tmp_path)


def test_dump_and_hash_survive_a_round_trip(read) -> None:
    top = read("lens: {theta_E: {kind: choice, values: [1, 2.5]}}\nothers: [{theta_E: 3}]\n")
    again = validate_json(json.dumps(dump(top)), Top, name="dump")
    assert again == top
    assert config_sha256(again) == config_sha256(top)
    assert config_sha256(top.with_changes(radius=1.5)) != config_sha256(top)


@given(st.text(max_size=60))
def test_no_text_escapes_as_anything_but_a_config_error(tmp_path_factory, text: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "mine.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(ConfigError):
        load_config(path, Top, presets=path.parent)
