"""The parts of a scene: masses, perturbers, fields, light, and what is known about them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TruthColumn:
    """What one number of a scene's truth means.

    Attributes
    ----------
    unit : str
        Canonical unit, "" for none.
    description : str
    """

    unit: str
    description: str


@dataclass(frozen=True)
class MassComponent:
    """One mass profile of the main lens.

    Attributes
    ----------
    profile : str
        A name of ``profiles.table.PROFILES``.
    z : float
        Redshift.
    params : Mapping[str, float]
        Every parameter of the profile.
    """

    profile: str
    z: float
    params: Mapping[str, float]


@dataclass(frozen=True)
class Perturbers:
    """Many masses of one profile, as columns.

    Attributes
    ----------
    profile : str
        A name of ``profiles.table.PROFILES``.
    z : Floats, shape (n,)
        Redshifts.
    params : Mapping[str, Floats], each (n,)
        Every parameter of the profile.
    mass : Floats, shape (n,), M_sun
        Total mass of each; negative for mass taken away.
    """

    profile: str
    z: Floats
    params: Mapping[str, Floats]
    mass: Floats

    def __len__(self) -> int:
        return len(self.mass)


@dataclass(frozen=True)
class FieldComponent:
    """A deflection given on a square grid, for mass that is no sum of profiles.

    The grid is centred on the optical axis; between its points the deflection is a bicubic spline
    (``fields``).

    Attributes
    ----------
    cell : float, arcsec
        Distance between neighbouring points.
    deflection : array, shape (2, n, n), float32, arcsec
        Components along x and y, each ``[row = y, column = x]``.
    """

    cell: float
    deflection: NDArray[np.float32]

    @property
    def half_width(self) -> float:
        """Distance of the outermost points from the axes, arcsec."""
        return 0.5 * (len(self.deflection[0]) - 1) * self.cell


@dataclass(frozen=True)
class LightComponent:
    """One light profile, of unit total flux times its magnitude.

    Attributes
    ----------
    profile : str
        ``"sersic"``, or ``"image"``: a stamp of a galaxy.
    params : Mapping[str, float]
        Every parameter of the profile.
    magnitude : Floats, shape (n_bands,) or (1,), mag
        AB magnitude of the whole profile, unlensed; one value serves every band.
    stamp : Floats, shape (n, n), optional
        Flux in each pixel of an image, of unit sum; ``[row = y, column = x]``.
    """

    profile: str
    params: Mapping[str, float]
    magnitude: Floats
    stamp: Floats | None = None
