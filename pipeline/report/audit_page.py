"""The page of an audit: one verdict, every check, and plots of what gives the classes away."""

from pathlib import Path

import numpy as np

from pipeline.core.files import require_writable_parent
from pipeline.core.provenance import package_versions
from pipeline.dataset.audit_result import FAILED, NOT_JUDGED, PASSED, Audit, Evidence
from pipeline.report.audit_figures import leak_chart, statistic_chart
from pipeline.report.page import (
    Chart,
    Charts,
    Gallery,
    Page,
    Picture,
    PictureRow,
    Section,
    Table,
    Tile,
    write_page,
)
from pipeline.report.pictures import difference_picture, grey_picture
from pipeline.statistics.leaks import GATE_AUC, GATE_SIGMA

_MARKS = {PASSED: "✓\u00a0passed", FAILED: "✗\u00a0FAILED", NOT_JUDGED: "?\u00a0not\u00a0judged"}
#: What each check asks.
_QUESTIONS = {
    "complete": "Are all shards there?",
    "digests": "Do the bytes match what was written?",
    "re-simulation": "Do images come out the same again?",
    "engines agree": "Does another engine see the same noiseless images?",
    "nuisances": "Does a lens keep its galaxies whatever its class?",
    "labels": "Are classes balanced and splits as configured?",
    "truth": "Are the stored numbers those of the scenes?",
    "groups": "Is every real galaxy in one split only?",
    "distributions": "Are lens and source alike in all classes?",
    "finite": "Is every pixel a number?",
    "duplicates": "Is every image there once?",
    "leaks": "Do plain statistics tell the classes apart?",
    "ceilings": "Are they below what any method can reach?",
    "sham": "Without substructure, are the classes the same?",
    "contents": "And everything else?",
}


def audit_and_report(
    path: Path, out: Path | None, *, n_resimulate: int | None = None, n_sham: int = 0
) -> Audit:
    """Audit a dataset and, if ``out`` is given, write its page.

    Parameters
    ----------
    path, out : Path
    n_resimulate, n_sham : int
        As for ``audit_dataset``.
    """
    from pipeline.dataset.audit import audit_dataset

    if out is not None:
        require_writable_parent(out)
    audit = audit_dataset(path, n_resimulate=n_resimulate, n_sham=n_sham)
    if out is not None:
        write_audit_page(audit, out)
    return audit


def write_audit_page(audit: Audit, out: Path) -> Path:
    """Write one self-contained HTML file about an audit and return its path.

    Parameters
    ----------
    audit : Audit
    out : Path
    """
    title = {True: "Sound", False: "Not sound"}[audit.passed]
    if audit.passed and audit.not_judged:
        title = "Sound as far as it could be judged"
    page = Page(
        f"{title}: {Path(audit.path).name}",
        f"Audit of {audit.images:,} simulated images ({', '.join(audit.class_names)}): "
        f"{audit.verdict}.",
        _tiles(audit),
        _sections(audit),
        _next_steps(audit),
        _provenance(audit),
    )
    return write_page(page, out)


def _next_steps(audit: Audit) -> dict[str, str]:
    steps = {"The same as one JSON object": f"deeplense audit {audit.path} --json"}
    if audit.passed:
        steps["Train a network on it"] = (
            f"deeplense train demo --data {audit.path} --out runs/first"
        )
    return steps


def _tiles(audit: Audit) -> tuple[Tile, ...]:
    shards = ", ".join(map(str, audit.damaged_shards))
    tiles = [
        Tile("verdict", "passed" if audit.passed else "FAILED", audit.verdict),
        Tile("damaged shards", str(len(audit.damaged_shards)), shards),
    ]
    if audit.engine_deviation_max is not None:
        tiles.append(
            Tile(
                "engine deviation",
                f"{audit.engine_deviation_max:.1e}",
                f"largest, of the peak; {audit.engine} against {audit.reference_engine}, "
                f"{audit.resimulated} images",
            )
        )
    if audit.leak_auc_max is not None:
        note = f"0.5 is guessing, the gate is at {GATE_AUC}"
        tiles.append(Tile("largest gated leak AUC", f"{audit.leak_auc_max:.3f}", note))
    for name, auc in audit.ceiling_auc.items():
        tiles.append(
            Tile(f"ceiling, {name}", f"{auc:.3f}", "AUC against the rest that no method can exceed")
        )
    return tuple(tiles)


