"""Scene configurations for the tests of scenes and engines."""

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
    return {"kind": kind, **SOURCE_BLOCKS.get(kind, {})}


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


assert set(SOURCE_BLOCKS) == set(SOURCES.kinds()), "give every source kind a block here"
