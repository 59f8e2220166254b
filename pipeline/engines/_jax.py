"""Heavy half of the JAX engine: one compiled function per shape of scene, batches of fixed size.

Scenes of one signature share a function, vectorised over a batch. Populations are summed by a loop,
which on a CPU keeps the rays in cache, or as products of matrices (``_jax_halos``). The formulas
are those of ``physics``, written once for numpy and JAX.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from pipeline.core.cores import usable_cores
from pipeline.engines import _jax_setup
from pipeline.engines._jax_blur import rays_to_pixels, sandwich
from pipeline.engines._jax_halos import HaloField, Pair, Sum, in_chunks
from pipeline.engines._jax_pack import (
    COARSE_SPACING,
    NEAR_HALF_WIDTHS,
    ROUND,
    SERSIC,
    Columns,
    Floats,
    Signature,
    pack,
    signature,
)
from pipeline.engines.base import check_fields, check_finite, check_instruments
from pipeline.physics.fields import spline
from pipeline.physics.geometry import Grid
from pipeline.physics.instrument import Instrument
from pipeline.physics.light import sersic_brightness
from pipeline.physics.profiles.array_api import settle
from pipeline.physics.profiles.table import PROFILES, Deflection
from pipeline.physics.psf import GaussianPsf, NoPsf, Psf
from pipeline.physics.scene import Scene
from pipeline.physics.stamps import PARAMETERS, stamp_brightness

if TYPE_CHECKING:
    import torch

__all__ = ["Columns", "JaxEngine", "Signature", "batch_renderer", "pack", "signature"]


#: From the columns of a batch to its images.
type Renderer = Callable[[Columns], jax.Array]
#: From a deflection and the columns of a scene to the deflection with its populations.
type Perturbed = Callable[[Pair, Columns], Pair]


class JaxEngine:
    """Renders scenes in compiled batches.

    Parameters
    ----------
    precision : str
        ``float32`` or ``float64``, of the rays; parameters are always drawn in float64.
    batch_size : int
    approximate : bool, optional
        Sum halos as Gaussians, and shallow ones on a coarse grid where rays are dense; by default
        in float32 only.
    """

    name = "jax"
    batch = 500

    def __init__(
        self, precision: str = "float32", batch_size: int = 16, *, approximate: bool | None = None
    ) -> None:
        _jax_setup.configure()
        self._dtype = np.dtype(precision)
        self._approximate = self._dtype == np.float32 if approximate is None else approximate
        self._batch_size = batch_size
        self._compiled: set[Renderer] = set()

    def render(
        self, scenes: Sequence[Scene], grid: Grid, instruments: tuple[Instrument, ...]
    ) -> Floats:
        """Noiseless images, shape (B, C, H, W), electron/s; see ``Engine.render``."""
        images = np.empty((len(scenes), len(instruments), grid.n_pix, grid.n_pix))
        for part, batch in self._batches(scenes, grid, instruments):
            images[part] = np.asarray(batch)[: len(part)]
        if not np.isfinite(images.sum()):
            for image, scene in zip(images, scenes, strict=True):
                check_finite(image, scene)
        return images

    def render_torch(
        self, scenes: Sequence[Scene], grid: Grid, instruments: tuple[Instrument, ...]
    ) -> "torch.Tensor":
        """Noiseless images as a tensor on JAX's device, handed over without a copy through numpy.

        Parameters
        ----------
        scenes : sequence of Scene, length B
        grid : Grid
        instruments : tuple of Instrument, length C

        Returns
        -------
        torch.Tensor, shape (B, C, H, W), electron/s
            Of the engine's precision.

        Raises
        ------
        EngineError
            As ``Engine.render``.
        """
        import torch  # heavy
        from torch.utils.dlpack import from_dlpack

        order: list[int] = []
        tensors: list[torch.Tensor] = []
        for part, batch in self._batches(scenes, grid, instruments):
            order += part
            tensors.append(from_dlpack(batch)[: len(part)])
        shape = (0, len(instruments), grid.n_pix, grid.n_pix)
        if not tensors:
            return torch.empty(shape, dtype=getattr(torch, self._dtype.name))
        images = torch.cat(tensors)[torch.tensor(np.argsort(order), device=tensors[0].device)]
        finite = torch.isfinite(images).flatten(1).all(1)
        for position in torch.nonzero(~finite).flatten().tolist():
            check_finite(images[position].double().cpu().numpy(), scenes[position])
        return images

    def _batches(
        self, scenes: Sequence[Scene], grid: Grid, instruments: tuple[Instrument, ...]
    ) -> Iterator[tuple[list[int], jax.Array]]:
        """Positions of scenes of one signature and their images, the last batch padded."""
        check_instruments(grid, instruments)
        psfs = tuple(i.psf for i in instruments)
        allowed = grid if self._approximate else None
        groups: dict[Signature, list[int]] = {}
        for position, scene in enumerate(scenes):
            check_fields(scene, grid.half_width)
            groups.setdefault(signature(scene, allowed), []).append(position)
        with jax.enable_x64(self._dtype == np.float64):
            renderers = {s: batch_renderer(s, grid, psfs, self._dtype.name) for s in groups}
        parts = {s: self._parts(s, positions, scenes) for s, positions in groups.items()}

        def packed(shape: Signature, part: list[int]) -> Columns:
            chosen = [scenes[k] for k in part]
            chosen += chosen[-1:] * (self._size(shape) - len(part))
            return pack(chosen, shape, instruments, self._dtype)

        self._compile(
            {renderers[s]: functools.partial(packed, s, first) for s, (first, *_) in parts.items()}
        )
        with jax.enable_x64(self._dtype == np.float64):
            for shape, render in renderers.items():
                for part in parts[shape]:
                    yield part, render(packed(shape, part))

    def _size(self, shape: Signature) -> int:
        n_perturbers = sum(n for _, n in (*shape.perturbers, *shape.coarse))
        return self._batch_size if n_perturbers < _RICH else min(_FEW, self._batch_size)

    def _parts(
        self, shape: Signature, positions: list[int], scenes: Sequence[Scene]
    ) -> list[list[int]]:
        """Positions of the scenes of each batch, alike in number: the richest decides its cost."""
        order = sorted(positions, key=lambda k: sum(len(p) for p in scenes[k].perturbers))
        size = self._size(shape)
        return [order[first : first + size] for first in range(0, len(order), size)]

    def _compile(self, batches: Mapping[Renderer, Callable[[], Columns]]) -> None:
        """Compile what is new, on every core: XLA works without Python's lock."""
        new = [render for render in batches if render not in self._compiled]
        self._compiled.update(new)
        if len(new) < 2:
            return  # its first call does it

        def first_call(render: Renderer) -> None:
            with jax.enable_x64(self._dtype == np.float64):
                render(batches[render]()).block_until_ready()

        with ThreadPoolExecutor(usable_cores()) as pool:
            list(pool.map(first_call, new))


