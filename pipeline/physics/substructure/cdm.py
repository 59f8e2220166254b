"""Cold dark matter subhalos: tidally truncated NFW halos of a power-law mass function."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from pipeline.physics.components import TruthColumn
from pipeline.physics.host import Host
from pipeline.physics.subhalos import SubhaloConfig, draw_halos, truncated_halos
from pipeline.physics.substructure.base import Population

TRUTH: Mapping[str, TruthColumn] = {
    "sigma_sub": TruthColumn("kpc^-2", "normalisation of the subhalo mass function at 1e8 M_sun"),
}


class Config(SubhaloConfig):
    """Subhalos of cold dark matter, tidally truncated NFW."""

    kind: Literal["cdm"] = "cdm"


def draw(config: Config, host: Host, rng: np.random.Generator) -> Population:
    """Draw the subhalos inside a disc of ``field_radius`` Einstein radii.

    Parameters
    ----------
    config : Config
    host : Host
    rng : numpy.random.Generator

    Returns
    -------
    Population
    """
    sigma_sub, halos = draw_halos(config, host, rng)
    return Population(
        perturbers=(truncated_halos(halos, host),),
        truth={"sigma_sub": sigma_sub},
        disc_radius=config.field_radius * host.theta_E,
    )
