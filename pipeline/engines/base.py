"""What an engine promises: scenes in, noiseless images out, no randomness."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import EngineError, PhysicsError
from pipeline.core.registry import Family
from pipeline.physics.fields import check_reach
from pipeline.physics.geometry import Grid
from pipeline.physics.instrument import Instrument
from pipeline.physics.scene import Scene

ENGINES = Family("engine", "pipeline.engines")


class Engine(Protocol):
    """Renders scenes.

    Attributes
    ----------
    name : str
    batch : int
        Scenes worth handing over at once: bounds memory and paces progress, never the result.
    """

    name: str
    batch: int

    def render(
        self, scenes: Sequence[Scene], grid: Grid, instruments: tuple[Instrument, ...]
    ) -> NDArray[np.float64]:
        """Noiseless images of ``scenes``.

        Parameters
        ----------
        scenes : sequence of Scene, length B
        grid : Grid
        instruments : tuple of Instrument, length C
            Of the grid's pixel scale.

        Returns
        -------
        array, shape (B, C, H, W), electron/s per pixel
            Surface brightness averaged over the rays of each pixel, times the pixel's area,
            convolved with the PSF.

        Raises
        ------
        EngineError
            If a scene cannot be rendered, or its image is not finite; names the scene's index.
        """
        ...


def check_instruments(grid: Grid, instruments: tuple[Instrument, ...]) -> None:
    """Refuse instruments whose pixels are not those of ``grid``.

    Raises
    ------
    EngineError
    """
    if not instruments:
        raise EngineError("no instrument is given")
    for instrument in instruments:
        if abs(instrument.pixel_scale - grid.pixel_scale) > 1e-9 * grid.pixel_scale:
            raise EngineError(
                f"instrument {instrument.name} has pixels of {instrument.pixel_scale:g} arcsec, "
                f"the grid of {grid.pixel_scale:g} arcsec"
            )


def check_fields(scene: Scene, reach: float) -> None:
    """Refuse rays as far as ``reach`` (arcsec, along an axis) that a field does not hold.

    Raises
    ------
    EngineError
        Naming the scene's index and class.
    """
    for field in scene.fields:
        try:
            check_reach(field, reach)
        except PhysicsError as error:
            raise EngineError(
                f"scene {scene.index} (class {scene.class_name!r}): {error}"
            ) from error


def check_finite(image: NDArray[np.float64], scene: Scene) -> None:
    """Refuse an image with NaN or infinity.

    Raises
    ------
    EngineError
        Naming the scene's index, class and number of bad pixels.
    """
    n_bad = int(np.count_nonzero(~np.isfinite(image)))
    if n_bad:
        raise EngineError(
            f"scene {scene.index} (class {scene.class_name!r}) renders {n_bad} of {image.size} "
            "pixels not finite; it was not stored"
        )
