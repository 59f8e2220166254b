"""The page of an audit has one verdict, every check, and pictures of what leaks."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset.audit_result import (
    FAILED,
    NOT_JUDGED,
    PASSED,
    Audit,
    Check,
    Evidence,
    Histogram,
    PairLeak,
)
from pipeline.report.audit_page import write_audit_page

NAMES = ("no", "vortex")


def audit(*checks: Check, evidence: Evidence | None = None, leaks: bool = False) -> Audit:
    pairs = tuple(
        PairLeak("no", "vortex", s, 1000, 0.7 if leaks else 0.51, 0.5, 0.013, True, leaks)
        for s in ("A", "A+B")
    )
    return Audit(
        path="folder/d.zarr",
        dataset_sha256="ab" * 32,
        images=2000,
        class_names=NAMES,
        short=False,
        complete=True,
        damaged_shards=(),
        engine="jax",
        reference_engine="lenstronomy",
        resimulated=60,
        engine_deviation_max=2.5e-6,
        engine_deviation_rms=1e-7,
        leak_auc_max=pairs[0].auc,
        leaks={"flux": 0.7} if leaks else {},
        leak_pairs=pairs if evidence else (),
        ceiling_auc={"vortex": 0.98},
        ceiling_pairs={"no–vortex": 0.98},
        checks=checks,
        seconds=1.0,
        evidence=evidence,
    )


@pytest.fixture
def evidence() -> Evidence:
    rng = np.random.default_rng(0)
    histogram = Histogram(
        "flux", 0.7, "no–vortex", np.linspace(0, 1, 11), rng.integers(1, 9, (2, 10))
    )
    means = rng.normal(size=(2, 16, 16))
    listed = {"no–vortex": (("flux", 0.7, True), ("az1", 0.52, False))}
    return Evidence(means, np.full((16, 16), 0.1), (histogram,), listed)


def test_a_leaking_dataset_has_a_page_that_names_the_leak(
    evidence: Evidence, tmp_path: Path
) -> None:
    checks = (Check("leaks", FAILED, "AUC 0.70: flux 0.700"), Check("labels", PASSED, "1000 no"))
    page = write_audit_page(audit(*checks, evidence=evidence, leaks=True), tmp_path / "a.html")
    html = page.read_text()
    assert "Not sound: d.zarr" in html
    assert "AUC 0.70: flux 0.700" in html
    assert html.count("<svg") == 2
    assert html.count("<img") == 4  # two means and their differences
    assert "2.5e-06" in html
    assert "flux: AUC 0.700" in html


def test_a_sound_dataset_has_one_verdict(evidence: Evidence, tmp_path: Path) -> None:
    ok = Check("labels", PASSED, "1000 no")
    page = write_audit_page(audit(ok, evidence=evidence), tmp_path / "a.html").read_text()
    assert "<h1>Sound: d.zarr</h1>" in page
    assert "FAILED" not in page


def test_what_could_not_be_judged_is_in_the_title(tmp_path: Path) -> None:
    few = Check("leaks", NOT_JUDGED, "100 images a class are too few")
    page = write_audit_page(audit(few), tmp_path / "a.html").read_text()
    assert "<h1>Sound as far as it could be judged: d.zarr</h1>" in page
    assert "100 images a class are too few" in page
