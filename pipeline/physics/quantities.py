"""Types of the configuration fields of this layer: quantities and priors with unit and bounds.

A type checker sees ``float`` or ``AnyPrior``; pydantic sees the unit and the bounds.
"""

from typing import TYPE_CHECKING

from pipeline.core.config import quantity
from pipeline.core.priors import AnyPrior, prior

if TYPE_CHECKING:
    type Angle = float
    type NonNegativeAngle = float
    type Length = float
    type Mass = float
    type Magnitude = float
    type SurfaceBrightness = float
    type Seconds = float
    type Electrons = float
    type ElectronRate = float
    type Gain = float
    type AnglePrior = AnyPrior
    type PositiveAnglePrior = AnyPrior
    type PhasePrior = AnyPrior
    type AxisRatioPrior = AnyPrior
    type EllipticityPrior = AnyPrior
    type SlopePrior = AnyPrior
    type ShearModulusPrior = AnyPrior
    type ShearPrior = AnyPrior
    type RedshiftPrior = AnyPrior
    type MassPrior = AnyPrior
    type SpeedPrior = AnyPrior
    type MultipolePrior = AnyPrior
    type MagnitudePrior = AnyPrior
    type SersicIndexPrior = AnyPrior
    type Log10AxionMassPrior = AnyPrior
    type SurfaceNumberPrior = AnyPrior
    type ExposurePrior = AnyPrior
    type FractionPrior = AnyPrior
    type ShareOrNonePrior = AnyPrior
    type Log10MassPrior = AnyPrior
else:
    Angle = quantity("arcsec", gt=0)
    NonNegativeAngle = quantity("arcsec", ge=0)
    Length = quantity("kpc", gt=0)
    Mass = quantity("M_sun", gt=0)
    Magnitude = quantity("mag")
    SurfaceBrightness = quantity("mag/arcsec^2")
    Seconds = quantity("s", gt=0)
    Electrons = quantity("electron", ge=0)
    ElectronRate = quantity("electron/s", ge=0)
    Gain = quantity("electron/ADU", gt=0)

    AnglePrior = prior("arcsec")
    PositiveAnglePrior = prior("arcsec", gt=0)
    PhasePrior = prior("rad")
    # Below q = 0.2 no galaxy is a lens, and series and potentials lose their meaning.
    AxisRatioPrior = prior(ge=0.2, le=1)
    EllipticityPrior = prior(gt=-0.6, lt=0.6)
    # Finite mass inside the ring needs a slope below 3, a finite deflection one above 1.
    SlopePrior = prior(gt=1, lt=3)
    ShearModulusPrior = prior(ge=0, lt=0.5)
    ShearPrior = prior(gt=-0.35, lt=0.35)
    RedshiftPrior = prior(gt=0, lt=20)
    MassPrior = prior("M_sun", gt=0)
    SpeedPrior = prior("km/s", gt=0, lt=2000)
    # Observed galaxies stay within a few per cent.
    MultipolePrior = prior(ge=-0.1, le=0.1)
    MagnitudePrior = prior("mag", gt=-50, lt=50)
    SersicIndexPrior = prior(ge=0.4, le=8)
    Log10AxionMassPrior = prior(gt=-26, lt=-15)
    Log10MassPrior = prior(gt=0, lt=16)
    SurfaceNumberPrior = prior("kpc^-2", ge=0)
    ExposurePrior = prior("s", gt=0)
    FractionPrior = prior(gt=0, lt=1)
    ShareOrNonePrior = prior(ge=0, le=1)