#: Scenes of this many perturbers are rendered a few at a time: padding a batch would cost more.
_RICH, _FEW = 64, 2
#: Terms of the power law's series: 1e-7 and 1e-16 are left out at each limit of ``FLATTENINGS``.
_EPL_TERMS = {"float32": (16, 40, 160), "float64": (36, 92, 400)}


@functools.lru_cache(maxsize=256)
def batch_renderer(shape: Signature, grid: Grid, psfs: tuple[Psf, ...], dtype: str) -> Renderer:
    """Compiled function of a batch's columns (see :func:`pack`); one per shape, kept.

    Differentiable by JAX. Returns images (B, C, H, W), electron/s.
    """
    x, y = (jnp.asarray(axis.astype(dtype)) for axis in grid.rays())
    blurs = [rays_to_pixels(psf, grid, dtype) for psf in psfs]
    perturbed = _perturbed(shape, "perturbers", grid, grid.axis(), dtype)
    coarse = _coarse_deflection(shape, grid, dtype) if shape.coarse else None

    def render(columns: Columns) -> jax.Array:
        # Without the barriers XLA fuses the deflection into each of its users and computes it anew.
        alpha_x, alpha_y = settle(*_deflection(shape, columns, x, y, perturbed))
        if coarse is not None:
            alpha_x, alpha_y = settle(*_add((alpha_x, alpha_y), coarse(columns)))
        light = _brightness(columns["source"], shape.n_source, x - alpha_x, y - alpha_y)
        for stamp in columns["stamps"]:
            light = light + _stamp_light(stamp, x - alpha_x, y - alpha_y)
        light = light + _brightness(columns["lens_light"], shape.n_lens_light, x, y)
        (light,) = settle(light)
        bands = jnp.broadcast_to(light, (len(psfs), *x.shape))
        return jnp.stack([blur(band) for blur, band in zip(blurs, bands, strict=True)])

    axes = dict.fromkeys(
        ("macro", "perturbers", "coarse", "source", "lens_light", "fields", "stamps"), 0
    )
    batched = jax.vmap(render, in_axes=({**axes, "counts": None},))
    transforms = any(not isinstance(psf, GaussianPsf | NoPsf) for psf in psfs)
    options = _jax_setup.ONE_THREAD if transforms else None
    compiled: Renderer = jax.jit(batched, compiler_options=options)
    return compiled


