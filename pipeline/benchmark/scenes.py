"""The scenes that every code renders in a benchmark: one lens and source, four substructures.

All are described in this package's terms; codes without a rod of mass render a vortex as 100 points
on a line, as DeepLenseSim does. N endpoint-inclusive points are the midpoint rule of a rod of half
length l N/(N-1) (PHYSICS 4.4), and the lengths here are those at which both give one image.
"""

import dataclasses
import math

import numpy as np

from pipeline.core.config import validate
from pipeline.physics.components import Perturbers
from pipeline.physics.geometry import Grid
from pipeline.physics.instrument import Instrument, load_instrument
from pipeline.physics.psf import GaussianPsf
from pipeline.physics.scene import Scene, SceneConfig, draw_scene

SCENES = ("smooth", "25 truncated NFW", "25 points", "vortex")
#: Pixels along a side -> their scale, arcsec: DeepLenseSim's Models II and I.
SIZES = {64: 0.101, 150: 0.05}
#: Points of DeepLenseSim's vortex.
N_POINTS = 100
_FWHM = 0.16
_SEED = 20
_N_PERTURBERS = 25
_LENS_PLANE = 0.5

_SMOOTH = {
    "macro": {
        "profile": "sie",
        "theta_E": {"kind": "uniform", "low": 1.2, "high": 1.4},
        "shape": {
            "q": {"kind": "uniform", "low": 0.7, "high": 0.9},
            "phi": {"kind": "uniform", "low": 0.0, "high": math.pi},
        },
        "shear": {"gamma1": 0.05, "gamma2": 0.0},
    },
    "source": {
        "kind": "sersic",
        "magnitude": 21.0,
        "r_eff": 0.25,
        "n": 1.0,
        "shape": {"e1": -0.1, "e2": 0.1},
    },
    "classes": {"smooth": {"substructure": {"kind": "smooth"}}},
}


def scenes(kind: str, n: int) -> list[Scene]:
    """Return the first ``n`` scenes of one kind; the same for everybody who asks.

    Parameters
    ----------
    kind : str
        One of ``SCENES``.
    n : int
    """
    config = validate(_SMOOTH, SceneConfig)
    rng = np.random.default_rng(_SEED)
    drawn = [draw_scene(config, _SEED, index) for index in range(n)]
    if kind == "smooth":
        return drawn
    draw = {"25 truncated NFW": _halos, "25 points": _points, "vortex": _rod}[kind]
    return [dataclasses.replace(scene, perturbers=(draw(rng),)) for scene in drawn]


def grid(size: int) -> Grid:
    """Return the grid of ``size`` pixels, one ray a pixel."""
    return Grid(size, SIZES[size], supersample=1)


def instrument(size: int) -> Instrument:
    """Return Euclid VIS at the pixel scale of ``size``, its PSF a Gaussian."""
    psf = GaussianPsf(fwhm=_FWHM, truncation=5.0)
    return load_instrument("euclid_vis").with_changes(pixel_scale=SIZES[size], psf=psf)


def rods_as_points(scene: Scene) -> Scene:
    """Return the scene with each rod replaced by 100 equal points along it."""
    perturbers = []
    for population in scene.perturbers:
        if population.profile != "rod":
            perturbers.append(population)
            continue
        p = {name: column[0] for name, column in population.params.items()}
        half = p["half_length"] * (N_POINTS - 1) / N_POINTS
        along = np.linspace(-half, half, N_POINTS)
        params = {
            "theta_E": np.full(N_POINTS, p["theta_E"] / math.sqrt(N_POINTS)),
            "center_x": p["center_x"] + along * math.cos(p["phi"]),
            "center_y": p["center_y"] + along * math.sin(p["phi"]),
        }
        perturbers.append(_population("point_mass", params))
    return dataclasses.replace(scene, perturbers=tuple(perturbers))


def _halos(rng: np.random.Generator) -> Perturbers:
    params = {
        "theta_E": rng.uniform(0.02, 0.1, _N_PERTURBERS),
        "scale_radius": rng.uniform(0.05, 0.3, _N_PERTURBERS),
        "tau": rng.uniform(2.0, 10.0, _N_PERTURBERS),
        **_places(rng),
    }
    return _population("tnfw", params)


def _points(rng: np.random.Generator) -> Perturbers:
    params = {"theta_E": rng.uniform(0.01, 0.05, _N_PERTURBERS), **_places(rng)}
    return _population("point_mass", params)


def _rod(rng: np.random.Generator) -> Perturbers:
    values = {
        "theta_E": 0.22,
        "half_length": rng.uniform(0.03, 0.3),
        "phi": rng.uniform(0.0, math.pi),
        "core": 0.0,
        "center_x": 0.0,
        "center_y": 0.0,
    }
    return _population("rod", {name: np.array([value]) for name, value in values.items()})


def _places(rng: np.random.Generator) -> dict[str, np.ndarray]:
    radius = rng.uniform(0.25, 2.0, _N_PERTURBERS)
    angle = rng.uniform(0.0, 2.0 * math.pi, _N_PERTURBERS)
    return {"center_x": radius * np.cos(angle), "center_y": radius * np.sin(angle)}


def _population(profile: str, params: dict[str, np.ndarray]) -> Perturbers:
    n = len(params["theta_E"])
    return Perturbers(profile, np.full(n, _LENS_PLANE), params, np.ones(n))
