"""Images that an export is compared on: of the kind the network is for, and of no kind at all."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.checkpoint.spec import DATASET_FILE
from pipeline.core.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.checkpoint.load import Run

Images = NDArray[np.float32]

#: Images of the first kind.
N_IMAGES = 32
#: Added to a dataset's seed for images outside it.
SEED_OFFSET = 2_000_003
#: Factors on an image that float32 can hold.
TINY, HUGE = 1e-20, 1e20


def real_images(run: "Run", data: Path | None) -> tuple[Images, str]:
    """Test images of a dataset, else new ones simulated as the training images were.

    Returns
    -------
    images : NDArray, shape (B, C, H, W), electron/s
    origin : str
        What they are, in a word or two.

    Raises
    ------
    ConfigError
        If the dataset's images are of another kind, or none can be simulated.
    """
    if data is None:
        return _simulated(run), "new simulated images"
    from pipeline.dataset.store import open_dataset

    dataset = open_dataset(data)
    size = run.preprocess.size
    if dataset.bands != run.preprocess.bands or dataset.image_shape[1:] != (size, size):
        raise ConfigError(
            f"{data}: its images are of {dataset.image_shape[1]}x{dataset.image_shape[2]} pixels "
            f"in {', '.join(dataset.bands)}; the network of {run.path} takes {size}x{size} in "
            f"{', '.join(run.preprocess.bands)}"
        )
    index = dataset.indices("test")[:N_IMAGES]
    if not len(index):
        raise ConfigError(f"{data}: no test images in it to compare on")
    return np.asarray(dataset.read_images(index), np.float32), "test images"


def extremes(images: Images) -> Images:
    """What no telescope records, (6, C, H, W).

    Zeros, one constant, an image made tiny, made huge, turned negative, and one bright pixel.
    """
    one = images[:1]
    bright = np.zeros_like(one)
    bright[..., one.shape[-2] // 3, one.shape[-1] // 2] = 1e4 * np.abs(one).max()
    return np.concatenate(
        [np.zeros_like(one), np.full_like(one, 3.0), TINY * one, HUGE * one, -one, bright],
        dtype=np.float32,
    )


def _simulated(run: "Run") -> Images:
    from pipeline.checkpoint.card import read_dataset_config
    from pipeline.dataset.generate import observe
    from pipeline.engines.base import ENGINES
    from pipeline.physics.scene import draw_scene

    config = read_dataset_config(run.path)
    if config is None:
        raise ConfigError(
            f"{run.path}: no {DATASET_FILE} in it to simulate images from; name a dataset whose "
            "test images the export has to agree on: --data DATA.zarr"
        )
    seed = config.seed + SEED_OFFSET
    scenes = [draw_scene(config.scenes, seed, i) for i in range(N_IMAGES)]
    engine = ENGINES.load(config.engine.kind).build(config.engine)
    return observe(config.with_changes(seed=seed), engine, scenes)
