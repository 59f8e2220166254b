"""Scenes packed into the columns of a batch, and the shape that decides which function runs.

Populations are padded to a few sizes with perturbers of no mass, so that few functions serve every
scene. Parameters are packed in float64 and cast once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import EngineError
from pipeline.physics.components import FieldComponent, LightComponent, Perturbers
from pipeline.physics.fields import spline_coefficients
from pipeline.physics.instrument import Instrument
from pipeline.physics.light import count_rate, sersic_flux
from pipeline.physics.profiles.table import PROFILES
from pipeline.physics.scene import Scene
from pipeline.physics.stamps import stamp_coefficients

type Floats = NDArray[np.float64]
type Columns = dict[str, Any]  # Any: numpy or jax arrays, one per parameter

#: Parameters that switch a profile off when they are zero.
_STRENGTHS = ("theta_E", "kappa", "a_m", "gamma1", "gamma2")
#: Parameters of the one light profile.
SERSIC = ("r_eff", "n", "e1", "e2", "center_x", "center_y")


@dataclass(frozen=True)
class Signature:
    """Everything about a scene that decides the shape of its compiled function."""

    macro: tuple[str, ...]
    perturbers: tuple[tuple[str, int], ...]  # profile, padded number
    n_source: int
    n_lens_light: int
    fields: tuple[int, ...] = ()  # points along the side of each
    stamps: tuple[int, ...] = ()  # pixels along the side of each image that is a source


def signature(scene: Scene) -> Signature:
    """Shape of a scene; populations are padded to the next size of :func:`padded_size`."""
    counts: dict[str, int] = {}
    for perturbers in scene.perturbers:
        counts[perturbers.profile] = counts.get(perturbers.profile, 0) + len(perturbers)
    known = [m.profile for m in scene.macro] + list(counts)
    for profile in known:
        if profile not in PROFILES:
            raise EngineError(f"scene {scene.index}: no profile {profile!r} in this engine")
    for light in (*scene.source, *scene.lens_light):
        if light.profile != "sersic" and light.stamp is None:
            raise EngineError(f"scene {scene.index}: no light profile {light.profile!r}")
    if any(light.stamp is not None for light in scene.lens_light):
        raise EngineError(f"scene {scene.index}: the light of the lens is no image")
    return Signature(
        macro=tuple(m.profile for m in scene.macro),
        perturbers=tuple((p, padded_size(n)) for p, n in sorted(counts.items()) if n),
        n_source=padded_size(len(scene.source) - len(_stamped(scene))),
        n_lens_light=padded_size(len(scene.lens_light)),
        fields=tuple(field.deflection.shape[-1] for field in scene.fields),
        stamps=tuple(len(stamp) for _, stamp in _stamped(scene)),
    )


def padded_size(n: int) -> int:
    """Smallest size >= n of 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, ...: at most a third is padding."""
    if n <= 4:
        return n
    power: int = 1 << (n - 1).bit_length()
    return power * 3 // 4 if n <= power * 3 // 4 else power


def pack(
    scenes: Sequence[Scene],
    shape: Signature,
    instruments: tuple[Instrument, ...],
    dtype: np.dtype[Any],
) -> Columns:
    """Parameters of a batch as arrays: macro (B,), perturbers and light (B, n), fields (B, ...)."""
    zero_points = [i.zero_point for i in instruments]
    columns: Columns = {
        "macro": [
            _stack([s.macro[k].params for s in scenes], dtype) for k in range(len(shape.macro))
        ],
        "perturbers": [
            _stack([_population(s.perturbers, name, n) for s in scenes], dtype)
            for name, n in shape.perturbers
        ],
        "source": _stack(
            [_light(_smooth(s.source), shape.n_source, zero_points) for s in scenes], dtype
        ),
        "lens_light": _stack(
            [_light(s.lens_light, shape.n_lens_light, zero_points) for s in scenes], dtype
        ),
        "fields": [
            _stack([_field(s.fields[k]) for s in scenes], dtype) for k in range(len(shape.fields))
        ],
        "stamps": [
            _stack([_stamp(*_stamped(s)[k], zero_points) for s in scenes], dtype)
            for k in range(len(shape.stamps))
        ],
    }
    return columns


def _stack(rows: Sequence[Mapping[str, Any]], dtype: np.dtype[Any]) -> Columns:
    with np.errstate(over="ignore"):  # the image is then not finite, and its scene is named
        return {name: np.array([row[name] for row in rows], dtype) for name in rows[0]}


def _population(perturbers: Sequence[Perturbers], profile: str, n: int) -> dict[str, Floats]:
    """Columns of one profile, padded to ``n`` with perturbers of no mass."""
    chosen = [p for p in perturbers if p.profile == profile]
    columns = {}
    for name in PROFILES[profile].parameter_names:
        values = np.concatenate([np.asarray(p.params[name], np.float64) for p in chosen])
        neutral = 0.0 if name in _STRENGTHS or name.startswith("center") else 1.0
        columns[name] = np.concatenate([values, np.full(n - len(values), neutral)])
    return columns


def _field(field: FieldComponent) -> dict[str, Any]:
    """Spline of a field: coefficients (2, n, n) and cell, both in arcsec."""
    return {"coefficients": spline_coefficients(field), "cell": field.cell}


def _smooth(components: Sequence[LightComponent]) -> list[LightComponent]:
    return [component for component in components if component.stamp is None]


def _stamped(scene: Scene) -> list[tuple[LightComponent, Floats]]:
    """Components of the source that are images, each with its pixels."""
    return [(c, c.stamp) for c in scene.source if c.stamp is not None]


def _stamp(
    component: LightComponent, stamp: Floats, zero_points: Sequence[float]
) -> dict[str, Any]:
    """Spline (n, n) of an image, its place, and its rates (C,) in electron/s."""
    magnitude = np.broadcast_to(component.magnitude, (len(zero_points),))
    rates = [count_rate(m, z) for m, z in zip(magnitude, zero_points, strict=True)]
    return {
        **component.params,
        "coefficients": stamp_coefficients(stamp),
        "amplitude": np.array(rates),
    }


def _light(
    components: Sequence[LightComponent], n: int, zero_points: Sequence[float]
) -> dict[str, Floats]:
    """Sersic parameters (n,) and amplitudes (n, C) in electron/s/arcsec^2 at r_eff."""
    columns = {name: np.ones(n) for name in SERSIC}
    columns["e1"], columns["e2"] = np.zeros(n), np.zeros(n)
    columns["amplitude"] = np.zeros((n, len(zero_points)))
    for k, component in enumerate(components):
        for name in SERSIC:
            columns[name][k] = component.params[name]
        magnitude = np.broadcast_to(component.magnitude, (len(zero_points),))
        flux = sersic_flux(component.params["r_eff"], component.params["n"])
        rates = [count_rate(m, z) for m, z in zip(magnitude, zero_points, strict=True)]
        columns["amplitude"][k] = np.array(rates) / flux
    return columns
