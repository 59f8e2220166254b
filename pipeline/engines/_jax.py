"""Heavy half of the JAX engine: one compiled function per shape of scene, batches of fixed size.

Scenes of one signature share a function, vectorised over a batch. Populations are summed by a scan,
which on a CPU keeps the rays in cache. The formulas are those of ``physics``, written once for
numpy and JAX.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from pipeline.engines import _jax_setup
from pipeline.engines._jax_pack import SERSIC, Columns, Floats, Signature, pack, signature
from pipeline.engines.base import check_fields, check_finite, check_instruments
from pipeline.physics.fields import spline
from pipeline.physics.geometry import Grid
from pipeline.physics.instrument import Instrument
from pipeline.physics.light import sersic_brightness
from pipeline.physics.profiles.table import PROFILES
from pipeline.physics.psf import Psf, blur_matrices
from pipeline.physics.scene import Scene
from pipeline.physics.stamps import PARAMETERS, stamp_brightness

if TYPE_CHECKING:
    import torch

__all__ = ["Columns", "JaxEngine", "Signature", "batch_renderer", "pack", "signature"]


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
        _jax_setup.configure()
        self._dtype = np.dtype(precision)
        self._batch_size = batch_size

    def render(
        self, scenes: Sequence[Scene], grid: Grid, instruments: tuple[Instrument, ...]
    ) -> Floats:
        """Noiseless images, shape (B, C, H, W), electron/s; see ``Engine.render``."""
        images = np.empty((len(scenes), len(instruments), grid.n_pix, grid.n_pix))
        for part, batch in self._batches(scenes, grid, instruments):
            images[part] = np.asarray(batch)[: len(part)]
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
        groups: dict[Signature, list[int]] = {}
        for position, scene in enumerate(scenes):
            check_fields(scene, grid.half_width)
            groups.setdefault(signature(scene), []).append(position)
        with jax.enable_x64(self._dtype == np.float64):
            for shape, positions in groups.items():
                render = batch_renderer(shape, grid, psfs, self._dtype.name)
                for first in range(0, len(positions), self._batch_size):
                    part = positions[first : first + self._batch_size]
                    chosen = [scenes[i] for i in part]
                    chosen += chosen[-1:] * (self._batch_size - len(part))
                    yield part, render(pack(chosen, shape, instruments, self._dtype))


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
        for stamp in columns["stamps"]:
            light = light + _stamp_light(stamp, x - alpha_x, y - alpha_y)
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
    for params in columns["fields"]:
        total = _add(total, spline(params["coefficients"], params["cell"], x, y))
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
