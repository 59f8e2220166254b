"""Galaxies seen by a telescope: stamps from FITS or npy files, one drawn for each image."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from pipeline.core.config import StrictModel
from pipeline.core.priors import Uniform
from pipeline.physics.components import LightComponent, TruthColumn
from pipeline.physics.quantities import MagnitudePrior, PhasePrior, PositiveAnglePrior
from pipeline.physics.sources.base import DrawnSource
from pipeline.physics.stamps import load_stamps

TRUTH: Mapping[str, TruthColumn] = {
    "source_magnitude": TruthColumn("mag", "unlensed AB magnitude in the first band"),
    "source_stamp": TruthColumn("", "number of the galaxy among the sorted stamps"),
    "source_scale": TruthColumn("arcsec", "side of a pixel of the stamp on the sky"),
    "source_phi": TruthColumn("rad", "angle by which the stamp is turned"),
}
DEFAULT_TAPER = 0.2


class Config(StrictModel):
    """A stamp of a folder, at a random angle; every galaxy stays in one split."""

    kind: Literal["image"] = "image"
    path: str  # a FITS or npy file, or a folder of them; from the current directory
    sha256: str = ""  # of the stamps; filled in when the configuration is read, checked if given
    magnitude: MagnitudePrior
    colours: tuple[float, ...] = ()  # magnitude of each further band minus that of the first
    scale: PositiveAnglePrior  # side of a stamp's pixel on the sky
    angle: PhasePrior = Uniform(low=0.0, high=2.0 * math.pi)
    taper: float = Field(default=DEFAULT_TAPER, gt=0, le=1)  # outer share of the radius that fades

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:  # Any: raw YAML
        if not isinstance(data, Mapping) or not isinstance(data.get("path"), str):
            return data
        taper = data.get("taper", DEFAULT_TAPER)
        if not isinstance(taper, float) or not 0.0 < taper <= 1.0:
            return data  # refused below, by name
        try:
            found = load_stamps(data["path"], taper).sha256
        except ValueError as error:
            raise ValueError(f"path: {error}") from error
        known = data.get("sha256") or found
        if known != found:
            raise ValueError(
                f"path: the stamps of {data['path']} are not those of this configuration: "
                f"sha256 {found}, expected {known}"
            )
        return {**data, "sha256": found}


def draw(config: Config, rng: np.random.Generator) -> DrawnSource:
    """Draw one galaxy around the origin.

    Parameters
    ----------
    config : Config
    rng : numpy.random.Generator

    Returns
    -------
    DrawnSource
        Its group is the file name of the galaxy.
    """
    stamps = load_stamps(config.path, config.taper)
    number = min(int(rng.random() * len(stamps.names)), len(stamps.names) - 1)
    magnitude, scale = config.magnitude.draw(rng), config.scale.draw(rng)
    angle = config.angle.draw(rng)
    component = LightComponent(
        profile="image",
        params={"scale": scale, "phi": angle, "center_x": 0.0, "center_y": 0.0},
        magnitude=magnitude + np.array([0.0, *config.colours]),
        stamp=stamps.images[number],
    )
    truth = {
        "source_magnitude": magnitude,
        "source_stamp": float(number),
        "source_scale": scale,
        "source_phi": angle,
    }
    return DrawnSource(components=(component,), truth=truth, group=stamps.names[number])
