"""One image of a preset, without a dataset: what ``simulate_dataset`` would store at that index."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.config import DatasetConfig, load_dataset_config
from pipeline.dataset.generate import record
from pipeline.engines.base import ENGINES
from pipeline.physics.scene import Scene, draw_scene


@dataclass(frozen=True)
class SimulatedImage:
    """An image with everything that made it."""

    image: NDArray[np.float32]  # (C, H, W), electron/s
    noiseless: NDArray[np.float64]  # (C, H, W), electron/s
    scene: Scene
    config: DatasetConfig

    @property
    def class_name(self) -> str:
        """Name of its class."""
        return self.scene.class_name


def simulate(
    source: str | Path | DatasetConfig,
    index: int,
    *,
    class_name: str | None = None,
    overrides: tuple[str, ...] = (),
) -> SimulatedImage:
    """Simulate image ``index`` of a preset, a YAML file or a configuration.

    Parameters
    ----------
    source : str, Path or DatasetConfig
    index : int
    class_name : str, optional
        Draw this class instead of the one whose turn it is; every nuisance stays the same.
    overrides : tuple of str
        ``"key.key=value"``.

    Raises
    ------
    ConfigError
    EngineError
    """
    if isinstance(source, DatasetConfig):
        config = source
    else:
        config = load_dataset_config(source, overrides)
    engine = ENGINES.load(config.engine.kind).build(config.engine)
    scene = draw_scene(config.scenes, config.seed, index, class_name)
    noiseless = engine.render([scene], config.grid, config.instruments)
    return SimulatedImage(record(config, noiseless, [scene])[0], noiseless[0], scene, config)
