"""Fit smooth lenses to many images at once; the arrays live in ``_fitter.py``."""

from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import EngineError
from pipeline.core.logs import Advance
from pipeline.engines.base import check_instruments
from pipeline.fit.config import FitConfig
from pipeline.fit.noise import Noise
from pipeline.fit.result import Fits
from pipeline.physics.geometry import Grid
from pipeline.physics.instrument import Instrument

if TYPE_CHECKING:
    from pipeline.fit._fitter import BatchFitter

#: Fewer pixels along a side hold no lens that could be modelled.
MIN_PIXELS = 16


class Fitter:
    """Fits the smooth model of one configuration to images of one telescope.

    Parameters
    ----------
    config : FitConfig
    n_pix : int
        Along each side of the images.
    instruments : tuple of Instrument, length C
        One per band; their PSFs and pixel scale.
    batch_size : int
        Images of one compiled call; the last is padded. Bounds memory, never changes a result.

    Raises
    ------
    EngineError
        If the images are too small or the instruments have different pixels.
    """

    def __init__(
        self,
        config: FitConfig,
        n_pix: int,
        instruments: tuple[Instrument, ...],
        batch_size: int = 64,
    ) -> None:
        if n_pix < MIN_PIXELS:
            raise EngineError(f"images of {n_pix} pixels: a fit needs at least {MIN_PIXELS}")
        if not instruments:
            raise EngineError("no instrument is given")
        self.config, self.instruments = config, instruments
        self.grid = Grid(n_pix, instruments[0].pixel_scale, config.supersample)
        check_instruments(self.grid, instruments)
        self.batch_size = batch_size
        self._compiled: BatchFitter | None = None

    def fit(
        self,
        images: NDArray[np.floating],
        noise: Noise | None = None,
        usable: NDArray[np.bool_] | None = None,
        advance: Advance | None = None,
    ) -> Fits:
        """Fit every image; none can fail the others.

        Parameters
        ----------
        images : array, shape (n, C, H, W)
            Background-subtracted, NaN where there is no value.
        noise : Noise, optional
            By default that of the instruments.
        usable : bool array, broadcastable to (n, C, H, W), optional
            False where a pixel must not count.
        advance : callable, optional
            Told how many images were finished.

        Returns
        -------
        Fits

        Raises
        ------
        EngineError
            If the shape of ``images`` is not that of the fitter.
        """
        shape = (len(self.instruments), self.grid.n_pix, self.grid.n_pix)
        if images.shape[1:] != shape:
            raise EngineError(f"images of shape {images.shape[1:]}, expected {shape}")
        noise = noise or Noise.of(self.instruments)
        compiled = self._batch()

        def fit_one(first: int) -> Fits:
            part = np.arange(first, min(first + self.batch_size, len(images)))
            floor, slope = noise.rows(part, shape)
            good = np.ones((len(part), *shape), bool)
            if usable is not None:
                good &= np.broadcast_to(usable, images.shape)[part]
            return compiled.fit(images[part], floor, slope, good)

        starts = list(range(0, max(len(images), 1), self.batch_size))
        parts = []
        with ThreadPoolExecutor(compiled.n_threads) as pool:
            # The very first batch compiles, alone.
            alone = [] if compiled.has_run else [fit_one(starts.pop(0))]
            for fits in chain(alone, pool.map(fit_one, starts)):
                parts.append(fits)
                if advance is not None:
                    advance(len(fits))
        return Fits.joined(parts)

    @property
    def spent(self) -> dict[str, float]:
        """Processor time of this process in each stage so far, compilation included, s.

        Batches that are fitted at the same time each count all of it.
        """
        return dict(self._batch().spent)

    def _batch(self) -> "BatchFitter":
        if self._compiled is None:
            from pipeline.fit._fitter import BatchFitter  # heavy: JAX

            psfs = tuple(instrument.psf for instrument in self.instruments)
            self._compiled = BatchFitter(self.config, self.grid, psfs, self.batch_size)
        return self._compiled
