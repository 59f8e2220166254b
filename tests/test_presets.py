"""Every shipped preset: it loads, draws each class, renders in every engine, survives its dump."""

import numpy as np
import pytest

from pipeline.core.config import dump, validate
from pipeline.core.resources import sim_params
from pipeline.dataset.config import DatasetConfig, load_dataset_config
from pipeline.dataset.generate import record
from pipeline.engines.base import ENGINES
from pipeline.physics.instrument import REFERENCED, Instrument
from pipeline.physics.psf import GaussianPsf
from pipeline.physics.scene import draw_scene

PRESETS = sorted(path.stem for path in sim_params().glob("*.yaml"))
#: PHYSICS 7: preset -> pixels, arcsec a pixel, instrument whose numbers it uses.
TABLE = {
    "legacy_model_i": (150, 0.05, "legacy_model_i"),
    "legacy_model_ii": (64, 0.101, "legacy_model_ii"),
    "legacy_model_iii": (64, 0.08, "legacy_model_iii"),
    "legacy_model_iv": (64, 0.101, "legacy_model_iv_1"),
    "model_i_fixed": (150, 0.05, "hst_acs_f814w"),
    "model_ii_fixed": (64, 0.101, "euclid_vis"),
    "model_iii_fixed": (64, 0.08, "hst_wfc3_f160w"),
    "model_iv_fixed": (64, 0.101, "euclid_vis"),
    "contrast_hst": (80, 0.05, "hst_acs_f814w_deep"),
    "physical_euclid": (64, 0.101, "euclid_vis"),
    "physical_hst": (80, 0.05, "hst_acs_f814w"),
    "physical_jwst": (128, 0.031, "jwst_f200w_zodiacal"),
    "physical_lsst": (32, 0.2, "lsst_i"),
    "physical_roman": (48, 0.11, "roman_f106"),
    "hard_multipole": (80, 0.05, "hst_acs_f814w_deep"),
    "hard_clumpy": (80, 0.05, "hst_acs_f814w_deep"),
    "hard_fdm": (80, 0.05, "hst_acs_f814w_deep"),
    "hard_los": (80, 0.05, "hst_acs_f814w_deep"),
    "hard_wdm": (128, 0.031, "jwst_f200w_zodiacal"),
    "hard_sidm": (128, 0.031, "jwst_f200w_zodiacal"),
}
#: PHYSICS 7: preset -> range of the total Einstein radius, arcsec.
RINGS = {
    "contrast_hst": (0.8, 1.2),
    "model_i_fixed": (1.2, 1.9),
    "model_ii_fixed": (1.0, 1.7),
    "model_iii_fixed": (1.0, 1.6),
    "model_iv_fixed": (1.0, 1.7),
    "physical_euclid": (0.9, 1.5),
    "physical_hst": (0.9, 1.5),
    "physical_jwst": (0.9, 1.5),
    "physical_lsst": (0.9, 1.5),
    "physical_roman": (0.9, 1.5),
    "hard_fdm": (0.8, 1.2),
    "hard_wdm": (0.9, 1.5),
    "legacy_model_i": (1.28149, 1.2815),
    "legacy_model_ii": (0.81212, 0.81214),
    "legacy_model_iii": (0.81212, 0.81214),
}
#: Classes that some presets must have.
SIGNALS = {
    "hard_fdm": ("no", "fdm"),
    "hard_los": ("no", "subhalo", "los"),
    "hard_wdm": ("cdm", "wdm"),
    "hard_sidm": ("cdm", "cored", "collapsed"),
}
#: Pixels along a side of rendered images: the middle of the preset's.
N_PIX = 20


@pytest.fixture(scope="module", params=PRESETS)
def preset(request: pytest.FixtureRequest) -> tuple[str, DatasetConfig]:
    return request.param, load_dataset_config(request.param)


def test_every_preset_of_the_specification_is_shipped() -> None:
    assert set(TABLE) | {"demo"} <= set(PRESETS)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_pixels_and_instrument_are_those_of_the_specification(name: str) -> None:
    n_pix, pixel_scale, instrument = TABLE[name]
    config = load_dataset_config(name)
    assert (config.n_pix, config.pixel_scale, config.bands[0]) == (n_pix, pixel_scale, instrument)


def test_description_says_what_it_is_for(preset: tuple[str, DatasetConfig]) -> None:
    assert len(preset[1].description) > 60


def test_defects_in_force_are_named_in_the_description(preset: tuple[str, DatasetConfig]) -> None:
    _, config = preset
    flags = {**dump(config.scenes.defects)}
    for instrument in config.instruments:
        flags |= {k: v or flags.get(k, False) for k, v in dump(instrument.defects).items()}
    for block in config.scenes.classes.values():
        found = dump(block.substructure)
        flags |= {k: v for k, v in found.items() if k.endswith("_bug") and v}
    for flag in (name for name, on in flags.items() if on):
        assert flag in config.description, flag


