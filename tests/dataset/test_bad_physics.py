"""Configurations that no telescope or lens can have are refused with file, key and value."""

from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError, EngineError
from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.generate import simulation_spec
from pipeline.dataset.simulate import simulate_dataset
from pipeline.dataset.writer import ShardStore

INSTRUMENT = """
instruments:
  - name: mine
    band: x
    pixel_scale: 0.05
    psf: {kind: gaussian, fwhm: 0.1}
    exposure_time: 500.0
    n_exposures: 1
    sky_brightness: 22.0
    read_noise: 4.0
    gain: 1.0
    references: {pixel_scale: a, psf: a, exposure_time: a, n_exposures: a, sky_brightness: a,
                 read_noise: a, gain: a}
"""
UNIFORM = "{{kind: uniform, low: {}, high: {}}}"


def refused(folder: Path, text: str) -> str:
    source = folder / "mine.yaml"
    source.write_text(f"extends: contrast_hst\n{text}")
    with pytest.raises(ConfigError) as caught:
        load_dataset_config(source)
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("classes.vortex.substructure.mass", "-1.0e9", "-1e+09"),
        ("classes.subhalo.substructure.m_min", "-1.0e9", "-1000000000.0"),
        ("classes.subhalo.substructure.sigma_sub", UNIFORM.format(-0.1, 0.1), "from -0.1 to 0.1"),
        ("host_mass", "{kind: normal, mean: 1.0e13, sigma: 1.0e12}", "use truncated_normal"),
        ("macro.theta_E", UNIFORM.format(-0.2, 1.0), "from -0.2 to 1 arcsec"),
        ("macro.shape.q", UNIFORM.format(0.0, 0.9), "from 0 to 0.9 can leave"),
        ("macro.shear.modulus", "0.6", "found 0.6"),
        ("macro.slope", UNIFORM.format(1.5, 3.0), "from 1.5 to 3"),
        ("source.shape.e1", "1.0", "found 1.0"),
        ("source.shape.e2", UNIFORM.format(-1.2, 0.0), "from -1.2 to 0"),
        ("source.r_eff", "0.0", "found 0.0"),
        ("source.n", "20.0", "found 20.0"),
        ("signal_scale", "-1.0", "-1.0"),
    ],
)
def test_prior_that_can_leave_the_physical_range(
    tmp_path: Path, key: str, value: str, shown: str
) -> None:
    names = ["scenes", *key.split(".")]
    text = "".join(f"{'  ' * i}{name}:\n" for i, name in enumerate(names))
    message = refused(tmp_path, f"{text.rstrip()} {value}\n")
    assert f"mine.yaml:{len(names) + 1}: scenes.{key}" in message
    assert shown in message


@pytest.mark.parametrize("value", ["0.3", "0.5", UNIFORM.format(0.4, 2.0)])
def test_source_in_front_of_the_lens(tmp_path: Path, value: str) -> None:
    message = refused(tmp_path, f"scenes:\n  z_source: {value}\n")
    assert "mine.yaml:2: scenes" in message
    assert "z_source can be" in message and "not behind a lens at z_lens 0.5" in message


def test_instrument_without_a_zero_point(tmp_path: Path) -> None:
    message = refused(tmp_path, INSTRUMENT)
    assert "mine.yaml:4: instruments.0.zero_point: field required" in message
    assert len(message.splitlines()) == 1


def test_instrument_of_unknown_name(tmp_path: Path) -> None:
    message = refused(tmp_path, "instruments: [hst_asc_f814w]\n")
    assert "mine.yaml:2: instruments.0: 'hst_asc_f814w'" in message
    assert "did you mean 'hst_acs_f814w'" in message


def test_bands_of_different_pixels(tmp_path: Path) -> None:
    message = refused(tmp_path, "instruments: [hst_acs_f814w, euclid_vis]\n")
    assert "one pixel scale" in message and "[0.05, 0.101]" in message


def test_scene_that_renders_non_finite_is_named_and_not_stored(tmp_path: Path) -> None:
    # The middle of this source is brighter than any number of float32.
    source = ["magnitude=-48.75", "r_eff=1.0", "n=8.0"]
    config = load_dataset_config(
        "contrast_hst",
        ["n_images=6", "shard_size=6", "n_pix=16", "supersample=1"]
        + [f"scenes.source.{line}" for line in source],
    )
    (instrument,) = config.instruments
    config = config.with_changes(instruments=(instrument.with_changes(zero_point=45.0),))
    with pytest.raises(EngineError, match=r"scene \d+ \(class '\w+'\) renders \d+ of 256 pixels"):
        simulate_dataset(config, tmp_path / "d.zarr", workers=1)
    assert ShardStore(tmp_path / "d.zarr", simulation_spec(config)).missing() == (0,)
    assert not list((tmp_path / "d.zarr" / "images").glob("c/**/*[0-9]"))
