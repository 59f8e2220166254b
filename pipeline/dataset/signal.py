"""What a smooth fit would leave of an image without noise: the signal that a residual hides.

A stored dataset that keeps its noise-free images (``keep: [noiseless]``) and has fits knows it. It
is learnt beside the task (``auxiliary.maps: [signal]``) and never shown to a network.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError
from pipeline.dataset.fitted import PlaneSource, SmoothFit
from pipeline.dataset.noise import exposing_config
from pipeline.dataset.reading import image_shards
from pipeline.fit.noise import Noise

if TYPE_CHECKING:
    from pipeline.dataset.shards import ShardCache
    from pipeline.dataset.store import Dataset

#: Name of the map, as ``auxiliary.maps`` says it.
SIGNAL: Final = "signal"
#: Noise-free images held at once, bytes.
_CACHE_BYTES = 256 * 1024**2


class SignalSource:
    """Signal maps of the images of a dataset.

    Per pixel asinh((noise-free image - fitted model) / sigma), sigma that of the noise under the
    model: the logarithm of what is bright, so that a few lenses do not outweigh the others.

    Parameters
    ----------
    dataset : Dataset
    smooth_fit : SmoothFit or None
        The fit whose residual the network is shown.

    Raises
    ------
    ConfigError
        If the network is shown no fit.
    DatasetError
        If the dataset does not hold its noise-free images.
    """

    def __init__(self, dataset: Dataset, smooth_fit: SmoothFit | None) -> None:
        if smooth_fit is None:
            raise ConfigError(
                "auxiliary.maps: signal is what a fit leaves of a noise-free image; it needs "
                "preprocess.smooth_fit"
            )
        self._noise = Noise.of(exposing_config(dataset).instruments)
        self._dataset = dataset
        self._models = PlaneSource(dataset, smooth_fit.with_changes(planes=("model",)))

    def gather(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Maps (B, C, H, W) of images by number; 0 where the fit failed."""
        model = self._models.gather(index)
        noiseless = np.empty_like(model)
        self._noiseless.gather(index, noiseless)
        variance = self._noise.floor + self._noise.slope * np.maximum(model, 0.0)
        signal = np.arcsinh((noiseless - model) / np.sqrt(variance).astype(np.float32))
        signal *= model.any(axis=(1, 2, 3), keepdims=True)
        return signal

    @cached_property
    def _noiseless(self) -> ShardCache:
        return image_shards(self._dataset, _CACHE_BYTES, "noiseless")
