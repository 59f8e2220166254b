"""Heavy half of the JAX engine: scenes packed into columns, one compiled function per shape.

Scenes of one signature (profiles of the macro lens, profiles and padded numbers of perturbers,
number of light components) share a function, vectorised over a batch of fixed size. Populations
are padded to a few sizes with perturbers of no mass and summed by a scan, which on a CPU keeps the
rays in cache. The formulas are those of ``physics``, written once for numpy and JAX.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import EngineError
from pipeline.engines.base import check_finite, check_instruments
from pipeline.physics.components import LightComponent, Perturbers
from pipeline.physics.geometry import Grid
from pipeline.physics.instrument import Instrument
from pipeline.physics.light import count_rate, sersic_brightness, sersic_flux
from pipeline.physics.profiles.table import PROFILES
from pipeline.physics.psf import Psf, blur_matrices
from pipeline.physics.scene import Scene

type Floats = NDArray[np.float64]
type Columns = dict[str, Any]  # Any: numpy or jax arrays, one per parameter

#: Parameters that switch a profile off when they are zero.
_STRENGTHS = ("theta_E", "kappa", "a_m", "gamma1", "gamma2")
#: Parameters of the one light profile.
_SERSIC = ("r_eff", "n", "e1", "e2", "center_x", "center_y")


@dataclass(frozen=True)
class Signature:
    """Everything about a scene that decides the shape of its compiled function."""

    macro: tuple[str, ...]
    perturbers: tuple[tuple[str, int], ...]  # profile, padded number
    n_source: int
    n_lens_light: int


class JaxEngine:
    """Renders scenes in compiled batches.

    Parameters
    ----------
    precision : str
        ``float32`` or ``float64``, of the rays; parameters are always drawn in float64.
    batch_size : int
    """

    name = "jax"
    batch = 500

    def __init__(self, precision: str = "float32", batch_size: int = 8) -> None:
        self._dtype = np.dtype(precision)
        self._batch_size = batch_size

    def render(
        self, scenes: Sequence[Scene], grid: Grid, instruments: tuple[Instrument, ...]
    ) -> Floats:
        """Noiseless images, shape (B, C, H, W), electron/s; see ``Engine.render``."""
        check_instruments(grid, instruments)
        images = np.empty((len(scenes), len(instruments), grid.n_pix, grid.n_pix))
        groups: dict[Signature, list[int]] = {}
        for position, scene in enumerate(scenes):
            groups.setdefault(signature(scene), []).append(position)
        with jax.enable_x64(self._dtype == np.float64):
            for shape, positions in groups.items():
                for first in range(0, len(positions), self._batch_size):
                    part = positions[first : first + self._batch_size]
                    images[part] = self._batch([scenes[i] for i in part], shape, grid, instruments)
        for image, scene in zip(images, scenes, strict=True):
            check_finite(image, scene)
        return images

    def _batch(
        self,
        scenes: list[Scene],
        shape: Signature,
        grid: Grid,
        instruments: tuple[Instrument, ...],
    ) -> Floats:
        padded = scenes + [scenes[-1]] * (self._batch_size - len(scenes))
        columns = pack(padded, shape, instruments, self._dtype)
        psfs = tuple(i.psf for i in instruments)
        render = batch_renderer(shape, grid, psfs, self._dtype.name)
        return np.asarray(render(columns), np.float64)[: len(scenes)]


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
        if light.profile != "sersic":
            raise EngineError(f"scene {scene.index}: no light profile {light.profile!r}")
    return Signature(
        macro=tuple(m.profile for m in scene.macro),
        perturbers=tuple((p, padded_size(n)) for p, n in sorted(counts.items()) if n),
        n_source=padded_size(len(scene.source)),
        n_lens_light=padded_size(len(scene.lens_light)),
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
    """Parameters of a batch as arrays: macro (B,), perturbers and light (n, B) each."""
    zero_points = [i.zero_point for i in instruments]
    columns: Columns = {
        "macro": [
            _stack([s.macro[k].params for s in scenes], dtype) for k in range(len(shape.macro))
        ],
        "perturbers": [
            _stack([_population(s.perturbers, name, n) for s in scenes], dtype)
            for name, n in shape.perturbers
        ],
        "source": _stack([_light(s.source, shape.n_source, zero_points) for s in scenes], dtype),
        "lens_light": _stack(
            [_light(s.lens_light, shape.n_lens_light, zero_points) for s in scenes], dtype
        ),
    }
    return columns


def _stack(rows: Sequence[Mapping[str, Any]], dtype: np.dtype[Any]) -> Columns:
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


def _light(
    components: Sequence[LightComponent], n: int, zero_points: Sequence[float]
) -> dict[str, Floats]:
    """Sersic parameters (n,) and amplitudes (n, C) in electron/s/arcsec^2 at r_eff."""
    columns = {name: np.ones(n) for name in _SERSIC}
    columns["e1"], columns["e2"] = np.zeros(n), np.zeros(n)
    columns["amplitude"] = np.zeros((n, len(zero_points)))
    for k, component in enumerate(components):
        for name in _SERSIC:
            columns[name][k] = component.params[name]
        magnitude = np.broadcast_to(component.magnitude, (len(zero_points),))
        flux = sersic_flux(component.params["r_eff"], component.params["n"])
        rates = [count_rate(m, z) for m, z in zip(magnitude, zero_points, strict=True)]
        columns["amplitude"][k] = np.array(rates) / flux
    return columns


#: XLA may not fuse across it; jax gives it no types.
_barrier: Callable[[Any], Any] = jax.lax.optimization_barrier


@functools.lru_cache(maxsize=256)
def batch_renderer(
    shape: Signature, grid: Grid, psfs: tuple[Psf, ...], dtype: str
) -> Callable[[Columns], jax.Array]:
    """Compiled function of a batch's columns (see :func:`pack`); one per shape, kept.

    Differentiable by JAX. Returns images (B, C, H, W), electron/s.
    """
    x, y = (jnp.asarray(axis, dtype) for axis in grid.rays())
    blurs = [_blur(psf, grid, dtype) for psf in psfs]

    def render(columns: Columns) -> jax.Array:
        # Without the barriers XLA fuses the deflection into each of its users and computes it anew.
        alpha_x, alpha_y = _barrier(_deflection(shape, columns, x, y))
        light = _brightness(columns["source"], shape.n_source, x - alpha_x, y - alpha_y)
        light = light + _brightness(columns["lens_light"], shape.n_lens_light, x, y)
        light = _barrier(light)
        bands = jnp.broadcast_to(light, (len(psfs), *x.shape))
        return jnp.stack([blur(band) for blur, band in zip(blurs, bands, strict=True)])

    compiled: Callable[[Columns], jax.Array] = jax.jit(jax.vmap(render))
    return compiled


def _deflection(
    shape: Signature, columns: Columns, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Total deflection of one scene on the rays, arcsec."""
    total = jnp.zeros_like(x), jnp.zeros_like(y)
    for name, params in zip(shape.macro, columns["macro"], strict=True):
        total = _add(total, PROFILES[name].deflection(x, y, **params))
    for (name, n), params in zip(shape.perturbers, columns["perturbers"], strict=True):
        deflection = PROFILES[name].deflection
        if n == 1:
            total = _add(total, deflection(x, y, **{k: v[0] for k, v in params.items()}))
            continue

        def step(
            carry: tuple[jax.Array, jax.Array],
            row: Columns,
            deflection: Callable[..., Any] = deflection,
        ) -> tuple[tuple[jax.Array, jax.Array], None]:
            return _add(carry, deflection(x, y, **row)), None

        total, _ = jax.lax.scan(step, total, params)
    return total