def _sections(audit: Audit) -> tuple[Section, ...]:
    rows = tuple((_MARKS[c.state], _QUESTIONS.get(c.name, c.name), c.detail) for c in audit.checks)
    lead = "Every question that was asked of the dataset. One failure fails it."
    checks = Section("Checks", lead, (Table(("answer", "question", "what was found"), rows),))
    if not audit.leak_pairs or audit.evidence is None:
        return (checks,)
    return checks, _leak_section(audit, audit.evidence), _means_section(audit, audit.evidence)


def _leak_section(audit: Audit, evidence: Evidence) -> Section:
    lead = (
        "Set A (brightness, moments, ring, radial profile) must tell no two classes apart: a "
        "network could score on it without seeing substructure. Set B (asymmetry, power spectrum, "
        "azimuthal moments) may hold genuine signal; with A it is gated against the smooth class."
    )
    gate = Chart(
        leak_chart(audit.leak_pairs, GATE_AUC, GATE_SIGMA),
        f"Cross-validated AUC of two classifiers on 41 plain statistics of each image, after the "
        f"network's own scaling; {min(p.n_per_class for p in audit.leak_pairs):,} images a class. "
        f"Bars are {GATE_SIGMA} standard errors: a pair leaks where its bar is wholly above the "
        "gate.",
    )
    histograms = tuple(
        Chart(statistic_chart(h, audit.class_names), _told(h.name in audit.leaks))
        for h in evidence.histograms
    )
    return Section(
        "What plain statistics give away",
        lead,
        (Charts((gate,)), Charts(histograms), _leak_table(evidence)),
    )


def _told(leaks: bool) -> str:
    return "Leaks: alone it is above the gate." if leaks else "One of those that tell most."


def _leak_table(evidence: Evidence) -> Table:
    rows = tuple(
        (pair, name, f"{auc:.3f}", "leaks" if leaks else "")
        for pair, listed in evidence.single_auc.items()
        for name, auc, leaks in listed
    )
    return Table(
        ("pair", "statistic", "AUC alone", ""),
        rows,
        "The statistics that tell most in each pair, whichever class they are larger in, and "
        "whether they are gated there and above the gate.",
        numeric=(2,),
    )


def _means_section(audit: Audit, evidence: Evidence) -> Section:
    means, error = evidence.mean_images, evidence.mean_error
    low, high = float(means.min()), float(means.max())
    reference = means.mean(axis=0)
    change = (means - reference) / np.where(error > 0, error, 1.0)
    limit = float(max(np.abs(change).max(), 3.0))
    rows = (
        PictureRow(
            "mean image",
            tuple(
                Picture(grey_picture(mean, low, max(high, low + 1e-9)), f"mean of {name}")
                for name, mean in zip(audit.class_names, means, strict=True)
            ),
        ),
        PictureRow(
            "minus mean of all",
            tuple(
                Picture(difference_picture(picture, limit), f"{name} minus the mean of all")
                for name, picture in zip(audit.class_names, change, strict=True)
            ),
        ),
    )
    caption = (
        "The mean of each class as the network sees it, and how it differs from the mean of all "
        f"classes in standard errors (red larger, blue smaller, full colour ±{limit:.1f}). A ring "
        "in the lower row means that the size or the brightness of the ring gives a class away."
    )
    return Section("Mean of each class", "", (Gallery(rows, caption, audit.class_names),))


def _provenance(audit: Audit) -> dict[str, str]:
    found = {"dataset sha256": audit.dataset_sha256 or "not complete", "engine": audit.engine}
    return found | {"versions, audit": ", ".join(f"{k} {v}" for k, v in package_versions().items())}
