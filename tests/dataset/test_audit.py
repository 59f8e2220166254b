"""An audit passes what is sound and names what is not: damage, changed truth, leaks, duplicates."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from pipeline.dataset import audit as module
from pipeline.dataset.audit import audit_dataset
from pipeline.dataset.audit_leaks import Sample, audit_sham, judge_sample
from pipeline.dataset.audit_result import FAILED, NOT_JUDGED, PASSED, Audit
from pipeline.dataset.audit_scenes import check_nuisances
from pipeline.dataset.config import DatasetConfig, load_dataset_config
from pipeline.dataset.generate import simulation_spec
from pipeline.dataset.layout import shard_digest
from pipeline.dataset.simulate import simulate_dataset
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.dataset.writer import ShardStore
from pipeline.statistics.leaks import LEAK_FEATURES, SET_A

Change = Callable[[Path], None]


def state(audit: Audit, name: str) -> str:
    return next(c.state for c in audit.checks if c.name == name)


def detail(audit: Audit, name: str) -> str:
    return next(c.detail for c in audit.checks if c.name == name)


def tamper(dataset: Dataset, path: Path, name: str, row: int, value: object) -> Path:
    """Copy a dataset, change one row of one array, and write the digest anew to match."""
    shutil.copytree(dataset.path, path)
    group = zarr.open_group(path, mode="r+")
    group[name][row] = value
    shard = row // dataset.shard_size
    values = Dataset(path, dataset.spec, dataset.sha256).read_shard(shard)
    group["shard_digest"][shard] = shard_digest(dataset.spec.arrays, values)
    return path


@pytest.fixture(scope="module")
def sound(tiny: Dataset) -> Audit:
    return audit_dataset(tiny.path, short=True)


def test_a_sound_dataset_passes_and_says_that_leaks_were_not_judged(sound: Audit) -> None:
    assert sound.passed
    assert not sound.is_broken
    assert [c.name for c in sound.not_judged] == ["leaks"]
    assert "20 images a class are too few" in detail(sound, "leaks")
    assert sound.verdict == "passed; not judged: leaks"


def test_the_json_has_every_promised_field(sound: Audit) -> None:
    data = json.loads(json.dumps(sound.to_json()))
    promised = {
        "complete", "damaged_shards", "engine_deviation_max", "engine_deviation_rms",
        "leak_auc_max", "leaks", "ceiling_auc", "passed",
    }  # fmt: skip
    assert promised <= set(data)
    assert data["complete"] is data["passed"] is True
    assert data["damaged_shards"] == []
    assert data["not_judged"] == ["leaks"]


def test_a_flipped_bit_is_named_by_its_shard(tiny: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "bad.zarr"
    shutil.copytree(tiny.path, path)
    chunk = path / "images" / "c" / "3" / "0" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[1000] ^= 4
    chunk.write_bytes(bytes(data))
    audit = audit_dataset(path, n_resimulate=0)
    assert audit.damaged_shards == (3,)
    assert not audit.passed
    assert audit.is_broken
    assert "damaged: 3" in detail(audit, "digests")
    assert state(audit, "contents") == state(audit, "leaks") == NOT_JUDGED


@pytest.mark.parametrize(
    ("name", "row", "value", "check", "words"),
    [
        ("truth/theta_E", 17, 1.25, "truth", "theta_E of image 17 is 1.25"),
        ("images", 4, np.nan, "finite", "images 4"),
        ("label", 5, 0, "labels", "image 5"),
        ("split", 59, 2, "labels", "image 59"),
    ],
)
def test_a_changed_value_with_a_valid_digest_is_found(
    tiny: Dataset, tmp_path: Path, name: str, row: int, value: float, check: str, words: str
) -> None:
    if name == "split":
        value = (int(tiny.split[row]) + 1) % 3
    audit = audit_dataset(tamper(tiny, tmp_path / "t.zarr", name, row, value), short=True)
    assert not audit.passed
    assert state(audit, check) == FAILED
    assert words in detail(audit, check)


def test_an_image_that_does_not_come_out_again_is_found(tiny: Dataset, tmp_path: Path) -> None:
    image = tiny.read_images(slice(7, 8))[0]
    image[0, 3, 3] = np.nextafter(image[0, 3, 3], np.float32(np.inf))
    path = tamper(tiny, tmp_path / "t.zarr", "images", 7, image)
    audit = audit_dataset(path, short=True, n_resimulate=60)
    assert state(audit, "re-simulation") == FAILED
    assert detail(audit, "re-simulation").endswith("different: 7")


def test_other_versions_leave_a_different_image_open(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tamper(tiny, tmp_path / "t.zarr", "images", 7, 0.0)
    meta = json.loads((path / "zarr.json").read_text())
    meta["attributes"]["versions"]["numpy"] = "1.0.0"
    (path / "zarr.json").write_text(json.dumps(meta))
    audit = audit_dataset(path, short=True, n_resimulate=60)
    assert state(audit, "re-simulation") == NOT_JUDGED
    assert "numpy 1.0.0" in detail(audit, "re-simulation")


def test_a_copied_image_is_found_across_splits(tiny: Dataset, tmp_path: Path) -> None:
    a, b = (int(tiny.indices(s)[0]) for s in ("train", "test"))
    path = tamper(tiny, tmp_path / "t.zarr", "images", b, tiny.read_images(slice(a, a + 1))[0])
    audit = audit_dataset(path, short=True)
    assert state(audit, "duplicates") == FAILED
    assert "1 of them in several splits" in detail(audit, "duplicates")
    assert f"{a} (train)" in detail(audit, "duplicates")
    assert f"{b} (test)" in detail(audit, "duplicates")


def test_an_unfinished_dataset_fails_and_says_how_to_finish(
    tiny_config: DatasetConfig, tmp_path: Path
) -> None:
    path = tmp_path / "half.zarr"
    ShardStore.prepare(path, simulation_spec(tiny_config))
    audit = audit_dataset(path)
    assert not audit.complete
    assert not audit.passed
    assert "deeplense simulate" in detail(audit, "complete")


def test_nuisances_that_depend_on_the_class_are_found(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from pipeline.dataset import audit_scenes

    draw = audit_scenes.draw_scene

    def leaky(config, seed, index, class_name=None):  # type: ignore[no-untyped-def]
        scene = draw(config, seed, index, class_name)
        if scene.class_name != "vortex":
            return scene
        return dataclasses.replace(
            scene, host=dataclasses.replace(scene.host, z_lens=scene.host.z_lens + 1e-15)
        )

    assert check_nuisances(tiny, np.arange(5)).state == PASSED
    monkeypatch.setattr(audit_scenes, "draw_scene", leaky)
    check = check_nuisances(tiny, np.arange(5))
    assert check.state == FAILED
    assert "host of class 'vortex'" in check.detail


def test_the_macro_of_legacy_model_iv_gives_the_class_away(tmp_path: Path) -> None:
    path, small = tmp_path / "iv.zarr", ["n_images=90", "n_pix=16", "engine=lenstronomy"]
    simulate_dataset(load_dataset_config("legacy_model_iv", small), path, workers=1)
    audit = audit_dataset(path, short=True)
    assert {c.name for c in audit.failed} == {"nuisances", "distributions"}
    assert not audit.is_broken  # as designed: simulate does not fail
    assert "theta_E (no–cdm)" in detail(audit, "distributions")


def test_a_prior_that_differs_by_class_is_found(tiny_config: DatasetConfig, tmp_path: Path) -> None:
    """Truth of one class shifted in every image, digests valid: only the distribution tells."""
    config = tiny_config.with_changes(n_images=300, n_pix=16, shard_size=300)
    store = ShardStore.prepare(tmp_path / "d.zarr", simulation_spec(config))
    rng = np.random.default_rng(0)
    values = {s.name: np.zeros(s.shape(0 if s.ragged else 300), s.dtype) for s in store.spec.arrays}
    values["label"] = (np.arange(300) % 3).astype("<i2")
    values["truth/q"] = rng.random(300) + 0.4 * (values["label"] == 2)
    store.write(0, values)
    store.seal()
    check = module.check_distributions(open_dataset(tmp_path / "d.zarr"))
    assert check.state == FAILED
    assert "q (no–vortex)" in check.detail
    assert "q (no–subhalo)" not in check.detail


def sample_with(
    config: DatasetConfig, per_class: int, shift: dict[tuple[str, str], float]
) -> Sample:
    rng = np.random.default_rng(4)
    n_classes = len(config.class_names)
    labels = np.arange(per_class * n_classes) % n_classes
    features = rng.normal(size=(len(labels), len(LEAK_FEATURES)))
    for (class_name, statistic), size in shift.items():
        rows = labels == config.class_names.index(class_name)
        features[rows, LEAK_FEATURES.index(statistic)] += size
    in_a = np.array([name in SET_A for name in LEAK_FEATURES])
    maps = np.ones((n_classes, 8, 8))
    groups = np.arange(len(labels)) // n_classes
    return Sample(LEAK_FEATURES, features, in_a, labels, groups, maps, maps)


def ignore(n_done: int) -> None:
    """Advance nothing."""


def test_a_planted_leak_is_named_and_nothing_else(tiny_config: DatasetConfig) -> None:
    found = judge_sample(
        sample_with(tiny_config, 200, {("vortex", "flux"): 1.0}), tiny_config, ignore
    )
    assert found.check.state == FAILED
    assert list(found.leaks) == ["flux"]
    assert found.leaks["flux"] == pytest.approx(0.76, abs=0.07)
    assert "flux" in found.check.detail
    assert {p.pair for p in found.pairs if p.leaks} == {"no–vortex", "subhalo–vortex"}
    assert found.evidence is not None
    assert found.evidence.histograms[0].name == "flux"


def test_shape_is_gated_against_the_smooth_class_unless_exempt(tiny_config: DatasetConfig) -> None:
    sample = sample_with(tiny_config, 200, {("vortex", "az2"): 1.0})
    found = judge_sample(sample, tiny_config, ignore)
    assert list(found.leaks) == ["az2"]
    assert {p.pair for p in found.pairs if p.leaks} == {"no–vortex"}
    exempt = tiny_config.with_changes(leak_exemptions={"vortex": "a vortex is a dipole"})
    found = judge_sample(sample, exempt, ignore)
    assert not found.leaks
    assert found.check.state == NOT_JUDGED  # 200 a class cannot show that nothing leaks
    assert "a vortex is a dipole" in found.check.detail


def test_exemptions_name_classes_and_do_not_change_the_hash(tiny_config: DatasetConfig) -> None:
    exempt = tiny_config.with_changes(leak_exemptions={"vortex": "why"})
    assert exempt.sha256 == tiny_config.sha256
    with pytest.raises(ValueError, match="vortx"):
        tiny_config.with_changes(leak_exemptions={"vortx": "why"})


def test_without_substructure_the_sham_classes_are_the_same(tiny_config: DatasetConfig) -> None:
    assert audit_sham(tiny_config, 60).state == PASSED
    assert audit_sham(tiny_config, 5).state == NOT_JUDGED


@pytest.mark.slow
def test_the_long_form_measures_leaks_ceilings_and_the_other_engine(tmp_path: Path) -> None:
    overrides = ["n_images=300", "shard_size=100", "n_pix=32", "supersample=1"]
    path = tmp_path / "d.zarr"
    simulate_dataset(load_dataset_config("demo", overrides), path, workers=1)
    audit = audit_dataset(path, n_resimulate=9)
    assert audit.engine_deviation_max is not None
    assert 0 < audit.engine_deviation_max < 1e-3
    assert audit.reference_engine == "jax"
    assert audit.leak_auc_max is not None
    assert set(audit.ceiling_auc) == {"no", "subhalo", "vortex"}
    assert all(0.5 < auc <= 1.0 for auc in audit.ceiling_pairs.values())
    assert state(audit, "ceilings") == PASSED
    assert state(audit, "engines agree") == PASSED


@pytest.mark.slow
def test_legacy_model_ii_is_caught(tmp_path: Path) -> None:
    path = tmp_path / "l.zarr"
    simulate_dataset(load_dataset_config("legacy_model_ii", ["n_images=600"]), path, workers=1)
    audit = audit_dataset(path, n_resimulate=3)
    assert not audit.passed
    assert not audit.is_broken  # it leaks, as its preset says; nothing else is wrong
    assert audit.leak_auc_max is not None
    assert audit.leak_auc_max > 0.95
    assert {"p50", "rad4"} <= set(audit.leaks)
    assert audit.ceiling_auc == {}  # there is no noise, so nothing bounds anything