def _add(
    one: tuple[jax.Array, jax.Array],
    other: tuple[Any, Any],  # Any: the formulas serve numpy too
) -> tuple[jax.Array, jax.Array]:
    return one[0] + other[0], one[1] + other[1]


def _brightness(light: Columns, n: int, x: jax.Array, y: jax.Array) -> jax.Array:
    """Surface brightness of one scene's components in each band, shape (C, n_rays, n_rays)."""
    if n == 0:
        return jnp.zeros((1, 1, 1), x.dtype)

    def one(row: Columns) -> jax.Array:
        shape = sersic_brightness(x, y, **{name: row[name] for name in _SERSIC})
        bands: jax.Array = row["amplitude"][:, None, None] * shape
        return bands

    if n == 1:
        return one({name: value[0] for name, value in light.items()})
    first = jnp.zeros((light["amplitude"].shape[1], *x.shape), x.dtype)
    total, _ = jax.lax.scan(lambda carry, row: (carry + one(row), None), first, light)
    return total


def _blur(psf: Psf, grid: Grid, dtype: str) -> Callable[[jax.Array], jax.Array]:
    """Rays to pixels: mean over each pixel, PSF, times the pixel's area."""
    matrix, kernel = blur_matrices(psf, grid)
    left = jnp.asarray(matrix * grid.pixel_scale, dtype)
    if kernel is None:
        return lambda rays: left @ rays @ left.T
    stamp = jnp.asarray(kernel, dtype)
    half = len(kernel) // 2

    def blur(rays: jax.Array) -> jax.Array:
        padded = jnp.pad(left @ rays @ left.T, half, mode="edge")
        spread: jax.Array = jax.scipy.signal.fftconvolve(padded, stamp, mode="valid")
        return spread

    return blur
