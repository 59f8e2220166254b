"""The same images and the same model, fitted here, by lenstronomy and by PyAutoLens.

Smooth isothermal lenses with shear and one Sersic galaxy. Ours starts from the image alone.
lenstronomy's ``FittingSequence`` runs a particle swarm within the priors and then a simplex;
PyAutoLens runs its own search (``Nautilus``, or ``--autolens-search lbfgs``). All three get the
same noise map, PSF and rays. chi2 is what each code itself reports for its best model::

    python examples/fit_compare.py --lenses 20 --out compare.json
"""

import argparse
import json
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fit_recovery import observed
from numpy.typing import NDArray

from pipeline.core.files import atomic_write
from pipeline.dataset.config import DatasetConfig, load_dataset_config
from pipeline.fit.config import FitConfig, load_fit_config
from pipeline.fit.fitter import Fitter
from pipeline.fit.noise import Noise
from pipeline.fit.parameters import merged_priors
from pipeline.fit.scene_priors import scene_priors
from pipeline.physics.psf import FWHM_PER_SIGMA, GaussianPsf
from pipeline.physics.scene import draw_scene, smooth_twin

SIE = ("scenes.macro.slope=2.0", "n_pix=64")
#: Profiles as lenstronomy names them: start, width, smallest and largest of each parameter.
_LENSTRONOMY = {
    "lens_model": [
        {
            "theta_E": (1.0, 0.12, 0.5, 1.6),
            "e1": (0.0, 0.1, -0.5, 0.5),
            "e2": (0.0, 0.1, -0.5, 0.5),
            "center_x": (0.0, 0.03, -0.3, 0.3),
            "center_y": (0.0, 0.03, -0.3, 0.3),
        },
        {"gamma1": (0.0, 0.03, -0.3, 0.3), "gamma2": (0.0, 0.03, -0.3, 0.3)},
    ],
    "source_model": [
        {
            "R_sersic": (0.2, 0.08, 0.02, 1.0),
            "n_sersic": (1.5, 0.5, 0.4, 5.0),
            "e1": (0.0, 0.15, -0.5, 0.5),
            "e2": (0.0, 0.15, -0.5, 0.5),
            "center_x": (0.0, 0.14, -1.0, 1.0),
            "center_y": (0.0, 0.14, -1.0, 1.0),
        }
    ],
}


@dataclass(frozen=True)
class Task:
    """One image with the noise map that every code is given."""

    image: NDArray[np.float64]
    sigma: NDArray[np.float64]
    pixel_scale: float
    fwhm: float


