"""A telescope and band: pixel scale, PSF, zero point, exposure and noise, each with its reference.

Instruments are the files of ``sim_params/instruments``; numbers that sit inside other packages
change with their releases, so ours are written out and hashed (PHYSICS 5.1).
"""

import math
from typing import Self

from pydantic import Field, model_validator

from pipeline.core.config import StrictModel, load_config
from pipeline.core.resources import sim_params
from pipeline.physics.light import count_rate
from pipeline.physics.psf import Psf
from pipeline.physics.quantities import (
    Angle,
    ElectronRate,
    Electrons,
    ExposurePrior,
    Gain,
    Magnitude,
    SurfaceBrightness,
)

#: Fields whose numbers need a reference.
REFERENCED = (
    "pixel_scale",
    "psf",
    "zero_point",
    "exposure_time",
    "n_exposures",
    "sky_brightness",
    "background_rms",
    "read_noise",
    "gain",
    "dark_current",
)


class DetectorDefects(StrictModel):
    """Faults of DeepLenseSim, each off unless a legacy instrument asks for it (PHYSICS 6)."""

    noise_free: bool = False  # the image returned is model + model, the noise is dropped
    double_poisson: bool = False  # Poisson noise as Gaussian noise, then drawn again; raw counts
    half_clip: bool = False  # negative background clipped to 0 before the second Poisson draw

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.double_poisson != self.half_clip:
            raise ValueError("double_poisson and half_clip are one routine: set both or neither")
        if self.noise_free and self.double_poisson:
            raise ValueError("noise_free excludes double_poisson")
        return self


class Instrument(StrictModel):
    """One telescope, camera and band."""

    name: str
    band: str
    pixel_scale: Angle
    psf: Psf
    zero_point: Magnitude  # AB magnitude of one electron per second
    exposure_time: ExposurePrior  # of one exposure
    n_exposures: int = Field(ge=1)
    sky_brightness: SurfaceBrightness | None = None  # of the background light ...
    background_rms: ElectronRate | None = None  # ... or the noise it makes, per pixel
    read_noise: Electrons
    gain: Gain  # only counts where output is quantised, which it is not here
    dark_current: ElectronRate = 0.0  # per pixel
    poisson: bool = True  # exact Poisson counts; false: their Gaussian approximation
    defects: DetectorDefects = DetectorDefects()
    references: dict[str, str]  # field -> where its number comes from

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.sky_brightness is None) == (self.background_rms is None):
            raise ValueError("expected one of sky_brightness and background_rms")
        fields = type(self).model_fields
        given = [n for n in REFERENCED if getattr(self, n) not in (None, fields[n].default)]
        missing = [name for name in given if name not in self.references]
        if missing:
            raise ValueError(f"no reference is given for {', '.join(missing)}")
        unknown = sorted(set(self.references) - set(REFERENCED))
        if unknown:
            raise ValueError(f"references names no number of an instrument: {', '.join(unknown)}")
        return self

    @property
    def total_time(self) -> float:
        """Exposure time summed over all exposures, s; the median where it is drawn."""
        low, high = self.exposure_time.support()
        return self.n_exposures * (low if low == high else math.sqrt(low * high))

    @property
    def sky_rate(self) -> float:
        """Electrons per second and pixel of sky and dark current."""
        if self.sky_brightness is None:
            return self.dark_current
        sky = count_rate(self.sky_brightness, self.zero_point) * self.pixel_scale**2
        return float(sky) + self.dark_current


def load_instrument(name: str) -> Instrument:
    """Read ``sim_params/instruments/NAME.yaml``.

    Raises
    ------
    ConfigError
        If there is no such instrument (names the nearest), or it is incomplete.
    """
    return load_config(name, Instrument, presets=sim_params() / "instruments")


def instrument_names() -> tuple[str, ...]:
    """Names of the shipped instruments, sorted."""
    return tuple(sorted(p.stem for p in (sim_params() / "instruments").glob("*.yaml")))
