"""From noiseless images to exposures: the only place where noise is drawn, once.

Units are electrons per second and pixel; the mean sky is subtracted (PHYSICS 5). The routines of
DeepLenseSim are kept behind the flags of ``Instrument.defects`` (PHYSICS 6).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.physics.instrument import Instrument

type Floats = NDArray[np.float64]


def expose(
    noiseless: Floats,
    instruments: Sequence[Instrument],
    rng: np.random.Generator,
    subtracted: Floats | None = None,
) -> NDArray[np.float32]:
    """Observe a noiseless image.

    With total time T: (Poisson(T (I + sky)) + read noise)/T - sky, or its Gaussian approximation
    where the instrument says ``poisson: false``.

    Parameters
    ----------
    noiseless : Floats, shape (C, H, W), electron/s
    instruments : sequence of Instrument, length C
    rng : numpy.random.Generator
        Of the image's noise stream.
    subtracted : Floats, shape (C, H, W), electron/s, optional
        Light that was observed and then taken out: its noise stays, its mean does not.

    Returns
    -------
    float32 array, shape (C, H, W), electron/s
        Counts instead of a rate under ``double_poisson``, as DeepLenseSim returns them.
    """
    light = _light_of(noiseless, subtracted)
    bands = [
        _expose_band(image, instrument, rng, gone)
        for image, instrument, gone in zip(noiseless, instruments, light, strict=True)
    ]
    return np.stack(bands).astype(np.float32)


def variance(
    noiseless: Floats, instruments: Sequence[Instrument], subtracted: Floats | None = None
) -> Floats:
    """Variance of an exposure: [N RN^2 + sky T]/T^2 + max(I, 0)/T, I with the subtracted light.

    Parameters
    ----------
    noiseless : Floats, shape (C, H, W), electron/s
    instruments : sequence of Instrument, length C
    subtracted : Floats, shape (C, H, W), electron/s, optional
        As in :func:`expose`.

    Returns
    -------
    Floats, shape (C, H, W), (electron/s)^2
        0 for a ``noise_free`` instrument; counts^2 at the median time under ``double_poisson``.
    """
    bands = []
    light = _light_of(noiseless, subtracted)
    for image, instrument, gone in zip(noiseless, instruments, light, strict=True):
        if instrument.defects.noise_free:
            bands.append(np.zeros_like(image))
        elif instrument.defects.double_poisson:
            assert instrument.background_rms is not None
            moments = legacy_count_moments(image, instrument.total_time, instrument.background_rms)
            bands.append(moments[1])
        else:
            background = background_rms(instrument, instrument.total_time) ** 2
            bands.append(background + np.maximum(image + gone, 0.0) / instrument.total_time)
    return np.stack(bands)


def background_rms(instrument: Instrument, total_time: float) -> float:
    """Noise of an empty pixel from sky, dark current and read-out, electron/s.

    Parameters
    ----------
    instrument : Instrument
    total_time : float, s

    Returns
    -------
    float, electron/s
    """
    read = instrument.n_exposures * instrument.read_noise**2
    extra = instrument.background_rms or 0.0
    return math.sqrt((read + instrument.sky_rate * total_time) / total_time**2 + extra**2)


def legacy_count_moments(
    rate: Floats, total_time: float, background_rms: float
) -> tuple[Floats, Floats]:
    """Mean and variance of the counts of DeepLenseSim's Model I (PHYSICS 6).

    k = Poisson(max(0, T (mu + n_p + n_b))), n_p ~ N(0, mu/T), n_b ~ N(0, background_rms^2).

    Parameters
    ----------
    rate : Floats, counts/s
    total_time : float, s
    background_rms : float, counts/s

    Returns
    -------
    mean, variance : Floats
        In counts and counts^2.
    """
    from scipy.special import ndtr  # type: ignore[import-untyped]  # heavy

    c = total_time * np.asarray(rate, dtype=np.float64)
    s = np.sqrt(c + (total_time * background_rms) ** 2)
    t = c / s
    density, below = np.exp(-0.5 * t * t) / math.sqrt(2.0 * math.pi), ndtr(t)
    mean = c * below + s * density
    return mean, (c * c + s * s) * below + c * s * density - mean * mean + mean


def _light_of(noiseless: Floats, subtracted: Floats | None) -> Floats:
    return np.zeros_like(noiseless) if subtracted is None else subtracted


def _expose_band(
    image: Floats, instrument: Instrument, rng: np.random.Generator, gone: Floats
) -> Floats:
    time = instrument.n_exposures * instrument.exposure_time.draw(rng)
    defects = instrument.defects
    if defects.noise_free:
        return 2.0 * image
    if defects.double_poisson:
        assert instrument.background_rms is not None
        source = rng.standard_normal(image.shape) * np.sqrt(np.abs(image) / time)
        background = instrument.background_rms * rng.standard_normal(image.shape)
        counts = rng.poisson(np.maximum(time * (image + source + background), 0.0))
        return counts.astype(np.float64)
    if not instrument.poisson:
        spread = background_rms(instrument, time) ** 2 + np.maximum(image + gone, 0.0) / time
        return image + rng.standard_normal(image.shape) * np.sqrt(spread)
    sky = instrument.sky_rate + gone
    counts = rng.poisson(time * (np.maximum(image, 0.0) + sky))
    read = instrument.read_noise * math.sqrt(instrument.n_exposures) / time
    still = math.hypot(read, instrument.background_rms or 0.0)
    return counts / time + still * rng.standard_normal(image.shape) - sky
