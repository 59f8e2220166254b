"""Make a dataset, or what is missing of one: every shard is a pure function of (configuration, k).

Workers are spawned processes; each writes its own shards. Nothing about the result depends on how
many there are, in which order they finish, or how often they were killed.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.config import dump
from pipeline.core.logs import Advance
from pipeline.core.seeding import Stream, image_rng
from pipeline.dataset.components import component_arrays, encode
from pipeline.dataset.config import NOT_HASHED, DatasetConfig
from pipeline.dataset.detectability import dataset_columns, truth_values
from pipeline.dataset.layout import TRUTH, ArraySpec, StoreSpec, describe, image_arrays
from pipeline.dataset.splits import GALAXY, split_codes
from pipeline.engines.base import Engine
from pipeline.physics.detector import expose, variance
from pipeline.physics.lens_light import light_rate
from pipeline.physics.scene import Scene, draw_scene

#: Arrays that ``keep`` asks for: unit and meaning.
KEPT = {
    "noiseless": ("electron/s", "the image before it is exposed"),
    "variance": ("(electron/s)^2", "variance of each pixel of the exposure"),
}


def simulation_spec(config: DatasetConfig) -> StoreSpec:
    """What the dataset of a configuration looks like on disk."""
    image = (len(config.bands), config.n_pix, config.n_pix)
    kept = [
        ArraySpec(name, image, "<f4", np.nan, {"unit": unit, "description": what})
        for name, (unit, what) in KEPT.items()
        if name in config.keep
    ]
    plain = image_arrays(config.class_names, image, dataset_columns(config))
    return StoreSpec(
        arrays=(*plain, *kept, *component_arrays(config.bands)),
        n_images=config.n_images,
        shard_size=config.shard_size,
        attributes={
            **describe(config.class_names, config.bands, config.pixel_scale),
            "config": dump(config),
        },
        origin="simulation",
        origin_sha256=config.sha256,
        free=tuple(f"config.{key}" for key in NOT_HASHED),
        device=functools.partial(device_of, config),
    )


def device_of(config: DatasetConfig) -> str:
    """Kind of device that renders the images of a configuration here: ``cpu`` or ``gpu``."""
    if config.engine.kind != "jax":
        return "cpu"
    from pipeline.engines._jax_setup import configure  # heavy

    configure()
    import jax

    return str(jax.default_backend())


def make_shard(
    config: DatasetConfig, engine: Engine, rows: slice, advance: Advance
) -> dict[str, NDArray[Any]]:
    """Values of every array for images ``rows``: draw, render, expose."""
    index = np.arange(rows.start, rows.stop)
    labels = (index % len(config.class_names)).astype(np.int16)
    split = np.empty(len(index), np.int8)
    columns = list(dataset_columns(config))
    images = np.empty((len(index), len(config.bands), config.n_pix, config.n_pix), np.float32)
    truth = np.empty((len(columns), len(index)))
    kept: dict[str, NDArray[Any]] = {name: np.empty_like(images) for name in config.keep}
    parts = []
    for first in range(0, len(index), engine.batch):
        part = slice(first, min(first + engine.batch, len(index)))
        scenes = [draw_scene(config.scenes, config.seed, int(i)) for i in index[part]]
        noiseless = engine.render(scenes, config.grid, config.instruments)
        images[part] = record(config, noiseless, scenes)
        if "noiseless" in kept:
            kept["noiseless"][part] = noiseless
        if "variance" in kept:
            kept["variance"][part] = variances(config, noiseless, scenes)
        parts.append(encode(scenes, len(config.bands)))
        split[part] = _split(config, index[part], scenes)
        truth[:, part] = truth_values(config, scenes, split[part])
        advance(len(scenes))
    values: dict[str, NDArray[Any]] = {"images": images, "label": labels, "split": split}
    values.update({TRUTH + name: truth[j] for j, name in enumerate(columns)})
    values.update({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    return {**values, **kept}


def _split(
    config: DatasetConfig, index: NDArray[np.int64], scenes: list[Scene]
) -> NDArray[np.int8]:
    galaxy = np.array([scene.truth[GALAXY] for scene in scenes]) if scenes[0].group else None
    splits = config.splits
    return split_codes(index, len(config.class_names), splits.train, splits.val, galaxy)


def observe(config: DatasetConfig, engine: Engine, scenes: list[Scene]) -> NDArray[np.float32]:
    """Images (B, C, H, W) in electron/s of scenes as the telescope records them."""
    return record(config, engine.render(scenes, config.grid, config.instruments), scenes)


def record(
    config: DatasetConfig, noiseless: NDArray[np.float64], scenes: list[Scene]
) -> NDArray[np.float32]:
    """Expose noiseless images (B, C, H, W), each with its own noise stream."""
    return np.stack(
        [
            expose(
                image,
                config.instruments,
                image_rng(config.seed, scene.index, Stream.NOISE),
                subtracted_rate(config, scene),
            )
            for image, scene in zip(noiseless, scenes, strict=True)
        ]
    )


def variances(
    config: DatasetConfig, noiseless: NDArray[np.float64], scenes: list[Scene]
) -> NDArray[np.float64]:
    """Variance (B, C, H, W), (electron/s)^2, of each pixel of the exposures of ``scenes``."""
    pairs = zip(noiseless, scenes, strict=True)
    return np.stack(
        [variance(image, config.instruments, subtracted_rate(config, s)) for image, s in pairs]
    )


def subtracted_rate(config: DatasetConfig, scene: Scene) -> NDArray[np.float64] | None:
    """Light (C, H, W), electron/s, of the lens that is gone from the image but not its noise."""
    if not scene.subtracted_light:
        return None
    return light_rate(scene.subtracted_light, config.grid, config.instruments)
