"""Noise of stored images drawn anew, in every epoch: not added to what is there, but in its place.

Needs the noise-free images (``keep: [noiseless]``) and the configuration that exposed them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import DatasetError
from pipeline.core.seeding import RunStream, child_rng
from pipeline.dataset.config import DatasetConfig
from pipeline.physics.detector import expose

if TYPE_CHECKING:
    from pipeline.dataset.store import Dataset

#: Array of the noise-free images.
NOISELESS = "noiseless"


@dataclass(frozen=True)
class NewNoise:
    """One epoch's exposures: a pure function of (seed, epoch, image number).

    Parameters
    ----------
    config : DatasetConfig
        Of the dataset.
    seed, epoch : int
    """

    config: DatasetConfig
    seed: int
    epoch: int

    def apply(
        self, noiseless: NDArray[np.float32], index: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Expose noise-free images (B, C, H, W), electron/s, of those numbers."""
        exposed = [
            expose(
                image.astype(np.float64),
                self.config.instruments,
                child_rng(self.seed, self.epoch, RunStream.EXPOSE, i),
                self._subtracted(i),
            )
            for image, i in zip(noiseless, index.tolist(), strict=True)
        ]
        return np.stack(exposed)

    def _subtracted(self, index: int) -> NDArray[np.float64] | None:
        """Light of the lens that is gone from the image, but not its noise."""
        lens_light = self.config.scenes.lens_light
        if lens_light is None or not lens_light.subtracted:
            return None
        from pipeline.dataset.generate import subtracted_rate
        from pipeline.physics.scene import draw_scene

        return subtracted_rate(self.config, draw_scene(self.config.scenes, self.config.seed, index))


def exposing_config(dataset: Dataset) -> DatasetConfig:
    """Configuration that can expose a dataset's images again.

    Raises
    ------
    DatasetError
        If the dataset was not simulated, or does not hold the noise-free images.
    """
    config = dataset.require_simulation("new noise")
    if NOISELESS not in config.keep:
        raise DatasetError(
            f"{dataset.path}: new noise needs the noise-free images, which it does not hold: "
            "simulate with --set 'keep=[noiseless]'"
        )
    return config
