"""Several runs and symmetric copies as one answer, and what a whole folder says."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.votable import parse_single_table, validate
from astropy.table import Table

from pipeline.checkpoint.load import load_run
from pipeline.core.errors import ConfigError
from pipeline.inference.catalogue import Catalogue
from pipeline.inference.ensemble import Ensemble, knows_symmetries
from pipeline.inference.population import estimate_population
from pipeline.inference.score import run_scoring, score_table

from ..checkpoint.untrained_run import write_run
from .fits_samples import ring, sky_header

P = ("p_no", "p_subhalo", "p_vortex")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(2)
    return (ring() + rng.normal(0, 0.1, (5, 1, 64, 64))).astype(np.float32)


def test_the_average_over_symmetries_is_the_same_for_every_turned_copy(run_folder, images):
    ensemble = Ensemble([load_run(run_folder)], symmetries=8)
    expected = ensemble.predict(images).prediction
    for k in range(8):
        copy = np.rot90(images, k % 4, axes=(-2, -1))
        copy = np.ascontiguousarray(copy[..., ::-1] if k > 3 else copy)
        found = ensemble.predict(copy).prediction
        np.testing.assert_allclose(found.class_probability, expected.class_probability, atol=2e-6)
        np.testing.assert_allclose(found.novelty, expected.novelty, atol=0.011)
    single = Ensemble([load_run(run_folder)], symmetries=1)
    turned = single.predict(np.ascontiguousarray(np.rot90(images, 1, axes=(-2, -1)))).prediction
    other = single.predict(images).prediction.class_probability
    assert np.abs(turned.class_probability - other).max() > 1e-4


def test_an_answer_does_not_depend_on_the_images_beside_it(run_folder, images):
    ensemble = Ensemble([load_run(run_folder)], symmetries=1, batch_size=5)
    together = ensemble.predict(images).prediction.class_probability
    alone = [ensemble.predict(images[i : i + 1]).prediction.class_probability for i in range(5)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_symmetries_are_averaged_by_default_only_where_the_network_learnt_them(
    run_folder, tmp_path
):
    assert not knows_symmetries(run_folder)
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text("augment:\n  enabled: true\n")
    assert knows_symmetries(tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text("augment: {enabled: true, flip: false}\n")
    assert not knows_symmetries(tmp_path / "run")
    with pytest.raises(ConfigError, match="symmetries"):
        Ensemble([load_run(run_folder)], symmetries=3)


@pytest.fixture(scope="module")
def second_run(run_folder, tmp_path_factory) -> Path:
    """The same checkpoint with other calibration: another opinion."""
    from pipeline.checkpoint.spec import read_spec, write_spec

    folder = tmp_path_factory.mktemp("second") / "run"
    shutil.copytree(run_folder, folder)
    write_spec(folder, read_spec(folder).with_changes(calibration={"temperature": 0.02}))
    return folder


def test_an_ensemble_is_the_mean_of_its_runs_and_tells_their_spread(
    run_folder, second_run, images, tmp_path
):
    fits.PrimaryHDU(images[0, 0], sky_header()).writeto(tmp_path / "a.fits")
    runs = [load_run(run_folder), load_run(second_run)]
    single = [score_table(run, [tmp_path / "a.fits"]) for run in runs]
    out = tmp_path / "both.ecsv"
    run_scoring([run_folder, second_run], [tmp_path / "a.fits"], out, workers=0)
    both = Table.read(out)
    for name in P:
        values = [table[name][0] for table in single]
        assert both[name][0] == pytest.approx(np.mean(values), abs=2e-6)
    label = f"p_{both['label'][0]}"
    spread = np.std([table[label][0] for table in single], ddof=1)
    assert both["p_spread"][0] == pytest.approx(spread, abs=2e-6) and spread > 0
    assert both.meta["checkpoints"] == [run.sha256 for run in runs]
    assert both.meta["checkpoint_sha256"] not in both.meta["checkpoints"]


def test_runs_that_see_other_pixels_do_not_make_an_ensemble(run_folder, tmp_path):
    from pipeline.checkpoint.spec import read_spec, write_spec

    shutil.copytree(run_folder, tmp_path / "run")
    spec = read_spec(run_folder)
    changed = spec.preprocess.with_changes(pixel_scale=0.1)
    write_spec(tmp_path / "run", spec.with_changes(preprocess=changed))
    with pytest.raises(ConfigError, match="pixel scale"):
        Ensemble([load_run(run_folder), load_run(tmp_path / "run")])


def test_a_votable_is_valid_and_says_what_its_columns_are(run_folder, images, tmp_path, capsys):
    fits.PrimaryHDU(images[0, 0], sky_header()).writeto(tmp_path / "a.fits")
    (tmp_path / "b.fits").touch()
    out = tmp_path / "scores.vot"
    run_scoring(run_folder, [tmp_path], out, workers=0)
    with out.open("rb") as stream:
        assert validate(stream, output=None), validate(out.open("rb"))
    table = parse_single_table(out)
    ucds = {field.name: field.ucd for field in table.fields}
    assert ucds["ra"] == "pos.eq.ra;meta.main" and ucds["p_no"] == "stat.probability"
    assert list(table.to_table()["status"]) == ["scored", "rejected"]


CONFUSION = np.array([[420, 60, 20], [80, 400, 20], [10, 20, 470]])


def _table(n: int, labels: list[str], novelty: np.ndarray) -> Catalogue:
    table = Catalogue([str(i) for i in range(n)], ("no", "subhalo", "vortex"), ())
    for row in range(n):
        table.put(row, {"scored": True, "label": labels[row], "novelty": float(novelty[row])})
    return table


@pytest.fixture
def evaluated(run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "run")
    run = load_run(tmp_path / "run")
    content = {"confusion": CONFUSION.tolist(), "checkpoint_sha256": run.sha256}
    (run.path / "evaluation.json").write_text(json.dumps(content))
    return run


def test_fractions_are_given_for_known_images_and_refused_for_foreign_ones(evaluated):
    rng = np.random.default_rng(0)
    names = ["no", "subhalo", "vortex"]
    expected = np.array([0.2, 0.3, 0.5]) @ (CONFUSION / CONFUSION.sum(axis=1, keepdims=True))
    counts = np.round(200 * expected).astype(int)
    labels = np.repeat(names, counts).tolist()
    found = estimate_population([evaluated], _table(200, labels, rng.uniform(0, 0.98, 200)))
    low, high = found["fractions"]["vortex"][1:]
    assert low < 0.5 < high and high - low < 0.2 and found["images"] == 200
    foreign = estimate_population([evaluated], _table(200, labels, rng.uniform(0.8, 1.0, 200)))
    assert "unlike the simulations" in foreign["refused"]
    few = estimate_population([evaluated], _table(3, labels, np.zeros(3)))
    assert "at least" in few["refused"]


def test_fractions_need_the_confusion_of_this_very_checkpoint(run_folder, evaluated):
    table = _table(50, ["no"] * 50, np.zeros(50))
    assert "evaluate" in estimate_population([load_run(run_folder)], table)["refused"]
    (evaluated.path / "evaluation.json").write_text(
        json.dumps({"confusion": CONFUSION.tolist(), "checkpoint_sha256": "0" * 64})
    )
    assert "another checkpoint" in estimate_population([evaluated], table)["refused"]


def test_quantiles_are_those_the_task_offers_else_gaussian():
    from pipeline.inference.columns import QUANTILES, target_columns, target_values
    from pipeline.tasks.base import TargetTransform

    target = TargetTransform.model_construct(
        name="axion_mass", unit="eV", function="log10", mean=-22.0, std=0.5
    )
    mean, std = np.array([-22.0, -23.0]), np.array([0.1, 0.2])
    gaussian = target_values(target, mean, std, None, None)
    assert gaussian.keys() == target_columns(target, is_ensemble=False).keys()
    np.testing.assert_allclose(gaussian["axion_mass"], 10.0**mean)
    np.testing.assert_allclose(gaussian["log10_axion_mass_q95"], mean + 1.6448536 * std)
    np.testing.assert_allclose(gaussian["log10_axion_mass_q50"], mean)
    offered = np.arange(2.0 * len(QUANTILES)).reshape(2, -1)
    values = target_values(target, mean, std, offered, None)
    np.testing.assert_array_equal(
        [values[f"log10_axion_mass_{name}"] for name in QUANTILES], offered.T
    )


def test_a_run_that_classifies_and_measures_answers_both(tmp_path: Path, picture, write) -> None:
    spec = write_run(tmp_path / "run", task="joint")
    (found,) = score_table(load_run(tmp_path / "run"), [write(picture)])
    assert sum(found[f"p_{name}"] for name in spec.class_names) == pytest.approx(1.0, abs=1e-5)
    assert found["log10_axion_mass_q05"] <= found["log10_axion_mass_q95"]
