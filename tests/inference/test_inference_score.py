"""Scoring: one row per file in one order, hashes in the header, the same for any workers."""

import csv
import json
import os
import runpy
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from pipeline.checkpoint.load import load_run
from pipeline.core.errors import CheckpointError, ConfigError, OutputError, ScoringError
from pipeline.inference.images import Rejection
from pipeline.inference.prepare import Prepared
from pipeline.inference.readers import read_all
from pipeline.inference.score import ScoreSummary, iter_prepared, run_scoring, score_table
from pipeline.inference.target import Target

from .fits_samples import ring, sky_header

P_COLUMNS = ["p_no", "p_subhalo", "p_vortex"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven files: four good ones (two with equal pixels), three that cannot be scored."""
    folder = tmp_path / "sky"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for name in ("a", "b", "sub/a"):
        pixels = ring().astype("f4") + rng.normal(0, 0.1, (64, 64)).astype("f4")
        fits.PrimaryHDU(pixels, sky_header()).writeto(folder / f"{name}.fits")
    njy = fits.getdata(folder / "a.fits") * 250 + 3
    fits.PrimaryHDU(njy, sky_header()).writeto(folder / "a θ, njy.fits")
    (folder / "broken.fits").write_bytes((folder / "a.fits").read_bytes()[:9000])
    (folder / "empty.fits").touch()
    fits.PrimaryHDU(np.zeros((64, 64)), sky_header()).writeto(folder / "zero.fits")
    (folder / "notes.txt").write_text("seeing 0.8")
    return folder


EXPECTED = ["a θ, njy.fits", "a.fits", "b.fits", "broken.fits", "empty.fits", "sub/a.fits"]


def test_every_file_has_one_row_with_a_score_or_a_reason(run_folder, folder, tmp_path):
    out = tmp_path / "scores.ecsv"
    summary = run_scoring(run_folder, [folder], out)
    assert isinstance(summary, ScoreSummary)
    assert (summary.files, summary.rows, summary.scored, summary.rejected) == (7, 7, 4, 3)
    assert summary.reasons == {"unreadable": 2, "blank": 1}
    table = Table.read(out)
    assert list(table["path"]) == [*EXPECTED, "zero.fits"]
    scored = table["status"] == "scored"
    assert scored.sum() == 4
    for name in (*P_COLUMNS, "entropy", "novelty", "pixel_scale"):
        assert np.isfinite(table[name][scored]).all()
        assert table[name].mask[~scored].all()
    total = sum(table[name][scored] for name in P_COLUMNS)
    np.testing.assert_allclose(total, 1.0, atol=3e-6)
    assert all(table["reason"][~scored]) and all(table["detail"][~scored])
    best = np.argmax([table[name][scored] for name in P_COLUMNS], axis=0)
    assert [f"p_{label}" for label in table["label"][scored]] == [P_COLUMNS[k] for k in best]
    assert table["pixel_scale"].unit == "arcsec"


def test_the_header_closes_the_chain_of_hashes(run_folder, folder, tmp_path):
    run_scoring(run_folder, [folder], tmp_path / "s.ecsv")
    run = load_run(run_folder)
    meta = Table.read(tmp_path / "s.ecsv").meta
    assert meta["checkpoint_sha256"] == run.sha256
    assert meta["dataset_sha256"] == run.spec.dataset_sha256
    assert (meta["files"], meta["scored"], meta["rejected"], meta["skipped"]) == (7, 4, 3, 1)
    assert meta["versions"]["numpy"] == np.__version__


def test_a_linear_change_of_unit_does_not_change_the_score(run_folder, folder):
    table = score_table(load_run(run_folder), [folder])
    for name in P_COLUMNS:
        assert table[name][0] == pytest.approx(table[name][1], abs=2e-5)
    assert table["p_no"][0] != table["p_no"][2]  # another image scores otherwise


def test_scores_are_those_of_the_checkpoint(run_folder, folder):
    run = load_run(run_folder)
    table = score_table(run, [folder / "b.fits"])
    ((name, path, prepared),) = iter_prepared(run, [folder / "b.fits"])
    assert (name, path) == ("b.fits", folder / "b.fits")
    assert isinstance(prepared, Prepared)
    answer = run.predict(prepared.image[None])
    found = [table[column][0] for column in P_COLUMNS]
    np.testing.assert_allclose(found, answer.class_probability[0], atol=1e-6)
    assert table["novelty"][0] == pytest.approx(answer.novelty[0], abs=1e-6)


def test_workers_batches_order_and_directory_change_nothing(
    run_folder, folder, tmp_path, monkeypatch
):
    outs = [tmp_path / f"{i}.ecsv" for i in range(3)]
    run_scoring(run_folder, [folder], outs[0], workers=0)
    run_scoring(run_folder, [folder], outs[1], workers=2, batch_size=2)
    monkeypatch.chdir(folder / "sub")
    run_scoring(run_folder, ["../sub", folder, folder / "zero.fits"], outs[2], batch_size=3)
    contents = [out.read_bytes() for out in outs]
    assert contents[0] == contents[1] == contents[2]


@pytest.mark.parametrize("suffix", [".csv", ".fits", ".parquet", ".ecsv"])
def test_formats_hold_the_same_rows(run_folder, folder, tmp_path, suffix):
    run = load_run(run_folder)
    table = score_table(run, [folder])
    out = tmp_path / f"scores{suffix}"
    run_scoring(run_folder, [folder], out)
    if suffix == ".parquet":
        import pyarrow.parquet

        stored = pyarrow.parquet.read_table(out)
        columns = stored.to_pydict()
        assert json.loads(stored.schema.metadata[b"deeplense"])["checkpoint_sha256"] == run.sha256
        assert columns["novelty"][3] is None
    elif suffix == ".csv":
        with out.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        assert set(columns["checkpoint_sha256"]) == {run.sha256}
        assert columns["novelty"][3] == ""
    else:
        stored = Table.read(out)
        columns = {name: list(stored[name]) for name in stored.colnames}
        key = "CKPTSHA" if suffix == ".fits" else "checkpoint_sha256"
        assert stored.meta[key] == run.sha256
    paths = [*EXPECTED, "zero.fits"]
    if suffix == ".fits":
        paths[0] = "a \\u03b8, njy.fits"
    assert [str(path) for path in columns["path"]] == paths
    for row in (0, 1, 2, 5):
        assert float(columns["p_vortex"][row]) == pytest.approx(table["p_vortex"][row], abs=1e-9)
    assert [str(value) for value in columns["status"]] == list(table["status"])


def test_what_cannot_be_done_fails_before_a_file_is_read(run_folder, folder, tmp_path):
    (tmp_path / "nothing").mkdir()
    out = tmp_path / "scores.ecsv"
    with pytest.raises(ScoringError, match="no FITS files"):
        run_scoring(run_folder, [tmp_path / "nothing"], out)
    with pytest.raises(ScoringError, match=r"missing\.fits: no such file"):
        run_scoring(run_folder, [tmp_path / "missing.fits"], out)
    with pytest.raises(ConfigError, match=r"\.txt.*\.ecsv"):
        run_scoring(run_folder, [folder], tmp_path / "scores.txt")
    with pytest.raises(OutputError):
        run_scoring(run_folder, [folder], folder / "a.fits" / "scores.ecsv")
    with pytest.raises(CheckpointError):
        run_scoring(tmp_path / "nothing", [folder], out)
    assert not out.exists()


def test_a_folder_of_bad_files_only_still_gives_a_table(run_folder, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.fits").write_bytes(b"<html>")
    summary = run_scoring(run_folder, [tmp_path / "bad"], tmp_path / "s.csv")
    assert (summary.scored, summary.rejected) == (0, 1)
    assert (tmp_path / "s.csv").read_text().splitlines()[0].startswith("path,hdu,")


def test_memory_does_not_grow_with_the_images(run_folder, folder, tmp_path):
    def peak(n_files: int) -> int:
        many = tmp_path / str(n_files)
        many.mkdir()
        for i in range(n_files):
            (many / f"{i}.fits").hardlink_to(folder / "a.fits")
        tracemalloc.start()
        summary = run_scoring(run_folder, [many], tmp_path / "s.ecsv", batch_size=16)
        _, top = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert summary.scored == n_files
        return top

    peak(20)  # imports
    # one prepared image is 16 kB; a row may cost 4 kB
    assert peak(500) - peak(320) < 180 * 4096


def test_flags_decide_about_trust(run_folder, folder):
    fits.PrimaryHDU(fits.getdata(folder / "a.fits")).writeto(folder / "c no scale.fits")
    table = score_table(load_run(run_folder), [folder / "c no scale.fits"])
    assert "pixel_scale_unknown" in table["flags"][0].split(",")
    assert not table["trusted"][0]
    assert table["pixel_scale"].mask[0]


@pytest.mark.slow
def test_a_file_that_kills_its_reader_is_isolated(folder):
    paths = [folder / "a.fits", _Deadly("deadly.fits"), folder / "b.fits"]
    target = Target(("F814W",), 0.05, 64, is_unit_free=True)
    outcomes = list(read_all(paths, target, workers=1))
    kinds = [type(outcome.image) for outcome in outcomes]
    assert kinds == [Prepared, Rejection, Prepared]
    assert "died" in outcomes[1].image.detail


class _Deadly(type(Path())):
    """A path that ends the process that looks at it."""

    def stat(self, **_: object) -> os.stat_result:
        os._exit(9)


def _manifest(shared: Path) -> list[dict[str, str]]:
    with (shared / "fits" / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        return [row for row in csv.DictReader(stream) if not row["file"].startswith("runtime/")]


@pytest.fixture(scope="module")
def shared_scores(shared: Path, run_folder: Path) -> dict[str, dict[str, object]]:
    table = score_table(load_run(run_folder), [shared / "fits"])
    return {row["path"]: {name: row[name] for name in table.colnames} for row in table}


def test_the_test_images_have_the_outcomes_of_their_manifest(shared, shared_scores):
    wrong, n_checked = [], 0
    for case in _manifest(shared):
        row = shared_scores.get(case["file"])
        n_checked += 1
        if row is None:
            assert case["expected"] == "either" and case["reason"] == "not_fits", case["file"]
        elif case["expected"] == "either":
            # a score with a warning, or a reason; a plain .fit file and plain crops need neither
            quiet = row["status"] == "scored" and not row["flags"]
            if quiet and not case["notes"].startswith("same pixels"):
                wrong.append(f"{case['file']}: scored in silence")
        elif row["status"] != case["expected"]:
            wrong.append(f"{case['file']}: {row['status']} ({row['reason']})")
        if row is not None and row["status"] == "scored":
            assert np.isfinite([row[name] for name in (*P_COLUMNS, "novelty", "entropy")]).all()
    assert not wrong
    assert n_checked == 140
    assert set(shared_scores) <= {case["file"] for case in _manifest(shared)}


def test_groups_that_must_agree_do(shared, shared_scores):
    def scores(name: str) -> np.ndarray:
        return np.array([float(shared_scores[name][column]) for column in P_COLUMNS])

    reference = scores("nasty/reference.fits")
    same = [c["file"] for c in _manifest(shared) if c["notes"].startswith("same pixels as ref")]
    linear = ["uint16", "tiny_values", "bunit_njy", "bunit_mjysr", "negative_background"]
    n_compared = 0
    for name in (*same, *(f"nasty/{stem}.fits" for stem in linear)):
        if shared_scores[name]["status"] == "scored":
            rounded = {"nasty/int16_bscale_bzero.fits", "nasty/uint16.fits"}
            loose = name in rounded or "checksum" in name
            np.testing.assert_allclose(
                scores(name), reference, atol=5e-3 if loose else 2e-5, err_msg=name
            )
            n_compared += 1
    assert n_compared >= 28
    np.testing.assert_array_equal(
        scores("nasty/duplicate_a.fits"), scores("nasty/duplicate_b.fits")
    )
    lens = "real/hst_slacs/SDSSJ0956+5100"
    # two cut-outs of one image, whose centres differ by half a pixel
    np.testing.assert_allclose(scores(f"{lens}.fits"), scores(f"{lens}_198.fits"), atol=0.1)
    choice = shared_scores["real/euclid/102018665_NEG570040238507752998.fits"]
    assert (choice["hdu"], "hdu_choice" in choice["flags"]) == ("VIS_BGSUB", True)


def test_cases_that_cannot_be_stored(shared, run_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["make_nasty.py", "--runtime", str(tmp_path / "runtime")])
    runpy.run_path(str(shared / "fits" / "make_nasty.py"), run_name="__main__")
    table = score_table(load_run(run_folder), [tmp_path / "runtime"])
    rows = {row["path"]: row for row in table}
    assert set(rows) == {"bomb.fits.gz", "dangling.fits", "loop/again", "unreadable.fits"}
    assert rows["bomb.fits.gz"]["reason"] == "too_large"
    assert rows["dangling.fits"]["reason"] == "unreadable"
    assert rows["loop/again"]["reason"] == "unreadable"
    expected = "scored" if os.geteuid() == 0 else "rejected"
    assert rows["unreadable.fits"]["status"] == expected
