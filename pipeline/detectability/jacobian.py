"""Derivatives of a smooth lens's noiseless image by its nuisances: forward mode, float64, batched.

The image is the JAX engine's own compiled function, so the PSF, several bands and every profile it
knows are differentiated exactly. Batches have a fixed size; each shape of scene compiles once.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pipeline.detectability.nuisances import MULTIPOLES, VORTEX, nuisance_names
from pipeline.engines import _jax_setup
from pipeline.engines._jax import batch_renderer
from pipeline.engines._jax_pack import Columns, Signature, pack, signature
from pipeline.physics.geometry import Grid, axis_ratio_angle, ellipticity
from pipeline.physics.instrument import Instrument
from pipeline.physics.light import sersic_b
from pipeline.physics.psf import Psf
from pipeline.physics.scene import Scene

type Floats = NDArray[np.float64]

#: Scenes of one compiled call; the last batch is padded.
BATCH_SIZE = 4
#: Angles of a round shape are undefined: a rounder one is differentiated at this ellipticity.
_ROUNDEST = 1e-6
#: Nuisances of the source that change more than its place.
_SHAPE = {"ln_flux", "ln_r_eff", "source_n", "source_e1", "source_e2"}


@dataclass(frozen=True)
class Jacobians:
    """Jacobians of scenes of one shape.

    Attributes
    ----------
    positions : tuple of int
        Where the scenes stood in the sequence that was asked for.
    names : tuple of str, length K
        Nuisances, see ``nuisance_names``; clumps that only pad a batch have derivatives of zero.
    values : Floats, shape (b, C, H, W, K)
        Derivatives of the image, electron/s per unit of the nuisance.
    """

    positions: tuple[int, ...]
    names: tuple[str, ...]
    values: Floats


def jacobians(
    scenes: Sequence[Scene],
    grid: Grid,
    instruments: tuple[Instrument, ...],
    only: tuple[str, ...] | None = None,
) -> Iterator[Jacobians]:
    """Jacobians of scenes, a batch at a time so that memory stays bounded.

    Parameters
    ----------
    scenes : sequence of Scene
        Smooth twins as a rule; substructure in them stays where it is.
    grid : Grid
    instruments : tuple of Instrument, length C
    only : tuple of str, optional
        Nuisances wanted, those of ``VORTEX`` too; by default all of the smooth lens.

    Yields
    ------
    Jacobians
    """
    _jax_setup.configure()
    groups: dict[tuple[Signature, tuple[str, ...]], list[int]] = {}
    for position, scene in enumerate(scenes):
        shape = signature(scene)
        names = _ordered(only) if only else _padded(nuisance_names(scene), shape)
        groups.setdefault((shape, names), []).append(position)
    psfs = tuple(instrument.psf for instrument in instruments)
    for (shape, names), positions in groups.items():
        for first in range(0, len(positions), BATCH_SIZE):
            part = positions[first : first + BATCH_SIZE]
            padded = [scenes[i] for i in part] + [scenes[part[-1]]] * (BATCH_SIZE - len(part))
            with jax.enable_x64(True):
                columns = pack(padded, shape, instruments, np.dtype(np.float64))
                found = np.asarray(_compiled(shape, names, grid, psfs)(columns))
            # (K, B, C, H, W) -> (b, C, H, W, K)
            yield Jacobians(tuple(part), names, np.moveaxis(found, 0, -1)[: len(part)])


@functools.lru_cache(maxsize=64)
def _compiled(
    shape: Signature, names: tuple[str, ...], grid: Grid, psfs: tuple[Psf, ...]
) -> Callable[[Columns], jax.Array]:
    """Compiled Jacobian, shape (K, B, C, H, W), of a batch's columns."""
    render = batch_renderer(shape, grid, psfs, "float64")

    def jacobian(columns: Columns) -> jax.Array:
        parts = []
        # Apart, what moves only the source or the shear never costs derivatives of the ellipsoid.
        for group in _groups(names):

            def image(offsets: jax.Array, group: tuple[str, ...] = group) -> jax.Array:
                step = dict(zip(group, offsets.T, strict=True))
                return render(_shifted(columns, shape, step))

            origin = jnp.zeros((BATCH_SIZE, len(group)))

            def along(
                direction: jax.Array,
                image: Callable[[jax.Array], jax.Array] = image,
                origin: jax.Array = origin,
            ) -> jax.Array:
                tangent = jnp.broadcast_to(direction, origin.shape)
                derivative: jax.Array = jax.jvp(image, (origin,), (tangent,))[1]
                return derivative

            parts.append(jax.vmap(along)(jnp.eye(len(group))))
        return jnp.concatenate(parts)

    compiled: Callable[[Columns], jax.Array] = jax.jit(jacobian)
    return compiled


