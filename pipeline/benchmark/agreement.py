"""Do the engines agree? Every preset through jax and autolens, against lenstronomy (PHYSICS 11)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core.logs import progress
from pipeline.core.provenance import package_versions
from pipeline.core.resources import sim_params
from pipeline.dataset.config import DatasetConfig, load_dataset_config
from pipeline.engines.base import ENGINES, Engine
from pipeline.physics.geometry import Grid
from pipeline.physics.scene import draw_scene

REFERENCE = "lenstronomy"
ENGINES_COMPARED = ("jax", "autolens")
#: Largest and root-mean-square difference allowed, over the peak of the image.
MAX_ALLOWED, RMS_ALLOWED = 1e-3, 1e-4
#: Pixels along a side of a quick comparison: the preset's field at coarser pixels.
_QUICK_PIXELS = 28


@dataclass(frozen=True)
class Agreement:
    """One preset through one engine.

    Attributes
    ----------
    preset, engine : str
    n_scenes : int
    max_deviation, rms_deviation : float
        Of the worst scene, over the peak of its image.
    worst_class : str
        Class of the scene with the largest deviation.
    agrees : bool
        Within the tolerance of the specification.
    """

    preset: str
    engine: str
    n_scenes: int
    max_deviation: float
    rms_deviation: float
    worst_class: str
    agrees: bool


@dataclass(frozen=True)
class AgreementSummary:
    """The comparison of every preset."""

    rows: tuple[Agreement, ...]
    max_allowed: float
    rms_allowed: float
    versions: Mapping[str, str]


def presets() -> tuple[str, ...]:
    """Names of the shipped dataset presets."""
    return tuple(sorted(path.stem for path in sim_params().glob("*.yaml")))


def bench_engines(*, quick: bool = False) -> AgreementSummary:
    """Compare the engines on every preset.

    Parameters
    ----------
    quick : bool
        One scene of each class on few, large pixels; otherwise two, as the preset makes them.
    """
    names = presets()
    rows: list[Agreement] = []
    engines = {kind: _engine(kind) for kind in (REFERENCE, *ENGINES_COMPARED)}
    with progress("comparing engines", len(names), "preset") as advance:
        for name in names:
            rows += compare(name, engines, n_each=1 if quick else 2, quick=quick)
            advance(1, note=name)
    return AgreementSummary(tuple(rows), MAX_ALLOWED, RMS_ALLOWED, package_versions())


def compare(
    preset: str, engines: Mapping[str, Engine], *, n_each: int, quick: bool
) -> list[Agreement]:
    """Compare engines on the first scenes of a preset.

    Parameters
    ----------
    preset : str
    engines : Mapping
        Kind -> engine; the first is the reference.
    n_each : int
        Scenes of each class.
    quick : bool
        Few, large pixels.
    """
    config = _coarser(load_dataset_config(preset)) if quick else load_dataset_config(preset)
    n_scenes = n_each * len(config.class_names)
    scenes = [draw_scene(config.scenes, config.seed, i) for i in range(n_scenes)]
    images = {
        kind: engine.render(scenes, config.grid, config.instruments)
        for kind, engine in engines.items()
    }
    reference, *others = images
    classes = [scene.class_name for scene in scenes]
    return [_agreement(preset, kind, images[kind], images[reference], classes) for kind in others]


def _agreement(
    preset: str, kind: str, found: np.ndarray, expected: np.ndarray, classes: Sequence[str]
) -> Agreement:
    difference = (found - expected) / expected.max(axis=(1, 2, 3), keepdims=True)
    largest = np.abs(difference).max(axis=(1, 2, 3))
    rms = float(np.sqrt(np.mean(difference**2, axis=(1, 2, 3))).max())
    return Agreement(
        preset=preset,
        engine=kind,
        n_scenes=len(classes),
        max_deviation=float(largest.max()),
        rms_deviation=rms,
        worst_class=classes[int(largest.argmax())],
        agrees=bool(largest.max() <= MAX_ALLOWED and rms <= RMS_ALLOWED),
    )


def _coarser(config: DatasetConfig) -> DatasetConfig:
    scale = Grid(config.n_pix, config.pixel_scale).half_width * 2.0 / _QUICK_PIXELS
    instruments = tuple(i.with_changes(pixel_scale=scale) for i in config.instruments)
    changes = {
        "n_pix": _QUICK_PIXELS,
        "supersample": min(config.supersample, 2),
        "instruments": instruments,
    }
    return config.model_copy(update=changes)


def _engine(kind: str) -> Engine:
    module = ENGINES.load(kind)
    engine: Engine = module.build(module.Config())
    return engine
