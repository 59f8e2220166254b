"""How fast smooth lenses are fitted, and where the time goes: ``deeplense bench fit``.

Processor time an image on one core of blind fits of smooth lenses of ``contrast_hst``, beside the
time that lenstronomy takes to render one of them once, both measured in this run.
"""

import os
import time

import numpy as np
from numpy.typing import NDArray

from pipeline.benchmark.rows import Row, Rows
from pipeline.core.logs import progress
from pipeline.core.seeding import Stream, image_rng
from pipeline.dataset.config import DatasetConfig, load_dataset_config
from pipeline.engines.base import ENGINES
from pipeline.fit.config import FitConfig, LensModel, MacroModel
from pipeline.fit.fitter import Fitter
from pipeline.fit.parameters import merged_priors
from pipeline.fit.result import Fits
from pipeline.fit.scene_priors import scene_priors
from pipeline.physics.detector import expose
from pipeline.physics.scene import draw_scene

PRESET = "contrast_hst"
_SIZES = (64, 80, 128)
_AGAINST = "one image by lenstronomy"
_SMOOTH = "no"


def run(*, quick: bool) -> Rows:
    """Measure fits.

    Parameters
    ----------
    quick : bool
        Few images of one small size, for a smoke test.
    """
    sizes, n = ((32,), 4) if quick else (_SIZES, 64)
    rows: list[Row] = []
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        with progress("bench fit", len(sizes) + (not quick)) as advance:
            for n_pix in sizes:
                rows += _size(n_pix, n)
                advance()
            if not quick:
                rows += _starts(80, n)
                advance()
    finally:
        os.sched_setaffinity(0, allowed)
    notes = (
        f"blind fits of {n} smooth lenses of {PRESET}, EPL, shear and a Sersic galaxy; processor "
        "time on one core after compilation",
        "start: least squares on the bright pixels; coarse: all starts on pixels of twice the "
        "size; fine: the best on the image itself; result: residual, errors, evidence; response: "
        "masses that the model lacks",
    )
    return Rows(tuple(rows), notes)


def _size(n_pix: int, n: int) -> list[Row]:
    config = _config(n_pix)
    images = _images(config, n)
    fitter, fits, spent, total = _measured(config, images, _fit_config(config))
    render = _lenstronomy(config)
    name = f"{n_pix} x {n_pix}"
    rows = [Row(f"{name}: fit", total, "ms/image", total / render, _AGAINST)]
    rows += [Row(f"{name}: {stage}", t, "ms/image") for stage, t in spent.items()]
    rows.append(Row(f"{name}: steps on the image", float(fits.n_iterations.mean()), "steps"))
    good = 100.0 * float(np.mean(fits.chi2 < 1.1))
    rows.append(Row(f"{name}: chi2 below 1.1", good, "%"))
    del fitter
    return rows


def _starts(n_pix: int, n: int) -> list[Row]:
    """What more starts and a simpler lens cost."""
    config = _config(n_pix)
    images = _images(config, n)
    base = _fit_config(config)
    first = _measured(config, images, base)[3]
    four = base.with_changes(search=base.search.with_changes(n_starts=4))
    sie = merged_priors(FitConfig(model=LensModel(macro=MacroModel(profile="sie"))), base.priors)
    rows = []
    for name, fit in (("four starts", four), ("SIE, which does not describe them", sie)):
        total = _measured(config, images, fit)[3]
        row = Row(
            f"{n_pix} x {n_pix}, {name}: fit", total, "ms/image", total / first, "EPL, one start"
        )
        rows.append(row)
    return rows


def _measured(
    config: DatasetConfig, images: NDArray[np.float32], fit: FitConfig
) -> tuple[Fitter, Fits, dict[str, float], float]:
    """Fits, and processor time an image by stage and in all, ms."""
    fitter = Fitter(fit, config.n_pix, config.instruments, batch_size=min(64, len(images)))
    fitter.fit(images)  # compiles
    before, start = fitter.spent, time.process_time()
    fits = fitter.fit(images)
    total = 1e3 * (time.process_time() - start) / len(images)
    spent = {k: 1e3 * (v - before[k]) / len(images) for k, v in fitter.spent.items()}
    return fitter, fits, spent, total


def _config(n_pix: int) -> DatasetConfig:
    return load_dataset_config(PRESET, [f"n_pix={n_pix}"])


def _fit_config(config: DatasetConfig) -> FitConfig:
    return merged_priors(FitConfig(), scene_priors(config.scenes))


def _images(config: DatasetConfig, n: int) -> NDArray[np.float32]:
    scenes = [draw_scene(config.scenes, 1, k, _SMOOTH) for k in range(n)]
    engine = ENGINES.load("jax")
    noiseless = engine.build(engine.Config()).render(scenes, config.grid, config.instruments)
    return np.stack(
        [
            expose(image, config.instruments, image_rng(1, k, Stream.NOISE))
            for k, image in enumerate(noiseless)
        ]
    )


def _lenstronomy(config: DatasetConfig) -> float:
    """Processor time of one smooth image by lenstronomy, ms, best of several."""
    module = ENGINES.load("lenstronomy")
    engine = module.build(module.Config())
    scenes = [draw_scene(config.scenes, 1, k, _SMOOTH) for k in range(4)]
    best = np.inf
    for _ in range(3):
        start = time.process_time()
        engine.render(scenes, config.grid, config.instruments)
        best = min(best, 1e3 * (time.process_time() - start) / len(scenes))
    return float(best)
