"""What a kind of substructure provides, and the family that finds the kinds.

A kind is a module with ``Config``, ``TRUTH`` (its own columns of the truth) and
``draw(config, host, rng) -> Population``. It draws the number of perturbers first and every
quantity from its own child of ``rng``, so that thinning one array never shifts another. ``rng`` is
of the stream SUBSTRUCTURE. A random field is only described here: ``draw_scene`` realises field k
of a population from child k of the image's stream FIELD, so no population shifts its noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.core.registry import Family
from pipeline.physics.components import FieldComponent, Perturbers

SUBSTRUCTURE = Family("substructure", "pipeline.physics.substructure")


class RandomField(Protocol):
    """Description of a random field of mass; the noise is not part of it."""

    def realise(self, rng: np.random.Generator) -> FieldComponent:
        """Deflection of the realisation that ``rng`` (of stream FIELD) gives."""
        ...


@dataclass(frozen=True)
class Population:
    """One realisation of substructure.

    Attributes
    ----------
    perturbers : tuple of Perturbers
    fields : tuple of RandomField
    truth : Mapping[str, float]
        The kind's own columns, named in its ``TRUTH``.
    disc_radius : float, arcsec
        Radius of the field over which the population is spread; its mean mass is taken away as a
        uniform disc of this radius (PHYSICS 4.6). 0 for substructure that is no field population.
    """

    perturbers: tuple[Perturbers, ...] = ()
    fields: tuple[RandomField, ...] = ()
    truth: Mapping[str, float] = field(default_factory=dict)
    disc_radius: float = 0.0


def power_law(u: NDArray[np.float64], low: float, high: float, slope: float) -> NDArray[np.float64]:
    """Quantile of dN/dm ~ m^slope between ``low`` and ``high``, equation (4.1).

    Parameters
    ----------
    u : array, in [0, 1)
    low, high : float, M_sun
    slope : float

    Returns
    -------
    array, M_sun
    """
    b = slope + 1.0
    if abs(b) < 1e-12:
        return np.asarray(low * (high / low) ** u)
    return np.asarray((low**b + (high**b - low**b) * u) ** (1.0 / b))


def power_law_moment(low: float, high: float, slope: float, order: int) -> float:
    """Integral of m^(slope + order) from ``low`` to ``high``."""
    b = slope + order + 1.0
    if abs(b) < 1e-12:
        return float(np.log(high / low))
    return float((high**b - low**b) / b)