def main() -> None:
    """Parse the command line, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lenses", type=int, default=20)
    parser.add_argument("--codes", nargs="*", default=["lenstronomy", "autolens"])
    parser.add_argument("--particles", type=int, default=100)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--autolens-search", choices=("nautilus", "lbfgs"), default="nautilus")
    parser.add_argument("--out", type=Path, default=Path("compare.json"))
    args = parser.parse_args()
    config = load_dataset_config("contrast_hst", SIE)
    fit = merged_priors(load_fit_config("sie"), scene_priors(config.scenes))
    tasks, rows = ours(config, fit, args.lenses)
    for k, task in enumerate(tasks):
        for code in args.codes:
            start = time.process_time()
            if code == "lenstronomy":
                chi2 = fit_lenstronomy(task, args.particles, args.iterations)
            else:
                chi2 = fit_autolens(task, args.autolens_search)
            rows[k][code] = {"chi2": chi2, "seconds": time.process_time() - start}
        print(json.dumps(rows[k]), flush=True)
    codes = ["ours", *args.codes]
    medians = {
        code: {
            "chi2": float(np.median([row[code]["chi2"] for row in rows])),
            "seconds": float(np.median([row[code]["seconds"] for row in rows])),
            "below_1.1": float(np.mean([row[code]["chi2"] < 1.1 for row in rows])),
        }
        for code in codes
    }
    summary = {"medians": medians, "rows": rows}
    atomic_write(args.out, json.dumps(summary, indent=1) + "\n")
    print(json.dumps(medians, indent=1))


def ours(
    config: DatasetConfig, fit: FitConfig, n: int
) -> tuple[list[Task], list[dict[str, dict[str, float]]]]:
    """Images with their noise maps, and our own fits of them under these maps."""
    scenes = [smooth_twin(draw_scene(config.scenes, 3, k)) for k in range(n)]
    images = observed(config, scenes, 3)
    own = Noise.of(config.instruments)
    sigma = np.sqrt(own.floor + own.slope * np.maximum(images, 0.0))
    fitter = Fitter(fit, config.n_pix, config.instruments, batch_size=n)
    noise = Noise.from_errors(sigma)
    fitter.fit(images, noise)  # compiles
    start = time.process_time()
    fits = fitter.fit(images, noise)
    seconds = (time.process_time() - start) / n
    instrument = config.instruments[0]
    assert isinstance(instrument.psf, GaussianPsf)
    tasks = [
        Task(image[0].astype(np.float64), s[0], instrument.pixel_scale, instrument.psf.fwhm)
        for image, s in zip(images, sigma, strict=True)
    ]
    reduced = np.sum(fits.residual**2, axis=(1, 2, 3)) / config.n_pix**2
    return tasks, [{"ours": {"chi2": float(c), "seconds": seconds}} for c in reduced]


def fit_lenstronomy(task: Task, particles: int, iterations: int) -> float:
    """Chi2 a pixel of a particle swarm and a simplex inside the priors."""
    from lenstronomy.Workflow.fitting_sequence import FittingSequence

    n_pix, half = len(task.image), task.pixel_scale * (len(task.image) - 1) / 2.0
    data = {
        "image_data": task.image,
        "noise_map": task.sigma,
        "ra_at_xy_0": -half,
        "dec_at_xy_0": -half,
        "transform_pix2angle": np.eye(2) * task.pixel_scale,
    }
    psf = {"psf_type": "GAUSSIAN", "fwhm": task.fwhm, "pixel_size": task.pixel_scale}
    numerics = {"supersampling_factor": 2, "supersampling_convolution": True}
    fixed: dict[str, list[dict[str, float]]] = {
        "lens_model": [{}, {"ra_0": 0.0, "dec_0": 0.0}],
        "source_model": [{}],
    }
    parameters = {
        kind: [
            *([_column(profile, k) for profile in profiles] for k in (0, 1)),
            fixed[kind],
            *([_column(profile, k) for profile in profiles] for k in (2, 3)),
        ]
        for kind, profiles in _LENSTRONOMY.items()
    }
    sequence = FittingSequence(
        {
            "multi_band_list": [[data, psf, numerics]],
            "multi_band_type": "multi-linear",
        },
        {"lens_model_list": ["SIE", "SHEAR"], "source_light_model_list": ["SERSIC_ELLIPSE"]},
        {},
        {"source_marg": False},
        parameters,
        verbose=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.random.seed(0)  # noqa: NPY002  # lenstronomy draws from the global state
        sequence.fit_sequence(
            [
                ["PSO", {"sigma_scale": 1.0, "n_particles": particles, "n_iterations": iterations}],
                ["SIMPLEX", {"n_iterations": 2000}],
            ]
        )
    # Without the normalisation of the noise: -chi2 / 2.
    return -2.0 * float(sequence.best_fit_likelihood()) / n_pix**2


def _column(profile: dict[str, tuple[float, float, float, float]], k: int) -> dict[str, float]:
    return {name: values[k] for name, values in profile.items()}


def fit_autolens(task: Task, search: str) -> float:
    """Chi2 a pixel of PyAutoLens's own search."""
    import autofit as af
    import autolens as al
    import jax

    jax.config.update("jax_enable_x64", True)  # it asks for float64 without saying so to JAX
    n_pix = len(task.image)
    # Its rows run downwards.
    image = al.Array2D.no_mask(task.image[::-1], pixel_scales=task.pixel_scale)
    noise = al.Array2D.no_mask(task.sigma[::-1], pixel_scales=task.pixel_scale)
    psf = al.Convolver.from_gaussian(
        shape_native=(17, 17),
        pixel_scales=task.pixel_scale / 2,
        sigma=task.fwhm / FWHM_PER_SIGMA,
        normalize=True,
        convolve_over_sample_size=2,
    )
    rays = {"over_sample_size_lp": 2, "convolve_over_sample_size_lp": 2}
    dataset = al.Imaging(data=image, noise_map=noise, psf=psf, **rays)
    mask = al.Mask2D.circular(
        shape_native=(n_pix, n_pix),
        pixel_scales=task.pixel_scale,
        radius=0.5 * task.pixel_scale * n_pix,
    )
    dataset = dataset.apply_mask(mask=mask)
    mass, bulge = af.Model(al.mp.Isothermal), af.Model(al.lp_linear.Sersic)
    mass.einstein_radius = af.UniformPrior(0.7, 1.4)
    bulge.effective_radius = af.UniformPrior(0.03, 0.6)
    bulge.sersic_index = af.UniformPrior(0.5, 3.5)
    lens = af.Model(al.Galaxy, redshift=0.5, mass=mass, shear=al.mp.ExternalShear)
    source = af.Model(al.Galaxy, redshift=1.0, bulge=bulge)
    model = af.Collection(galaxies=af.Collection(lens=lens, source=source))
    analysis = al.AnalysisImaging(dataset=dataset, use_jax=True)
    kinds: dict[str, Any] = {"nautilus": af.Nautilus, "lbfgs": af.LBFGS}
    # Without a name it keeps no samples; what it writes all the same must not lie about here.
    with tempfile.TemporaryDirectory() as folder:
        af.conf.instance.output_path = Path(folder)
        result = kinds[search]().fit(model=model, analysis=analysis)
    best = result.max_log_likelihood_fit
    return float(best.chi_squared) / int(np.sum(~np.asarray(mask)))


if __name__ == "__main__":
    main()
