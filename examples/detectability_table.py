"""Recompute how detectable substructure is, and the floors of the axion mass; write the page.

Each entry's numbers are kept in ``detectability.json`` as soon as they are there, and the page
``detectability.md`` is written from that file, so entries can be run one by one::

    python examples/detectability_table.py legacy_i contrast_hst --lenses 1000
    python examples/detectability_table.py floor_ii --lenses 200
    python examples/detectability_table.py --list

The expected values are those of the physics specification (tables of its sections 8.4 and 10),
which come from 5 to 40 lenses an entry (84 to 200 for the floors).
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from detectability_page import page

from pipeline.core.files import atomic_write
from pipeline.dataset.config import load_dataset_config
from pipeline.detectability.floor import information_floor
from pipeline.detectability.measure import Measure, Survey
from pipeline.physics.scene import draw_scene, smooth_twin
from pipeline.statistics.ceilings import ceiling

#: The 12 macro and source parameters of the legacy table; the lens centre stays known.
TWELVE = (
    *("theta_E", "e1", "e2", "gamma1", "gamma2", "source_x", "source_y"),
    *("ln_flux", "ln_r_eff", "source_n", "source_e1", "source_e2"),
)
RING = ("theta_E", "source_x", "source_y")
INTENDED = "scenes.classes.subhalo.substructure.slope_bug=false"
FORECAST = (
    "scenes.classes.subhalo.substructure.sigma_sub=0.05",
    "scenes.classes.vortex.substructure.mass=3.0e10",
)
LIGHT = "scenes.classes.vortex.substructure.mass=4.0e9"
#: Telescope -> preset, and what differs from it.
TELESCOPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "hst": ("physical_hst", ()),
    "euclid": ("physical_euclid", ()),
    "roman": ("physical_roman", ()),
    "lsst": ("physical_lsst", ()),
    "f115w": ("physical_jwst", ("instruments=[jwst_f115w_zodiacal]",)),
    "jwst": ("physical_jwst", ()),
    "deep": (
        "physical_hst",
        (
            "instruments=[hst_acs_f814w_deep]",
            "scenes.source.magnitude={kind: uniform, low: 21.0, high: 22.5}",
            "scenes.classes.subhalo.substructure.m_min=1.0e9",
        ),
    ),
}


@dataclass(frozen=True)
class Entry:
    """One survey to measure: a preset, what to change in it, and which class."""

    preset: str
    class_name: str
    overrides: tuple[str, ...] = ()
    legacy: bool = False  # free the source, then the ring too, then twelve parameters
    leaky: bool = False  # measure without any compensation of the mean mass too
    disc: bool = False  # the macro lens keeps its ring: only the mean mass is taken away
    floor: bool = False  # the floor of the axion mass instead of d'
    free: tuple[str, ...] | None = None
    precision: Literal["float32", "float64"] = "float64"  # of the images behind a floor


def survey(entry: Entry, *more: str) -> Survey:
    """Lenses and telescope of an entry."""
    config = load_dataset_config(entry.preset, [*entry.overrides, *more])
    return Survey(config.scenes, config.seed, config.grid, config.instruments)


def entries() -> dict[str, Entry]:
    """Every entry by name."""
    found = {}
    telescopes = {
        "i": "legacy_model_i",
        "ii": "euclid_vis_legacy",
        "iii": "hst_wfc3_f160w",
    }
    for model, telescope in telescopes.items():
        preset, noise = f"legacy_model_{model}", (f"instruments=[{telescope}]",)
        found[f"legacy_{model}_vortex"] = Entry(preset, "vortex", noise, legacy=True)
        found[f"legacy_{model}_cdm"] = Entry(preset, "subhalo", noise, legacy=True)
        found[f"legacy_{model}_cdm_intended"] = Entry(
            preset, "subhalo", (*noise, INTENDED), legacy=True
        )
        found[f"floor_{model}"] = Entry(preset, "vortex", noise, floor=True)
        found[f"floor_{model}_known"] = Entry(preset, "vortex", noise, floor=True, free=())
        for name in ("subhalo", "vortex"):
            found[f"model_{model}_fixed_{name}"] = Entry(f"model_{model}_fixed", name)
    for name in ("subhalo", "vortex"):
        found[f"contrast_hst_{name}"] = Entry("contrast_hst", name)
        for where, (preset, changes) in TELESCOPES.items():
            overrides = (*FORECAST, *changes)
            leaky = name == "subhalo"
            found[f"physical_{where}_{name}"] = Entry(preset, name, overrides, leaky=leaky)
    for where, (preset, changes) in TELESCOPES.items():
        found[f"disc_{where}"] = Entry(preset, "subhalo", (*FORECAST, *changes), disc=True)
        found[f"light_{where}"] = Entry(preset, "vortex", (*FORECAST, *changes, LIGHT))
    found["floor_contrast_hst"] = Entry("contrast_hst", "vortex", floor=True)
    # Many large images, and much noise: float32 will do (medians of 10 lenses moved by 6e-5 dex).
    found["floor_i_known"] = dataclasses.replace(found["floor_i_known"], precision="float32")
    return found


def measured(entry: Entry, n: int) -> dict[str, Any]:
    """Summaries of d' over ``n`` lenses."""
    looked_at = survey(entry)
    scenes = [draw_scene(looked_at.scenes, looked_at.seed, i, entry.class_name) for i in range(n)]
    if entry.disc:
        kept = [dataclasses.replace(scene, macro=smooth_twin(scene).macro) for scene in scenes]
        return {"raw": summary(Measure(looked_at, RING, coarse=True)(kept).raw[:, 0])}
    if entry.legacy:
        twelve = Measure(looked_at, TWELVE)(scenes)
        d = {"raw": twelve.raw, "prior": twelve.prior, "all": twelve.refit}
        d["ring"] = Measure(looked_at, RING)(scenes).refit
    else:
        all_free = Measure(looked_at, coarse=True)(scenes)
        d = {"raw": all_free.raw, "prior": all_free.prior, "refit": all_free.refit}
    found: dict[str, Any] = {k: summary(v[:, 0]) for k, v in d.items()}
    bounds = ceiling(("no", entry.class_name), d["prior"][:, 0])
    found["auc"], found["auc_error"] = bounds.auc, bounds.auc_error
    found["accuracy"], found["accuracy_error"] = bounds.accuracy, bounds.accuracy_error
    if entry.legacy:
        # The share of d^2 that freeing the ring's size and the source takes away.
        found["ring_share"] = float(np.median(1.0 - d["ring"] ** 2 / d["raw"] ** 2))
    if entry.leaky:
        leaky = survey(entry, "scenes.defects.mass_leak=true")
        few = [draw_scene(leaky.scenes, leaky.seed, i, entry.class_name) for i in range(n)]
        found["leaky"] = summary(Measure(leaky, RING, coarse=True)(few).raw[:, 0])
    return found


