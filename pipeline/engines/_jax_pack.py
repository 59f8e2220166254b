"""Scenes packed into the columns of a batch, and the shape that decides which function runs.

Populations are padded to a few sizes with perturbers of no mass, so that few functions serve every
scene. Where precision allows, halos are summed as Gaussians (``_jax_halos``), and where rays are
dense, those that are shallow enough on a coarser grid and splined (PHYSICS 13). Parameters are
packed in float64 and cast once.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import EngineError
from pipeline.physics.components import FieldComponent, LightComponent, Perturbers
from pipeline.physics.fields import spline_coefficients
from pipeline.physics.geometry import Grid
from pipeline.physics.instrument import Instrument
from pipeline.physics.light import count_rate, sersic_flux
from pipeline.physics.profiles.table import PROFILES
from pipeline.physics.scene import Scene
from pipeline.physics.stamps import stamp_coefficients

type Floats = NDArray[np.float64]
type Columns = dict[str, Any]  # Any: numpy or jax arrays, one per parameter

#: Parameters that switch a profile off when they are zero.
_STRENGTHS = ("theta_E", "kappa", "a_m", "gamma1", "gamma2")
#: Distance between points of the coarse grid, arcsec: images stay within 3e-4 of their peak.
COARSE_SPACING = 0.05
#: Largest error of a halo's deflection on the coarse grid, arcsec, at its very centre.
_COARSE_ERROR = 5e-4
#: Profiles of round halos that take so many operations that matrices of Gaussians are faster.
ROUND = ("tnfw", "nfw")
#: Half-widths of the image that the centres of halos lie within, unless ``Signature.reach`` says
#: more.
NEAR_HALF_WIDTHS = 2.0
#: Halos in one product of matrices; fewer are padded to a multiple of the step.
CHUNK, _STEP = 32, 4
#: Perturbers of which a scene has one as a rule.
_ALONE = ("rod", "uniform_disc")
#: Fewer perturbers are not worth a coarse grid.
_COARSE_MIN = 24
#: Axis ratios below which the series of a power law needs more terms.
FLATTENINGS = (0.5, 0.2)
#: Parameters of the one light profile.
SERSIC = ("r_eff", "n", "e1", "e2", "center_x", "center_y")


class Signature(NamedTuple):
    """Everything about a scene that decides the shape of its compiled function."""

    macro: tuple[str, ...]
    perturbers: tuple[tuple[str, int], ...]  # profile, padded number
    n_source: int
    n_lens_light: int
    fields: tuple[int, ...] = ()  # points along the side of each
    stamps: tuple[int, ...] = ()  # pixels along the side of each image that is a source
    coarse: tuple[tuple[str, int], ...] = ()  # perturbers summed on the coarse grid
    flattening: int = 0  # how far the series of a flat power law must go
    reach: int | None = None  # doublings of NEAR_HALF_WIDTHS that hold all halos; None: exact sums


def signature(scene: Scene, grid: Grid | None = None) -> Signature:
    """Shape of a scene; populations are padded to the next size of :func:`bucket`.

    Parameters
    ----------
    scene : Scene
    grid : Grid, optional
        Allows sums of Gaussians on this grid, and the coarse grid where its rays are dense enough.

    Raises
    ------
    EngineError
        If this engine lacks a profile.
    """
    _check_profiles(scene)
    exact: dict[str, int] = {}
    coarse: dict[str, int] = {}
    is_coarse = uses_coarse(scene, grid)
    for perturbers in scene.perturbers:
        name, n = perturbers.profile, len(perturbers)
        if is_coarse:
            n_coarse = int(np.count_nonzero(shallow(perturbers)))
            coarse[name] = coarse.get(name, 0) + n_coarse
            n -= n_coarse
        exact[name] = exact.get(name, 0) + n
    stamps = _stamped(scene)
    reach = None if grid is None else _reach(scene, grid)
    return Signature(
        tuple([m.profile for m in scene.macro]),
        _sizes(exact, reach),
        padded_size(len(scene.source) - len(stamps)),
        padded_size(len(scene.lens_light)),
        tuple([field.deflection.shape[-1] for field in scene.fields]),
        tuple([len(stamp) for _, stamp in stamps]),
        _sizes(coarse, reach),
        max((_flattening(m.params["q"]) for m in scene.macro if m.profile == "epl"), default=0),
        reach,
    )


def _sizes(numbers: Mapping[str, int], reach: int | None) -> tuple[tuple[str, int], ...]:
    """Padded numbers of each profile, in the order of their names."""
    may_sum = reach is not None
    return tuple(
        [
            (name, bucket(name, n, gaussians=may_sum and name in ROUND))
            for name, n in sorted(numbers.items())
            if n
        ]
    )


def uses_coarse(scene: Scene, grid: Grid | None) -> bool:
    """Whether a coarse grid saves work: dense rays and many halos."""
    if grid is None or grid.ray_scale > COARSE_SPACING / 1.5:
        return False
    return sum(len(p) for p in scene.perturbers) >= _COARSE_MIN


def shallow(perturbers: Perturbers) -> NDArray[np.bool_]:
    """Which perturbers a spline on the coarse grid gets right to ``_COARSE_ERROR``.

    The error peaks at the centre of a halo. For NFW cusps it is at most 0.85 kappa_s times the
    spacing, kappa_s = theta_E^2/(4 r_s^2); other profiles are never approximated.
    """
    if perturbers.profile not in ROUND:
        return np.zeros(len(perturbers), bool)
    p = perturbers.params
    kappa_s = np.square(p["theta_E"] / p["scale_radius"]) / 4.0
    return np.asarray(0.85 * COARSE_SPACING * kappa_s <= _COARSE_ERROR)


def _check_profiles(scene: Scene) -> None:
    for name in (*(m.profile for m in scene.macro), *(p.profile for p in scene.perturbers)):
        if name not in PROFILES:
            raise EngineError(f"scene {scene.index}: no profile {name!r} in this engine")
    for light in (*scene.source, *scene.lens_light):
        if light.profile != "sersic" and light.stamp is None:
            raise EngineError(f"scene {scene.index}: no light profile {light.profile!r}")
    for light in scene.lens_light:
        if light.stamp is not None:
            raise EngineError(f"scene {scene.index}: the light of the lens is no image")


def _flattening(q: float) -> int:
    return sum(q < limit for limit in FLATTENINGS)


def _reach(scene: Scene, grid: Grid) -> int:
    """How often ``NEAR_HALF_WIDTHS`` must be doubled to hold the centres of all round halos."""
    farthest = 0.0
    for p in scene.perturbers:
        if p.profile in ROUND and len(p):
            places = p.params["center_x"], p.params["center_y"]
            farthest = max(farthest, *(float(np.abs(place).max()) for place in places))
    far = farthest / (NEAR_HALF_WIDTHS * grid.half_width)
    return math.ceil(math.log2(far)) if far > 1.0 else 0


def bucket(profile: str, n: int, *, gaussians: bool = False) -> int:
    """Smallest size >= n of 8, 32, 128, ...: few functions, and padding costs no time.

    Profiles that a scene has once stay alone, without a loop. Of halos summed as ``gaussians``
    padding does cost time: of few of them, sizes are multiples of 4.
    """
    if n == 1 and profile in _ALONE:
        return 1
    if gaussians and n <= CHUNK:
        return -(-n // _STEP) * _STEP
    return 8 << 2 * max(0, ((n - 1).bit_length() - 2) // 2)


def padded_size(n: int) -> int:
    """Smallest size >= n of 0, 1, 2, 4, 8, ..., for light, of which every row costs its time."""
    return 1 << (n - 1).bit_length() if n else 0


def pack(
    scenes: Sequence[Scene],
    shape: Signature,
    instruments: tuple[Instrument, ...],
    dtype: np.dtype[Any],
) -> Columns:
    """Parameters of a batch as arrays: macro (B,), perturbers and light (B, n), fields (B, ...).

    ``counts`` holds how many perturbers are worth a look: the most that a scene of the batch has.
    """
    zero_points = [i.zero_point for i in instruments]
    has_coarse = bool(shape.coarse)
    exact, coarse = (
        [[_chosen(s, name, side, has_coarse) for s in scenes] for name, _ in part]
        for side, part in ((False, shape.perturbers), (True, shape.coarse))
    )
    columns: Columns = {
        "macro": [
            _stack([s.macro[k].params for s in scenes], dtype) for k in range(len(shape.macro))
        ],
        "perturbers": [
            _population(batch, name, n, dtype)
            for batch, (name, n) in zip(exact, shape.perturbers, strict=True)
        ],
        "coarse": [
            _population(batch, name, n, dtype)
            for batch, (name, n) in zip(coarse, shape.coarse, strict=True)
        ],
        "counts": {
            "perturbers": [_most(batch) for batch in exact],
            "coarse": [_most(batch) for batch in coarse],
        },
        "source": _light([_smooth(s.source) for s in scenes], shape.n_source, zero_points, dtype),
        "lens_light": _light(
            [s.lens_light for s in scenes], shape.n_lens_light, zero_points, dtype
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
    return {name: np.array([row[name] for row in rows], dtype) for name in rows[0]}


def _chosen(scene: Scene, profile: str, coarse: bool, has_coarse: bool) -> list[Mapping[str, Any]]:
    """Columns of one profile's perturbers, those of the coarse grid or the others."""
    chosen = []
    for perturbers in scene.perturbers:
        if perturbers.profile != profile:
            continue
        params: Mapping[str, Any] = perturbers.params
        if has_coarse:
            mask = shallow(perturbers) == coarse
            params = {name: values[mask] for name, values in params.items()}
        chosen.append(params)
    return chosen


