"""A Sersic galaxy with star-forming clumps, drawn from its own light profile (PHYSICS 3)."""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import Field

from pipeline.core.config import StrictModel
from pipeline.core.priors import Uniform
from pipeline.physics.components import Floats, LightComponent, TruthColumn
from pipeline.physics.geometry import axis_ratio_angle, rotate_out
from pipeline.physics.light import sersic_b
from pipeline.physics.quantities import (
    FractionPrior,
    MagnitudePrior,
    PositiveAnglePrior,
    SersicIndexPrior,
)
from pipeline.physics.shapes import ShapeConfig
from pipeline.physics.sources import sersic
from pipeline.physics.sources.base import DrawnSource

TRUTH: Mapping[str, TruthColumn] = {
    **sersic.TRUTH,
    "source_n_clumps": TruthColumn("", "number of clumps"),
    "source_clump_fraction": TruthColumn("", "share of the flux in clumps"),
}


class Config(StrictModel):
    """A Sersic galaxy that gives part of its flux to small round clumps."""

    kind: Literal["clumpy"] = "clumpy"
    magnitude: MagnitudePrior  # of the whole source
    r_eff: PositiveAnglePrior  # of the galaxy
    n: SersicIndexPrior
    shape: ShapeConfig
    colours: tuple[float, ...] = ()  # magnitude of each further band minus that of the first
    clump_fraction: FractionPrior = Uniform(low=0.1, high=0.4)  # of the flux
    n_clumps: float = Field(default=8.0, ge=0)  # mean of the Poisson number
    n_clumps_min: int = Field(default=3, ge=1)  # a smaller number is raised to this one
    clump_r_eff: PositiveAnglePrior = Uniform(low=0.02, high=0.06)
    clump_n: SersicIndexPrior = Uniform(low=0.7, high=1.0)
    brightness_range: float = Field(default=10.0, ge=1)  # brightest over faintest clump


def draw(config: Config, rng: np.random.Generator) -> DrawnSource:
    """Draw the galaxy and its clumps around the origin.

    Flux shares of the clumps are log-uniform over ``brightness_range``; places follow the light of
    the galaxy.

    Parameters
    ----------
    config : Config
    rng : numpy.random.Generator

    Returns
    -------
    DrawnSource
    """
    # The first child draws the galaxy exactly as the smooth source does.
    galaxy_rng, clump_rng = rng.spawn(2)
    smooth = sersic.Config(
        magnitude=config.magnitude,
        r_eff=config.r_eff,
        n=config.n,
        shape=config.shape,
        colours=config.colours,
    )
    galaxy = sersic.draw(smooth, galaxy_rng)
    (host,) = galaxy.components
    count, place, turn, share, size, index = clump_rng.spawn(6)
    fraction = config.clump_fraction.draw(clump_rng)
    n = max(int(count.poisson(config.n_clumps)), config.n_clumps_min)
    x, y = _places(host.params, place.random(n), turn.random(n))
    flux = config.brightness_range ** -share.random(n)
    flux *= fraction / flux.sum()
    clumps = [
        LightComponent(
            profile="sersic",
            params={
                "r_eff": config.clump_r_eff.draw(size),
                "n": config.clump_n.draw(index),
                "e1": 0.0,
                "e2": 0.0,
                "center_x": float(x[k]),
                "center_y": float(y[k]),
            },
            magnitude=host.magnitude - 2.5 * math.log10(flux[k]),
        )
        for k in range(n)
    ]
    rest = host.magnitude - 2.5 * math.log10(1.0 - fraction)
    smooth_light = LightComponent(host.profile, host.params, rest)
    truth = {
        **galaxy.truth,
        "source_n_clumps": float(n),
        "source_clump_fraction": fraction,
    }
    return DrawnSource(components=(smooth_light, *clumps), truth=truth)


def _places(host: Mapping[str, float], u: Floats, turn: Floats) -> tuple[Floats, Floats]:
    """Places drawn from the light of a Sersic galaxy, by the quantile of its radius."""
    from scipy.special import gammaincinv  # type: ignore[import-untyped]  # heavy

    n = host["n"]
    radius = host["r_eff"] * (gammaincinv(2.0 * n, u) / sersic_b(n)) ** n
    q, phi = axis_ratio_angle(host["e1"], host["e2"])
    angle = 2.0 * math.pi * turn
    x, y = rotate_out(
        radius * np.cos(angle) / math.sqrt(q), radius * np.sin(angle) * math.sqrt(q), phi
    )
    return x, y
