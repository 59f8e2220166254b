"""Scene configurations for the tests of scenes and engines."""

import functools
import tempfile

import numpy as np
from astropy.io import fits

from pipeline.core.config import resolve, validate
from pipeline.core.resources import sim_params
from pipeline.physics.scene import SceneConfig
from pipeline.physics.sources.base import SOURCES
from pipeline.physics.substructure.base import SUBSTRUCTURE

#: Required fields of each kind of substructure (every other field has a default).
SUBSTRUCTURE_BLOCKS = {
    "vortex": {"mass": {"kind": "log_uniform", "low": 1e9, "high": 1e10}},
    # Granules large enough to be resolved, on a small grid.
    "fdm": {
        "log10_axion_mass": {"kind": "uniform", "low": -22.8, "high": -22.5},
        "field_of_view": 3.0,
        "pixel_scale": 0.101,
        "max_cells": 256,
    },
}

SHAPE = {"e1": {"kind": "uniform", "low": -0.1, "high": 0.1}, "e2": 0.02}
SOURCE_BLOCKS = {
    "sersic": {
        "magnitude": {"kind": "uniform", "low": 21.0, "high": 23.0},
        "r_eff": {"kind": "uniform", "low": 0.1, "high": 0.3},
        "n": 1.0,
        "shape": SHAPE,
    }
}
SOURCE_BLOCKS["clumpy"] = SOURCE_BLOCKS["sersic"]


def substructure_block(kind):
    """YAML block of one kind of substructure."""
    return {"kind": kind, **SUBSTRUCTURE_BLOCKS.get(kind, {})}


def source_block(kind):
    """YAML block of one kind of source."""
    if kind == "image":
        return {"kind": kind, "path": stamp_folder().name, "magnitude": 21.5, "scale": 0.03}
    return {"kind": kind, **SOURCE_BLOCKS[kind]}


@functools.cache
def stamp_folder():
    """Temporary folder of five spiral-like stamps of different sizes, FITS and npy."""
    folder = tempfile.TemporaryDirectory()
    for k in range(5):
        pixels = galaxy(36 + 3 * k, twist=0.1 * k)
        if k % 2:
            fits.writeto(f"{folder.name}/galaxy_{k}.fits", pixels)
        else:
            np.save(f"{folder.name}/galaxy_{k}.npy", pixels)
    return folder


def galaxy(n, twist=0.0, background=5.0):
    """A smooth, lopsided galaxy of n x n pixels on a background."""
    y, x = np.mgrid[:n, :n] - (n - 1) / 2.0
    radius = np.hypot(x + 0.5 * y, 1.4 * y) / (0.12 * n)
    arms = 1.0 + 0.5 * np.cos(2.0 * np.arctan2(y, x) + radius + twist)
    return background + arms * np.exp(-(radius**2) / 2.0) * (1.0 + 0.3 * np.tanh(x / 3.0))


def scene_data(**changes):
    """Plain data of a scene configuration with one class per kind of substructure."""
    uniform = {"kind": "uniform"}
    data = {
        "macro": {
            "profile": "epl",
            "theta_E": {**uniform, "low": 0.9, "high": 1.2},
            "slope": {
                "kind": "truncated_normal",
                "mean": 2.0,
                "sigma": 0.1,
                "low": 1.7,
                "high": 2.3,
            },
            "shape": {
                "q": {**uniform, "low": 0.6, "high": 0.95},
                "phi": {**uniform, "low": 0.0, "high": 3.14},
            },
            "shear": {
                "modulus": {**uniform, "low": 0.0, "high": 0.08},
                "angle": {**uniform, "low": 0.0, "high": 3.14},
            },
            "center_x": {"kind": "normal", "mean": 0.0, "sigma": 0.03},
            "center_y": {"kind": "normal", "mean": 0.0, "sigma": 0.03},
        },
        "source": source_block("sersic"),
        "classes": {k: {"substructure": substructure_block(k)} for k in SUBSTRUCTURE.kinds()},
    }
    return {**data, **changes}


def scene_config(**changes):
    """A broad scene configuration with one class per kind of substructure."""
    return validate(scene_data(**changes), SceneConfig)


def preset_scenes(name):
    """The scene configuration of a shipped preset."""
    tree, _ = resolve(name, sim_params())
    return validate(tree["scenes"], SceneConfig)


assert {*SOURCE_BLOCKS, "image"} == set(SOURCES.kinds()), "give every source kind a block here"