def _most(batch: Sequence[Sequence[Mapping[str, Any]]]) -> np.int32:
    return np.int32(max(sum(len(p["center_x"]) for p in populations) for populations in batch))


def _population(
    batch: Sequence[Sequence[Mapping[str, Any]]], profile: str, n: int, dtype: np.dtype[Any]
) -> Columns:
    """Columns (B, n) of one profile, padded to ``n`` with perturbers of no mass."""
    if n == 1:
        alone = [next(p for p in populations if len(p["center_x"])) for populations in batch]
        return _stack(alone, dtype)
    columns = {}
    for name in PROFILES[profile].parameter_names:
        neutral = 0.0 if name in _STRENGTHS or name.startswith("center") else 1.0
        columns[name] = np.full((len(batch), n), neutral, dtype)
        for row, populations in zip(columns[name], batch, strict=True):
            first = 0
            for params in populations:
                row[first : first + len(params[name])] = params[name]
                first += len(params[name])
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
    batch: Sequence[Sequence[LightComponent]],
    n: int,
    zero_points: Sequence[float],
    dtype: np.dtype[Any],
) -> Columns:
    """Sersic parameters (B, n) and amplitudes (B, n, C) in electron/s/arcsec^2 at r_eff."""
    dark = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0] + [0.0] * len(zero_points)
    rows = [
        [_light_row(component, zero_points) for component in components]
        + [dark] * (n - len(components))
        for components in batch
    ]
    values = np.array(rows, dtype).reshape(len(batch), n, len(dark))
    columns = {name: values[:, :, k] for k, name in enumerate(SERSIC)}
    return {**columns, "amplitude": values[:, :, len(SERSIC) :]}


def _light_row(component: LightComponent, zero_points: Sequence[float]) -> list[float]:
    p = component.params
    magnitudes = component.magnitude.tolist()
    if len(magnitudes) == 1:
        magnitudes *= len(zero_points)
    flux = sersic_flux(p["r_eff"], p["n"])
    rates = [count_rate(m, z) / flux for m, z in zip(magnitudes, zero_points, strict=True)]
    return [p[name] for name in SERSIC] + rates
