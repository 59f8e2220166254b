"""The engines of this package, as ``deeplense simulate`` calls them."""

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.core.seeding import Stream, image_rng
from pipeline.engines.base import ENGINES
from pipeline.physics.detector import expose
from pipeline.physics.geometry import Grid
from pipeline.physics.instrument import Instrument
from pipeline.physics.scene import Scene

type Floats = NDArray[np.float64]


def prepare(
    kind: str, scenes: list[Scene], grid: Grid, instrument: Instrument, noisy: bool
) -> Callable[[], Floats]:
    """Return what renders all scenes, shape (B, H, W)."""
    module = ENGINES.load(kind)
    engine = module.build(module.Config())

    def render() -> Floats:
        images = np.asarray(engine.render(scenes, grid, (instrument,)))[:, 0]
        return exposed(images, instrument) if noisy else images

    return render


def exposed(images: Floats, instrument: Instrument) -> Floats:
    """Images with the noise of ``deeplense simulate``, each from its own stream."""
    noisy = [
        expose(image[None], (instrument,), image_rng(0, index, Stream.NOISE))[0]
        for index, image in enumerate(images)
    ]
    return np.stack(noisy).astype(np.float64)


jax = functools.partial(prepare, "jax")
lenstronomy = functools.partial(prepare, "lenstronomy")
autolens = functools.partial(prepare, "autolens")