def _padded(names: tuple[str, ...], shape: Signature) -> tuple[str, ...]:
    """Names with one clump for each padded component of the source."""
    smooth = tuple(name for name in names if not name.startswith("ln_clump"))
    return smooth + tuple(f"ln_clump_{k}" for k in range(1, shape.n_source))


def _groups(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Consecutive nuisances of the ellipsoid, the further masses, the source and a vortex."""
    groups: dict[int, list[str]] = {}
    for name in names:
        groups.setdefault(_rank(name), []).append(name)
    return [tuple(groups[rank]) for rank in sorted(groups)]


def _ordered(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(names, key=_rank))


def _rank(name: str) -> int:
    if name in ("theta_E", "slope", "e1", "e2", "center_x", "center_y"):
        return 0
    if name in VORTEX:
        return 3
    return 2 if name.startswith(("source", "ln_")) else 1


def _shifted(columns: Columns, shape: Signature, step: dict[str, jax.Array]) -> Columns:
    """Columns with each nuisance of ``step`` moved by its offset, shape (B,)."""
    x, y = step.get("center_x", 0.0), step.get("center_y", 0.0)
    macro = []
    for k, (profile, params) in enumerate(zip(shape.macro, columns["macro"], strict=True)):
        moved = {**params, "center_x": params["center_x"] + x, "center_y": params["center_y"] + y}
        if k == 0:
            moved["theta_E"] = params["theta_E"] + step.get("theta_E", 0.0)
        for name in ("slope", "gamma1", "gamma2"):
            if name in params:
                moved[name] = params[name] + step.get(name, 0.0)
        if profile in MULTIPOLES:
            moved["a_m"] = params["a_m"] + step.get(f"a_m_{k}", 0.0)
            moved["phi_m"] = params["phi_m"] + step.get(f"phi_m_{k}", 0.0)
        if "q" in params and ("e1" in step or "e2" in step):
            e1, e2 = ellipticity(jnp.asarray(params["q"]), jnp.asarray(params["phi"]))
            moved["q"], moved["phi"] = axis_ratio_angle(
                _not_round(e1, e2) + step.get("e1", 0.0), e2 + step.get("e2", 0.0)
            )
        macro.append(moved)
    source_x, source_y = step.get("source_x", 0.0), step.get("source_y", 0.0)
    source = _shifted_source(columns["source"], step, x + source_x, y + source_y)
    stamps = [
        {
            **stamp,
            "center_x": stamp["center_x"] + x + source_x,
            "center_y": stamp["center_y"] + y + source_y,
            "scale": stamp["scale"] * jnp.exp(step.get("ln_scale", 0.0)),
            "phi": stamp["phi"] + step.get("source_phi", 0.0),
            "amplitude": stamp["amplitude"]
            * jnp.exp(jnp.atleast_1d(step.get("ln_flux", 0.0)))[:, None],
        }
        for stamp in columns["stamps"]
    ]
    moved_columns = {**columns, "macro": macro, "source": source, "stamps": stamps}
    if any(name in VORTEX for name in step):
        moved_columns["perturbers"] = _shifted_vortex(columns["perturbers"], shape, step)
    return moved_columns


def _shifted_vortex(
    perturbers: list[Columns], shape: Signature, step: dict[str, jax.Array]
) -> list[Columns]:
    """Columns (B, n) of a rod, or of the points along one, moved, turned and rescaled."""
    x, y, turn, growth = (jnp.atleast_1d(step.get(name, 0.0))[:, None] for name in VORTEX)
    all_moved = []
    for (profile, _), params in zip(shape.perturbers, perturbers, strict=True):
        moved = {**params, "theta_E": params["theta_E"] * jnp.exp(0.5 * growth)}
        if profile == "rod":
            moved["phi"] = params["phi"] + turn
        # Padding has no mass and may turn with the rest.
        weight = params["theta_E"] ** 2 / (params["theta_E"] ** 2).sum(axis=1, keepdims=True)
        middle_x = (weight * params["center_x"]).sum(axis=1, keepdims=True)
        middle_y = (weight * params["center_y"]).sum(axis=1, keepdims=True)
        dx, dy = params["center_x"] - middle_x, params["center_y"] - middle_y
        c, s = jnp.cos(turn), jnp.sin(turn)
        moved["center_x"] = middle_x + c * dx - s * dy + x
        moved["center_y"] = middle_y + s * dx + c * dy + y
        all_moved.append(moved)
    return all_moved


def _shifted_source(
    source: Columns, step: dict[str, jax.Array], x: jax.Array | float, y: jax.Array | float
) -> Columns:
    """Source columns (B, n) moved; shape nuisances are those of the first component."""
    moved = {name: jnp.asarray(value) for name, value in source.items()}
    moved["center_x"] = moved["center_x"] + jnp.atleast_1d(x)[:, None]
    moved["center_y"] = moved["center_y"] + jnp.atleast_1d(y)[:, None]
    if moved["n"].shape[1] == 0:  # the source is a stamp
        return moved
    if not (_SHAPE & step.keys() or any(name.startswith("ln_clump") for name in step)):
        return moved
    zero = jnp.zeros_like(moved["n"][:, 0])
    still = dict.fromkeys(_SHAPE, zero)
    step = {**still, **step}
    n, r_eff = moved["n"][:, 0], moved["r_eff"][:, 0]
    new_n, new_r = n + step["source_n"], r_eff * jnp.exp(step["ln_r_eff"])
    moved["n"], moved["r_eff"] = moved["n"].at[:, 0].set(new_n), moved["r_eff"].at[:, 0].set(new_r)
    moved["e1"] = _not_round(moved["e1"], moved["e2"]).at[:, 0].add(step["source_e1"])
    moved["e2"] = moved["e2"].at[:, 0].add(step["source_e2"])
    # The flux of a component stays what it was when its size or index changes.
    gain = [_ln_flux(r_eff, n) - _ln_flux(new_r, new_n)]
    n_components = moved["n"].shape[1]
    gain += [step.get(f"ln_clump_{k}", zero) for k in range(1, n_components)]
    factor = jnp.exp(jnp.stack(gain, axis=1) + step["ln_flux"][:, None])
    moved["amplitude"] = moved["amplitude"] * factor[:, :, None]
    return moved


def _ln_flux(r_eff: jax.Array, n: jax.Array) -> jax.Array:
    """Logarithm of ``sersic_flux``, differentiable."""
    b = sersic_b(n)
    total: jax.Array = (
        jnp.log(2.0 * jnp.pi * n * r_eff**2)
        + b
        - 2.0 * n * jnp.log(b)
        + jax.scipy.special.gammaln(2.0 * n)
    )
    return total


def _not_round(e1: jax.Array, e2: jax.Array) -> jax.Array:
    return jnp.where(jnp.hypot(e1, e2) < _ROUNDEST, _ROUNDEST, e1)