def test_only_legacy_presets_have_defects(preset: tuple[str, DatasetConfig]) -> None:
    name, config = preset
    faults = [dump(config.scenes.defects), *(dump(i.defects) for i in config.instruments)]
    assert name.startswith("legacy") == any(on for fault in faults for on in fault.values())


def test_sampling_follows_the_width_of_the_psf(preset: tuple[str, DatasetConfig]) -> None:
    name, config = preset
    for instrument in config.instruments:
        assert isinstance(instrument.psf, GaussianPsf)
        wide = instrument.psf.fwhm >= 2.0 * instrument.pixel_scale
        expected = 1 if name.startswith("legacy") else 2 if wide else 4
        assert config.supersample == expected
        narrow = instrument.psf.fwhm < 2.5 * instrument.pixel_scale
        assert instrument.psf.supersampled == (narrow and not name.startswith("legacy"))


def test_dump_and_reading_keep_the_hash(preset: tuple[str, DatasetConfig]) -> None:
    _, config = preset
    again = validate(dump(config), DatasetConfig)
    assert again == config
    assert again.sha256 == config.sha256


def test_no_two_presets_make_the_same_images() -> None:
    hashes = {load_dataset_config(name).sha256: name for name in PRESETS}
    assert len(hashes) == len(PRESETS)


def test_numbers_of_its_instruments_have_references(preset: tuple[str, DatasetConfig]) -> None:
    for instrument in preset[1].instruments:
        for name in REFERENCED:
            value = getattr(instrument, name)
            if value not in (None, Instrument.model_fields[name].default):
                assert instrument.references[name], name


@pytest.mark.parametrize("name", sorted(RINGS))
def test_rings_are_those_of_the_specification(name: str) -> None:
    low, high = RINGS[name]
    scenes = load_dataset_config(name).scenes
    radii = [draw_scene(scenes, 1, i).host.theta_E for i in range(30)]
    assert low <= min(radii) and max(radii) <= high
    assert max(radii) - min(radii) >= 0.7 * (high - low) or high - low < 1e-3


@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_classes_are_those_of_the_specification(name: str) -> None:
    assert load_dataset_config(name).class_names == SIGNALS[name]


def test_every_prior_of_the_general_presets_is_that_of_the_specification() -> None:
    for name in (n for n in TABLE if not n.startswith("legacy")):
        scenes = load_dataset_config(name).scenes
        macro, source = scenes.macro, scenes.source
        assert macro.profile == "epl" and macro.slope.mean == 2.0 and macro.slope.sigma == 0.1
        assert macro.shape.q.support() == (0.6, 0.95)
        assert macro.shear.modulus.support() == (0.0, 0.08)
        assert macro.center_x.sigma == macro.center_y.sigma == 0.03
        assert source.r_eff.support() == (0.08, 0.35) and source.n.support() == (0.7, 2.5)
        assert source.shape.e1.sigma == source.shape.e2.sigma == 0.15
        assert scenes.source_position.radius == 0.28
        assert scenes.signal_scale == 1.0


def test_forecasts_differ_in_the_telescope_alone() -> None:
    first = load_dataset_config("physical_euclid").scenes
    for name in ("physical_hst", "physical_jwst", "physical_lsst", "physical_roman"):
        assert load_dataset_config(name).scenes == first


def test_contrast_hst_has_a_halo_near_the_ring_in_every_subhalo_image() -> None:
    scenes = load_dataset_config("contrast_hst").scenes
    for index in range(30):
        scene = draw_scene(scenes, 1, index, "subhalo")
        halos, host = scene.perturbers[0], scene.host
        x = halos.params["center_x"] - host.center_x
        y = halos.params["center_y"] - host.center_y
        assert np.hypot(x, y).min() < 1.5 * host.theta_E


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENGINES.kinds())
def test_every_class_renders_in_every_engine(kind: str, preset: tuple[str, DatasetConfig]) -> None:
    config = preset[1].with_changes(n_pix=N_PIX, supersample=1)
    module = ENGINES.load(kind)
    engine = module.build(module.Config())
    scenes = [draw_scene(config.scenes, 1, i) for i in range(len(config.class_names))]
    noiseless = engine.render(scenes, config.grid, config.instruments)
    images = record(config, noiseless, scenes)
    assert images.shape == (len(scenes), len(config.bands), N_PIX, N_PIX)
    assert np.isfinite(images).all()
    assert noiseless.max(axis=(1, 2, 3)).min() > 0
