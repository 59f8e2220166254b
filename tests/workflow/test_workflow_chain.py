"""The chain: one call makes everything, a second changes nothing, and the hashes close."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.checkpoint.spec import read_spec
from pipeline.dataset.store import open_dataset
from pipeline.inference.images import RawImage, read_image
from pipeline.report.scores_section import read_scores
from pipeline.workflow import steps
from pipeline.workflow.sample_images import write_sample_images

#: What becomes of each file with a fault, or None where it is scored.
FAULTS = {
    "blank.fits": "blank",
    "not_fits.fits": "unreadable",
    "too_small.fits": "too_small",
    "truncated.fits": "unreadable",
    "wrong_pixel_scale.fits": "pixel_scale_mismatch",
}


def _tree(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_summary_says_what_lies_on_disk(chain: Any) -> None:
    summary = chain.summary
    assert summary.images == 90
    assert 0.0 <= summary.accuracy <= 1.0
    assert summary.scored + summary.rejected == len(list(chain.folder.images.iterdir()))
    for path in (summary.report, summary.run, summary.data, summary.scores):
        assert path.exists()
        assert str(path) in summary.text


def test_hashes_close_from_report_to_dataset(chain: Any) -> None:
    dataset = open_dataset(chain.folder.data)
    spec = read_spec(chain.folder.run)
    assert spec.dataset_sha256 == dataset.sha256
    assert read_scores(chain.folder.scores).checkpoint_sha256 == spec.sha256
    html = chain.folder.report.read_text()
    for digest in (
        dataset.sha256,
        dataset.require_simulation("this test").sha256,
        spec.sha256,
        spec.config_sha256,
    ):
        assert digest in html


def test_second_call_changes_nothing(chain: Any) -> None:
    before = _tree(chain.folder.root)
    again = chain.again()
    after = _tree(chain.folder.root)
    assert again.macro_auc == chain.summary.macro_auc
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []


def test_files_with_faults_are_rejected_for_them_and_lenses_scored(chain: Any) -> None:
    rows = {row["path"]: row for row in read_scores(chain.folder.scores).rows}
    assert rows.keys() == {path.name for path in chain.folder.images.iterdir()}
    for name, row in rows.items():
        assert row["reason"] == FAULTS.get(name), name
    lens, rescaled = rows["lens_01.fits"], rows["lens_01_other_unit.fits"]
    for name in ("p_no", "p_subhalo", "p_vortex"):
        assert rescaled[name] == pytest.approx(lens[name], abs=2e-4)
    for doubtful in ("no_pixel_scale.fits", "no_lens_only_noise.fits"):
        assert not rows[doubtful]["trusted"]


def test_sample_lenses_are_in_no_dataset(chain: Any) -> None:
    images = open_dataset(chain.folder.data).read_images(slice(0, 90))[:, 0]
    raw, _ = read_image(chain.folder.images / "lens_01.fits")
    assert isinstance(raw, RawImage)
    assert raw.data.shape == (1, 24, 24)
    difference = np.abs(images - raw.data).max(axis=(1, 2))
    assert difference.min() > 0


def test_sample_images_are_the_same_every_time(chain: Any, tmp_path: Path) -> None:
    config = open_dataset(chain.folder.data).require_simulation("this test")
    assert _tree(write_sample_images(config, tmp_path / "fits")) == _tree(chain.folder.images)


def test_other_configuration_at_the_same_place_is_refused(chain: Any) -> None:
    from pipeline.core.errors import CheckpointError, DatasetMismatchError

    before = _tree(chain.folder.root)
    with pytest.raises(DatasetMismatchError, match="seed"):
        steps.simulate(chain.preset, chain.folder.data, seed=99, workers=1)
    with pytest.raises(CheckpointError, match="epochs"):
        steps.train(chain.training, chain.folder.data, chain.folder.run, epochs=9, device="cpu")
    assert _tree(chain.folder.root) == before
