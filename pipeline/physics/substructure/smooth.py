"""No substructure: the smooth lens alone."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from pipeline.core.config import StrictModel
from pipeline.physics.components import TruthColumn
from pipeline.physics.host import Host
from pipeline.physics.substructure.base import Population

TRUTH: Mapping[str, TruthColumn] = {}


class Config(StrictModel):
    """A lens without substructure."""

    kind: Literal["smooth"] = "smooth"


def draw(config: Config, host: Host, rng: np.random.Generator) -> Population:
    """Return the empty population."""
    return Population()
