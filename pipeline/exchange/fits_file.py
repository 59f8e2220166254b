"""One image as a survey would deliver it: SCI, ERR, DQ and PSF extensions with their headers.

Pixels are stored as the float32 that they are, so the scorer sees the same numbers. ``docs/
data-tools.md`` lists every keyword. No clock is written: equal images give equal bytes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.provenance import sha256_hex
from pipeline.exchange.fits_cards import Card, image_hdu, primary_hdu
from pipeline.physics.components import TruthColumn
from pipeline.physics.instrument import Instrument

#: Flux density of magnitude 0 in the AB system, Jy (Oke & Gunn 1983, ApJ 266, 713).
AB_JANSKY = 3630.7805477
_ARCSEC = math.pi / 180 / 3600


@dataclass(frozen=True)
class Exposure:
    """Everything that goes into one file.

    Attributes
    ----------
    index : int
        Number of the image in its dataset.
    image : NDArray of float32, shape (C, H, W)
    error : NDArray of float32, shape (C, H, W), optional
        Standard deviation of each pixel.
    class_name, split : str
    truth : mapping of str to float
        NaN where the image has no such value.
    """

    index: int
    image: NDArray[np.float32]
    error: NDArray[np.float32] | None
    class_name: str
    split: str
    truth: Mapping[str, float]


@dataclass(frozen=True)
class Survey:
    """What all files of a dataset share; ``psf`` (C, n, n) is None where it is not known."""

    dataset_sha256: str
    bands: Sequence[str]
    pixel_scale: float
    unit: str
    columns: Mapping[str, TruthColumn]
    instruments: Sequence[Instrument] | None
    psf: NDArray[np.float32] | None


def fits_bytes(exposure: Exposure, survey: Survey) -> bytes:
    """Content of the FITS file of one image.

    Parameters
    ----------
    exposure : Exposure
    survey : Survey
    """
    sky = _sky(exposure, survey)
    hdus = [
        primary_hdu(_about(exposure, survey)),
        _image("SCI", exposure.image, _pixels(survey), sky),
    ]
    if exposure.error is not None:
        hdus.append(_image("ERR", exposure.error, _unit(survey, "standard deviation"), sky))
    flags = np.zeros(exposure.image.shape, np.int16)
    hdus.append(_image("DQ", flags, [("FLAGS", "none", "0: good; no pixel is bad")], sky))
    if survey.psf is not None:
        scale: list[Card] = [("PIXSCALE", survey.pixel_scale, "[arcsec] the PSF sums to 1")]
        hdus.append(_image("PSF", survey.psf, scale, []))
    return b"".join(hdus)


def position(dataset_sha256: str, index: int) -> tuple[float, float]:
    """Right ascension and declination (degrees) made up for an image, the same every time.

    Evenly spread over the sky between the declinations of -60 and 60 degrees.
    """
    word = sha256_hex(f"{dataset_sha256}:{index}")
    u, v = (int(word[i : i + 13], 16) / 16.0**13 for i in (0, 13))
    declination = math.degrees(math.asin((2.0 * v - 1.0) * math.sin(math.radians(60.0))))
    return round(360.0 * u, 7), round(declination, 7)


def _image(name: str, pixels: NDArray[Any], cards: Sequence[Card], sky: Sequence[Card]) -> bytes:
    """Image extension; a single band becomes a plain two-dimensional picture."""
    return image_hdu(name, pixels[0] if len(pixels) == 1 else pixels, [*cards, *sky])


def _about(exposure: Exposure, survey: Survey) -> list[Card]:
    """Cards of the primary header: what this is, and the truth."""
    right_ascension, declination = position(survey.dataset_sha256, exposure.index)
    name = f"{survey.dataset_sha256[:8]}-{exposure.index}"
    cards: list[Card] = [
        ("ORIGIN", "deeplense-pipeline", ""),
        ("OBJECT", name, "dataset and number of the image"),
        ("RA_TARG", right_ascension, "[deg] made up"),
        ("DEC_TARG", declination, "[deg] made up"),
        ("DSETSHA", survey.dataset_sha256, ""),
        ("DSETIDX", exposure.index, "number of the image in the dataset"),
        ("CLASS", exposure.class_name, "true class; not read by the scorer"),
        ("SPLIT", exposure.split, "train, val or test"),
    ]
    if survey.instruments is not None:
        cards.insert(1, ("SIMULATD", True, "simulated, not observed"))
    for column, value in exposure.truth.items():
        if math.isfinite(value):
            about = survey.columns[column]
            text = f"[{about.unit}] {about.description}" if about.unit else about.description
            cards.append((f"TRUTH {column}", value, text))
    return cards


def _pixels(survey: Survey) -> list[Card]:
    """Cards that say what the pixels of SCI measure."""
    area = (survey.pixel_scale * _ARCSEC) ** 2
    cards = [*_unit(survey, ""), ("PIXAR_SR", area, "[sr] area of a pixel")]
    instruments = survey.instruments
    if instruments is None:
        return [*cards, ("FILTER", ",".join(survey.bands), "")]
    if len(instruments) == 1:
        return [*cards, *_instrument(instruments[0], "")]
    cards.append(("FILTER", ",".join(i.band for i in instruments), "of the planes, in order"))
    for number, instrument in enumerate(instruments, start=1):
        cards += _instrument(instrument, str(number))
    return cards


def _unit(survey: Survey, comment: str) -> list[Card]:
    return [] if survey.unit == "unknown" else [("BUNIT", survey.unit, comment)]


def _instrument(instrument: Instrument, n: str) -> list[Card]:
    """Cards of one telescope; ``n`` is the number of its plane where there are several."""
    shortest, longest = instrument.exposure_time.support()
    drawn = "" if shortest == longest else "; drawn, this is the median"
    jansky = AB_JANSKY * 10.0 ** (-0.4 * instrument.zero_point)
    return [
        ("INSTRUME"[: 8 - len(n)] + n, instrument.name, "telescope, camera and band"),
        (f"FILTER{n}", instrument.band, ""),
        (f"EXPTIME{n}", instrument.total_time, f"[s] of all exposures{drawn}"),
        (f"NEXP{n}", instrument.n_exposures, "exposures"),
        (f"MAGZERO{n}", instrument.zero_point, "[mag] AB magnitude of 1 electron/s"),
        (f"PHOTFNU{n}", jansky, "[Jy s/electron] inverse sensitivity"),
        (f"GAIN{n}", instrument.gain, "[electron/adu]"),
        (f"RDNOISE{n}", instrument.read_noise, "[electron] of one exposure"),
    ]


def _sky(exposure: Exposure, survey: Survey) -> list[Card]:
    """World coordinates: gnomonic, north up, east left, the middle of the image at the target."""
    rows, columns = exposure.image.shape[-2:]
    right_ascension, declination = position(survey.dataset_sha256, exposure.index)
    step = survey.pixel_scale / 3600.0
    return [
        ("WCSAXES", 2, ""),
        ("CTYPE1", "RA---TAN", ""),
        ("CTYPE2", "DEC--TAN", ""),
        ("CUNIT1", "deg", ""),
        ("CUNIT2", "deg", ""),
        ("CRPIX1", (columns + 1) / 2, "middle of the image"),
        ("CRPIX2", (rows + 1) / 2, ""),
        ("CRVAL1", right_ascension, "made up"),
        ("CRVAL2", declination, "made up"),
        ("CD1_1", -step, "[deg]"),
        ("CD1_2", 0.0, ""),
        ("CD2_1", 0.0, ""),
        ("CD2_2", step, "[deg]"),
        ("RADESYS", "ICRS", ""),
    ]