def _deflection(
    shape: Signature, columns: Columns, x: jax.Array, y: jax.Array, perturbed: Perturbed
) -> Pair:
    """Total deflection of one scene on the rays, arcsec."""
    total = jnp.zeros_like(x), jnp.zeros_like(y)
    n_terms = _EPL_TERMS[x.dtype.name][shape.flattening]
    for name, params in zip(shape.macro, columns["macro"], strict=True):
        extra = {"n_terms": n_terms} if name == "epl" else {}
        total = _add(total, PROFILES[name].deflection(x, y, **params, **extra))
    total = perturbed(total, columns)
    for params in columns["fields"]:
        total = _add(total, spline(params["coefficients"], params["cell"], x, y))
    return total


def _perturbed(
    shape: Signature,
    part: Literal["perturbers", "coarse"],
    grid: Grid,
    axis: Floats,
    dtype: str,
) -> Perturbed:
    """Return the map of a deflection on rays, given along an axis, to that with populations."""
    x, y = (jnp.asarray(v.astype(dtype)) for v in np.meshgrid(axis, axis))
    sums: list[Sum] = []
    for name, n in getattr(shape, part):
        profile = PROFILES[name].deflection
        if shape.reach is not None and name in ROUND:
            reach = NEAR_HALF_WIDTHS * grid.half_width * 2**shape.reach
            sums.append(in_chunks(HaloField(profile, axis, reach), n))
        else:
            sums.append(_one_by_one(profile, n, x, y))

    def perturbed(total: Pair, columns: Columns) -> Pair:
        for add, params, count in zip(sums, columns[part], columns["counts"][part], strict=True):
            total = add(total, params, count)
        return total

    return perturbed


def _one_by_one(profile: Deflection, n: int, x: jax.Array, y: jax.Array) -> Sum:
    """Return the map that adds one perturber after another."""
    if n == 1:
        return lambda total, params, _: _add(
            total, profile(x, y, **{name: v[0] for name, v in params.items()})
        )
    # Rays in one row: a loop over two short axes takes 3 % longer.
    deflection = functools.partial(profile, x.ravel(), y.ravel())

    def add(total: Pair, params: Mapping[str, jax.Array], count: jax.Array) -> Pair:
        def step(k: jax.Array, carry: Pair) -> Pair:
            return _add(carry, deflection(**{name: v[k] for name, v in params.items()}))

        row = total[0].ravel(), total[1].ravel()
        row = jax.lax.fori_loop(0, count, step, row)
        return row[0].reshape(x.shape), row[1].reshape(x.shape)

    return add


def _coarse_deflection(shape: Signature, grid: Grid, dtype: str) -> Callable[[Columns], Pair]:
    """Deflection on the rays of the perturbers that are summed on a coarse grid."""
    from scipy.interpolate import CubicSpline  # type: ignore[import-untyped]  # heavy

    n = math.ceil(2.0 * grid.half_width / COARSE_SPACING) + 5
    points: Floats = np.asarray((np.arange(n) - (n - 1) / 2.0) * COARSE_SPACING)
    spline_matrix = CubicSpline(points, np.eye(n))(grid.axis())  # (n_rays, n)
    left = jnp.asarray(spline_matrix.astype(dtype))
    perturbed = _perturbed(shape, "coarse", grid, points, dtype)

    def deflection(columns: Columns) -> Pair:
        total = perturbed((jnp.zeros((n, n), dtype), jnp.zeros((n, n), dtype)), columns)
        return sandwich(left, total[0]), sandwich(left, total[1])

    return deflection


def _add(one: Pair, other: tuple[Any, Any]) -> Pair:  # Any: the formulas serve numpy too
    return one[0] + other[0], one[1] + other[1]


def _brightness(light: Columns, n: int, x: jax.Array, y: jax.Array) -> jax.Array:
    """Surface brightness of one scene's components in each band, shape (C, n_rays, n_rays)."""
    if n == 0:
        return jnp.zeros((1, 1, 1), x.dtype)

    def one(row: Columns) -> jax.Array:
        shape = sersic_brightness(x, y, **{name: row[name] for name in SERSIC})
        bands: jax.Array = row["amplitude"][:, None, None] * shape
        return bands

    if n == 1:
        return one({name: value[0] for name, value in light.items()})
    first = jnp.zeros((light["amplitude"].shape[1], *x.shape), x.dtype)
    total, _ = jax.lax.scan(lambda carry, row: (carry + one(row), None), first, light)
    return total


def _stamp_light(stamp: Columns, x: jax.Array, y: jax.Array) -> jax.Array:
    """Surface brightness of one image in each band, shape (C, n_rays, n_rays)."""
    place = {name: stamp[name] for name in PARAMETERS}
    bands: jax.Array = stamp["amplitude"][:, None, None] * stamp_brightness(
        x, y, stamp["coefficients"], **place
    )
    return bands
