"""The noise of an image as a fit needs it: a known part, and the Poisson noise of the model.

The variance of a pixel is ``floor + slope * max(model, 0)``. With an instrument the floor is sky,
dark current and read-out and the slope one over the exposure time; with an error map the floor is
its square and the slope zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import EngineError
from pipeline.physics.detector import background_rms
from pipeline.physics.instrument import Instrument

type Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """Variance of images.

    Attributes
    ----------
    floor : Floats, broadcastable to (n, C, H, W)
        What does not depend on the model, in the square of the image's unit.
    slope : Floats, broadcastable to (n, C, H, W)
        Variance that each unit of the model's image adds, in the image's unit.
    """

    floor: Floats
    slope: Floats

    @classmethod
    def of(cls, instruments: Sequence[Instrument]) -> "Noise":
        """Noise of exposures, as ``detector.variance`` has it.

        Raises
        ------
        EngineError
            If an instrument's output is no rate with Gaussian or Poisson noise.
        """
        for instrument in instruments:
            defects = instrument.defects
            if defects.noise_free or defects.double_poisson:
                fault = "noise_free" if defects.noise_free else "double_poisson"
                raise EngineError(
                    f"instrument {instrument.name} is {fault}: its noise is no variance that a "
                    "fit could use"
                )
        floors = [background_rms(i, i.total_time) ** 2 for i in instruments]
        slopes = [1.0 / i.total_time for i in instruments]
        return cls(_by_band(floors), _by_band(slopes))

    @classmethod
    def from_errors(cls, errors: Floats) -> "Noise":
        """Noise of a map of standard deviations, broadcastable to (n, C, H, W)."""
        return cls(np.asarray(errors, np.float64) ** 2, np.zeros((1, 1, 1, 1)))

    @classmethod
    def measured(cls, sigma: Floats, instruments: Sequence[Instrument]) -> "Noise":
        """Noise of images in any unit, from the noise of their empty pixels.

        Poisson noise keeps the ratio that it has to the background's in the instrument.

        Parameters
        ----------
        sigma : Floats, shape (n, C, 1, 1)
            Standard deviation of empty pixels, in the unit of the image.
        instruments : sequence of Instrument, length C
        """
        own = cls.of(instruments)
        return cls(sigma**2, sigma * own.slope / np.sqrt(own.floor))

    def rows(self, part: NDArray[np.int64], shape: tuple[int, ...]) -> tuple[Floats, Floats]:
        """Floor and slope of some images, each of shape (len(part), *shape)."""
        full = (len(part), *shape)
        floor, slope = (a[part] if len(a) > 1 else a for a in (self.floor, self.slope))
        return np.broadcast_to(floor, full), np.broadcast_to(slope, full)


def _by_band(values: Sequence[float]) -> Floats:
    return np.array(values, np.float64).reshape(1, -1, 1, 1)