def summary(values: np.ndarray) -> dict[str, float]:
    """Median with its standard error, mean and spread."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (400, len(values))), axis=1)
    low, high = np.percentile(values, [10, 90])
    return {
        "median": float(np.median(values)),
        "error": float(np.std(medians)),
        "mean": float(np.mean(values)),
        "p10": float(low),
        "p90": float(high),
    }


def floor(entry: Entry, n: int) -> dict[str, Any]:
    """Floor of the axion mass over ``n`` lenses."""
    found = information_floor(
        survey(entry), entry.class_name, n, free=entry.free, precision=entry.precision
    )
    n_bins = 4 if found.width > 1.9 else 3
    low = found.truth.mean() - found.width / 2.0
    edges = [low + k * found.width / n_bins for k in range(n_bins + 1)]
    inner = np.abs(found.truth + 23.0) < 0.75
    return {
        "mae": found.mae,
        "error": found.error,
        "bins": list(found.by_bin(edges)),
        "inner": float(np.mean(np.abs(found.median - found.truth)[inner])),
        "spacing": float(np.median(found.spacing)),
        "width": found.width,
        "nuisances": list(found.nuisances),
    }


def main() -> None:
    """Measure the entries named on the command line and write the page."""
    known = entries()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="ENTRY", help="a name or the start of several")
    parser.add_argument("--lenses", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--list", action="store_true", help="show the entries")
    asked = parser.parse_args()
    chosen = [
        name
        for name in known
        if name in asked.names
        or any(name.startswith(start) for start in asked.names if start not in known)
    ]
    if asked.list or (asked.names and not chosen):
        print("\n".join(known))
        return
    for name in chosen:
        start = time.monotonic()
        run: Callable[[Entry, int], dict[str, Any]] = floor if known[name].floor else measured
        numbers = run(known[name], asked.lenses)
        numbers |= {"lenses": asked.lenses, "seconds": round(time.monotonic() - start, 1)}
        write(asked.out, {name: numbers})
        print(f"{name}: {asked.lenses} lenses, {numbers['seconds']} s", flush=True)
    write(asked.out, {})


def write(out: Path, numbers: dict[str, Any]) -> None:
    """Add numbers to the file of results and write the page again."""
    path = out / "detectability.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    results |= numbers
    atomic_write(path, json.dumps(dict(sorted(results.items())), indent=1) + "\n")
    atomic_write(out / "detectability.md", page(results))


if __name__ == "__main__":
    main()
