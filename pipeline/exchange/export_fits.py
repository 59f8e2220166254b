"""What the FITS files of a dataset hold: error maps, point-spread functions and truth."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.generate import subtracted_rate
from pipeline.dataset.splits import SPLITS
from pipeline.dataset.store import Dataset
from pipeline.exchange.fits_file import Exposure, Survey, fits_bytes
from pipeline.exchange.origin import instruments_of, simulations, source_places
from pipeline.physics.detector import variance
from pipeline.physics.instrument import Instrument
from pipeline.physics.psf import psf_image
from pipeline.physics.scene import draw_scene


def survey_writer(dataset: Dataset) -> Callable[[int, NDArray[np.float32]], bytes]:
    """Turn an image number and its pixels into the content of its file.

    Parameters
    ----------
    dataset : Dataset
    """
    instruments = instruments_of(dataset)
    errors = None if instruments is None else _Errors(dataset, instruments)
    columns = dataset.truth_info()
    survey = Survey(
        dataset_sha256=dataset.sha256,
        bands=dataset.bands,
        pixel_scale=dataset.pixel_scale,
        unit=dataset.unit,
        columns=columns,
        instruments=instruments,
        psf=None if instruments is None else _psfs(dataset, instruments),
    )
    labels, split = dataset.labels, dataset.split
    truth = {name: dataset.truth(name) for name in columns}

    def write(index: int, image: NDArray[np.float32]) -> bytes:
        exposure = Exposure(
            index=index,
            image=image,
            error=None if errors is None else errors.of(index, image),
            class_name=dataset.class_names[labels[index]],
            split=SPLITS[split[index]],
            truth={name: float(values[index]) for name, values in truth.items()},
        )
        return fits_bytes(exposure, survey)

    return write


def _psfs(dataset: Dataset, instruments: tuple[Instrument, ...]) -> NDArray[np.float32]:
    """Point-spread function of every band, padded to one size."""
    rays = {config.supersample for config in simulations(dataset) if config is not None}
    images = [psf_image(i.psf, dataset.pixel_scale, max(rays)) for i in instruments]
    size = max(len(image) for image in images)
    padded = [np.pad(image, (size - len(image)) // 2) for image in images]
    return np.stack(padded).astype(np.float32)


class _Errors:
    """Standard deviation of each pixel: as stored, else by the noise model of the instruments.

    The model takes the observed image for the light, as the pipelines of surveys do: its noise is
    in the error map too, and pixels that scattered low have errors that are a little too small.
    """

    def __init__(self, dataset: Dataset, instruments: tuple[Instrument, ...]) -> None:
        self._instruments = instruments
        self._dataset = dataset
        self._is_stored = any(array.name == "variance" for array in dataset.spec.arrays)
        self._configs = simulations(dataset)
        self._source, self._index = source_places(dataset)

    def of(self, index: int, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Errors of one image, both (C, H, W)."""
        if self._is_stored:
            stored = self._dataset.read("variance", slice(index, index + 1))[0]
            return np.asarray(np.sqrt(stored), np.float32)
        light = image.astype(np.float64)
        for plane, instrument in zip(light, self._instruments, strict=True):
            if instrument.defects.double_poisson:  # counts; the noise model takes rates
                plane /= instrument.total_time
        return np.sqrt(variance(light, self._instruments, self._gone(index))).astype(np.float32)

    def _gone(self, index: int) -> NDArray[np.float64] | None:
        """Light of the lens that was taken out of the image, but not its noise."""
        config = self._configs[self._source[index]]
        if config is None or config.scenes.lens_light is None:
            return None
        if not config.scenes.lens_light.subtracted:
            return None
        return subtracted_rate(
            config, draw_scene(config.scenes, config.seed, int(self._index[index]))
        )
