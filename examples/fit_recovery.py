"""Are the errors of the fits right? Smooth lenses fitted blind, coverage and plots.

Smooth lenses of a preset are simulated, fitted from the image alone, and compared with the truth::

    python examples/fit_recovery.py --lenses 2000 --out recovery

writes ``recovery.json`` (coverage at 68.3 and 95.4 %, pulls, chi2, time) and ``recovery.png``.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from pipeline.core.files import atomic_path, atomic_write
from pipeline.core.seeding import Stream, image_rng
from pipeline.dataset.config import DatasetConfig, load_dataset_config
from pipeline.engines import jax as engine
from pipeline.fit.config import load_fit_config
from pipeline.fit.fitter import Fitter
from pipeline.fit.parameters import merged_priors
from pipeline.fit.result import Fits
from pipeline.fit.scene_priors import scene_priors
from pipeline.physics.detector import expose
from pipeline.physics.scene import Scene, draw_scene, smooth_twin

#: Column of the truth for each parameter whose name differs.
_TRUTH = {"source_x": ("source_x", "center_x"), "source_y": ("source_y", "center_y")}
_AT_ONCE = 256
_LEVELS = {"68": 0.6827, "95": 0.9545}


def main() -> None:
    """Parse the command line, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="contrast_hst")
    parser.add_argument("--fit", default="epl")
    parser.add_argument("--lenses", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("recovery"))
    args = parser.parse_args()
    config = load_dataset_config(args.preset)
    fit = merged_priors(load_fit_config(args.fit), scene_priors(config.scenes))
    fitter = Fitter(fit, config.n_pix, config.instruments)
    parts, truths, seconds = [], [], 0.0
    for first in range(0, args.lenses, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, args.lenses))
        scenes = [smooth_twin(draw_scene(config.scenes, args.seed, k)) for k in numbers]
        images = observed(config, scenes, args.seed)
        start = time.process_time()
        parts.append(fitter.fit(images))
        seconds += time.process_time() - start
        truths += [true_values(scene, parts[-1].names) for scene in scenes]
        print(f"{numbers.stop} lenses", flush=True)
    fits, truth = Fits.joined(parts), np.array(truths)
    summary = summarise(fits, truth, seconds)
    atomic_write(args.out.with_suffix(".json"), json.dumps(summary, indent=1) + "\n")
    draw(fits, truth, args.out.with_suffix(".png"))
    print(json.dumps({k: v for k, v in summary.items() if k != "parameters"}, indent=1))


def observed(config: DatasetConfig, scenes: list[Scene], seed: int) -> NDArray[np.float32]:
    """Exposures of scenes, (n, C, H, W)."""
    noiseless = engine.build(engine.Config()).render(scenes, config.grid, config.instruments)
    return np.stack(
        [
            expose(image, config.instruments, image_rng(seed, scene.index, Stream.NOISE))
            for image, scene in zip(noiseless, scenes, strict=True)
        ]
    )


def true_values(scene: Scene, names: tuple[str, ...]) -> list[float]:
    """True value of each parameter; NaN where the scene has no such number."""
    values = []
    for name in names:
        own, *origin = _TRUTH.get(name, (name,))
        value = scene.truth.get(own, math.nan)
        values.append(value - (scene.truth[origin[0]] if origin else 0.0))
    return values


def summarise(fits: Fits, truth: NDArray[np.float64], seconds: float) -> dict[str, Any]:
    """Coverage by parameter and of all together, chi2, and time."""
    pulls = (fits.values - truth) / fits.errors
    coverage = {k: _coverage(pulls, level) for k, level in _LEVELS.items()}
    rows = {
        name: {
            "bias": float(np.nanmean(pulls[:, k])),
            "spread": float(np.nanstd(pulls[:, k])),
            "error": float(np.nanmedian(fits.errors[:, k])),
            **{level: float(values[k]) for level, values in coverage.items()},
        }
        for k, name in enumerate(fits.names)
    }
    return {
        "lenses": len(fits),
        "chi2_below_1.1": float(np.mean(fits.chi2 < 1.1)),
        "chi2_percentiles_1_50_99_100": np.percentile(fits.chi2, [1, 50, 99, 100]).tolist(),
        "first_start": float(np.mean(fits.start == 0)),
        "cpu_ms_per_image": 1e3 * seconds / len(fits),
        **{f"coverage_{k}": float(np.nanmean(v)) for k, v in coverage.items()},
        "parameters": rows,
    }


def _coverage(pulls: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    from scipy.special import ndtri

    inside = np.abs(pulls) < ndtri(0.5 + 0.5 * level)
    return np.asarray(np.where(np.isnan(pulls).all(axis=0), np.nan, inside.mean(axis=0)))


def draw(fits: Fits, truth: NDArray[np.float64], out: Path) -> None:
    """Coverage against level for each parameter, pulls, and chi2."""
    from scipy.special import ndtri

    pulls = (fits.values - truth) / fits.errors
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    levels = np.linspace(0.02, 0.98, 49)
    for k, name in enumerate(fits.names):
        if np.isfinite(pulls[:, k]).all():
            limit = ndtri(0.5 + 0.5 * levels)
            share = (np.abs(pulls[:, k, None]) < limit).mean(axis=0)
            left.plot(levels, share - levels, lw=1, label=name)
    spread = np.sqrt(levels * (1 - levels) / len(fits))
    left.fill_between(levels, -2 * spread, 2 * spread, color="0.85", zorder=0)
    left.set(xlabel="level", ylabel="coverage - level", ylim=(-0.06, 0.06))
    left.legend(fontsize=6, ncols=2)
    middle.hist(pulls[np.isfinite(pulls)], np.linspace(-5, 5, 81), density=True, color="C0")
    x = np.linspace(-5, 5, 201)
    middle.plot(x, np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi), "k", lw=1)
    middle.set(xlabel="(fit - truth)/error, all parameters")
    right.hist(fits.chi2, 60, density=True, color="C0")
    right.set(xlabel="reduced chi2")
    with atomic_path(out) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


if __name__ == "__main__":
    main()
