"""Where a network that looks at residuals breaks.

    python examples/misfit_table.py contrast_hst misfits --images 600

Scores lenses that differ from those of the training in one respect, with the smooth fit of the
training and, where there is one, with a fit that knows of the difference. For each: AUC of
substructure against none, the share of smooth lenses that are called substructured, the share that
novelty flags, and the share of poor fits among the smooth ones. Finished rows are kept.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.checkpoint.any_run import AnyRun, load_run
from pipeline.core.files import atomic_write
from pipeline.dataset.fitted import SmoothFit
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.fit.config import FitConfig, load_fit_config
from pipeline.fit.fitter import Fitter
from pipeline.fit.parameters import merged_priors
from pipeline.fit.result import Status
from pipeline.inference.catalogue import OOD_NOVELTY
from pipeline.physics.psf import GaussianPsf
from pipeline.statistics.intervals import auc_interval
from pipeline.workflow import steps

type Floats = NDArray[np.float64]

LENS_LIGHT = (
    "scenes.lens_light={subtracted: false, components: [{magnitude: {kind: uniform, low: 19.0, "
    "high: 20.0}, r_eff: {kind: uniform, low: 0.4, high: 0.9}, n: 4.0}]}"
)


@dataclass(frozen=True)
class Case:
    """Lenses, and the changes of the fit that sees them."""

    name: str
    preset: str = "contrast_hst"
    data: tuple[str, ...] = ()
    fit: tuple[str, ...] = ()
    psf_factor: float = 1.0


MULTIPOLES = "model.macro.multipoles=[3, 4]"
SHAPELETS = "model.source={kind: shapelets, n_max: 8}"
CASES = (
    Case("as in the training"),
    Case("isothermal fit", fit=("model.macro.profile=sie",)),
    Case("multipoles", "hard_multipole"),
    Case("multipoles, fitted with them", "hard_multipole", fit=(MULTIPOLES,)),
    Case("clumpy sources", "hard_clumpy"),
    Case("clumpy sources, fitted with shapelets", "hard_clumpy", fit=(SHAPELETS,)),
    Case("halos along the line of sight", "hard_los"),
    Case("PSF of the fit 10 % too wide", psf_factor=1.1),
    Case("light of the lens", data=(LENS_LIGHT,)),
    Case("light of the lens, fitted", data=(LENS_LIGHT,), fit=("model.lens_light=1",)),
)


def changed(smooth_fit: SmoothFit, case: Case) -> SmoothFit:
    """The fit of the training with the changes of a case; priors of what it knows stay."""
    fit = smooth_fit.fit
    if case.fit:
        told: FitConfig = load_fit_config("epl", case.fit)
        held = ("slope",) if told.model.macro.profile == "sie" else ()
        known = {name: prior for name, prior in fit.priors.items() if name not in held}
        fit = merged_priors(fit.with_changes(model=told.model, priors={}), known)
    instruments = []
    for instrument in smooth_fit.instruments:
        psf = instrument.psf
        assert isinstance(psf, GaussianPsf)
        wider = psf.with_changes(fwhm=psf.fwhm * case.psf_factor)
        instruments.append(instrument.with_changes(psf=wider))
    return smooth_fit.with_changes(fit=fit, instruments=tuple(instruments))


def data_of(case: Case, out: Path, n_images: int) -> Dataset:
    """The lenses of a case, simulated once."""
    name = case.preset + ("_lens_light" if case.data else "")
    path = out / f"{name}.zarr"
    steps.simulate(case.preset, path, images=n_images, seed=7, overrides=case.data)
    return open_dataset(path)


def row(run_path: str, case: Case, out: Path, n_images: int) -> dict[str, Any]:
    """Figures of one case."""
    run = load_run(run_path)
    assert run.preprocess.smooth_fit is not None
    fit = changed(run.preprocess.smooth_fit, case)
    dataset = data_of(case, out, n_images)
    images = np.asarray(dataset.read_images(slice(None)))
    fits = Fitter(fit.fit, images.shape[-1], fit.instruments).fit(images)
    planes = np.concatenate([images, fit.planes_of(fits)], axis=1)
    probability, novelty = predicted(run, planes)
    is_smooth = np.array([dataset.class_names[k] == "no" for k in dataset.labels])
    smooth = run.class_names.index("no")
    auc, interval = auc_interval(~is_smooth, 1.0 - probability[:, smooth])
    poor = np.array([status != Status.GOOD for status in fits.status])
    return {
        "case": case.name,
        "images": len(images),
        "auc": auc,
        "interval": [interval.low, interval.high],
        "false_positives": float((probability[is_smooth].argmax(1) != smooth).mean()),
        "novel": float((novelty >= OOD_NOVELTY).mean()),
        "novel_smooth": float((novelty[is_smooth] >= OOD_NOVELTY).mean()),
        "poor_smooth": float(poor[is_smooth].mean()),
        "perturber_sigma_smooth": np.nanquantile(
            fits.perturber[is_smooth, 0], [0.5, 0.99]
        ).tolist(),
    }


def predicted(run: AnyRun, images: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Probabilities and novelty of images with the planes of their fits behind the bands."""
    probability, novelty = [], []
    for k in range(0, len(images), 64):
        values, distance = run.judged(run.prepare(images[k : k + 64]))
        answer = run.task.answer(values, run.spec.calibration)
        assert answer.class_probability is not None
        probability.append(answer.class_probability)
        novelty.append(run.rank(distance))
    return np.concatenate(probability), np.concatenate(novelty)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as Markdown."""
    lines = [
        "| lenses | AUC (95 %) | false positives | novel | poor smooth fits |",
        "| --- " * 5 + "|",
    ]
    for r in rows:
        low, high = r["interval"]
        lines.append(
            f"| {r['case']} | {r['auc']:.3f} ({low:.3f} to {high:.3f}) "
            f"| {100 * r['false_positives']:.0f} % | {100 * r['novel']:.0f} % "
            f"| {100 * r['poor_smooth']:.0f} % |"
        )
    return "\n".join(lines)


def main() -> None:
    """Fill the table, case by case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "run", help="run folder, or a network that ships, with preprocess.smooth_fit"
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=600)
    names = [case.name for case in CASES]
    parser.add_argument("--cases", nargs="+", choices=names, default=names, metavar="CASE")
    arguments = parser.parse_args()
    asked = [case for case in CASES if case.name in arguments.cases]
    fill(
        arguments.out / "misfits.json",
        asked,
        lambda case: row(arguments.run, case, arguments.out, arguments.images),
        table,
    )


def fill(
    kept: Path,
    cases: Sequence[Case],
    row_of: Callable[[Case], dict[str, Any]],
    table_of: Callable[[Sequence[dict[str, Any]]], str],
) -> None:
    """Make the rows that are not kept yet, keep each, and print it; then print all."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    rows = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else []
    done = {r["case"] for r in rows}
    for case in cases:
        if case.name not in done:
            rows.append(row_of(case))
            atomic_write(kept, json.dumps(rows, indent=1) + "\n")
            print(table_of(rows[-1:]).splitlines()[-1], flush=True)
    print(table_of(rows))


if __name__ == "__main__":
    main()
