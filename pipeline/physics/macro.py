"""The smooth main lens: configuration, draw, and its mass components."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from pydantic import model_validator

from pipeline.core.config import StrictModel
from pipeline.core.priors import Constant
from pipeline.physics.components import MassComponent, TruthColumn
from pipeline.physics.geometry import axis_ratio_angle
from pipeline.physics.host import Host
from pipeline.physics.quantities import AnglePrior, MassPrior, PositiveAnglePrior, SlopePrior
from pipeline.physics.shapes import ShapeConfig, ShearConfig

TRUTH = {
    "theta_E": TruthColumn("arcsec", "total Einstein radius, substructure included"),
    "slope": TruthColumn("", "three-dimensional density slope of the macro lens"),
    "q": TruthColumn("", "axis ratio of the macro lens"),
    "phi": TruthColumn("rad", "position angle of the macro lens"),
    "e1": TruthColumn("", "ellipticity of the macro lens"),
    "e2": TruthColumn("", "ellipticity of the macro lens"),
    "center_x": TruthColumn("arcsec", "centre of the lens"),
    "center_y": TruthColumn("arcsec", "centre of the lens"),
    "gamma1": TruthColumn("", "external shear"),
    "gamma2": TruthColumn("", "external shear"),
}


class MacroConfig(StrictModel):
    """Elliptical isothermal or power-law lens with external shear."""

    profile: Literal["sie", "epl"] = "epl"
    theta_E: PositiveAnglePrior | None = None  # total Einstein radius ...
    einstein_mass: MassPrior | None = None  # ... or the mass inside it
    slope: SlopePrior = Constant(value=2.0)  # isothermal; must stay 2 for profile sie
    shape: ShapeConfig
    shear: ShearConfig
    center_x: AnglePrior = Constant(value=0.0)
    center_y: AnglePrior = Constant(value=0.0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.theta_E is None) == (self.einstein_mass is None):
            raise ValueError("expected one of theta_E and einstein_mass")
        if self.profile == "sie" and self.slope.support() != (2.0, 2.0):
            raise ValueError("profile sie is isothermal: leave slope out, or use profile epl")
        return self


@dataclass(frozen=True)
class Macro:
    """Drawn values of the macro lens; ``size`` is theta_E (arcsec) or the mass inside it."""

    size: float
    slope: float
    e1: float
    e2: float
    gamma1: float
    gamma2: float
    center_x: float
    center_y: float


def draw_macro(config: MacroConfig, rng: np.random.Generator) -> Macro:
    """Draw the macro lens: eight uniforms in a fixed order."""
    prior = config.theta_E if config.theta_E is not None else config.einstein_mass
    assert prior is not None
    size, slope = prior.draw(rng), config.slope.draw(rng)
    e1, e2 = config.shape.draw(rng)
    gamma1, gamma2 = config.shear.draw(rng)
    center_x, center_y = config.center_x.draw(rng), config.center_y.draw(rng)
    return Macro(size, slope, e1, e2, gamma1, gamma2, center_x, center_y)


def macro_components(
    config: MacroConfig, macro: Macro, host: Host, theta_E: float, scaling: float
) -> tuple[MassComponent, ...]:
    """Mass components of the macro lens.

    Parameters
    ----------
    config : MacroConfig
    macro : Macro
    host : Host
    theta_E : float, arcsec
        Einstein radius of the macro alone.
    scaling : float
        Factor on the shear (the z_convention_bug of the legacy presets, else 1).

    Returns
    -------
    tuple of MassComponent
        The ellipsoid first, then the shear.
    """
    q, phi = axis_ratio_angle(macro.e1, macro.e2)
    center = {"center_x": macro.center_x, "center_y": macro.center_y}
    slope = {"slope": macro.slope} if config.profile == "epl" else {}
    ellipsoid = {"theta_E": theta_E, **slope, "q": float(q), "phi": float(phi), **center}
    shear = {"gamma1": scaling * macro.gamma1, "gamma2": scaling * macro.gamma2, **center}
    return (
        MassComponent(config.profile, host.z_lens, ellipsoid),
        MassComponent("shear", host.z_lens, shear),
    )


def macro_truth(macro: Macro, host: Host) -> dict[str, float]:
    """Columns of ``TRUTH``."""
    q, phi = axis_ratio_angle(macro.e1, macro.e2)
    return {
        "theta_E": host.theta_E,
        "slope": macro.slope,
        "q": float(q),
        "phi": float(phi),
        "e1": macro.e1,
        "e2": macro.e2,
        "center_x": macro.center_x,
        "center_y": macro.center_y,
        "gamma1": macro.gamma1,
        "gamma2": macro.gamma2,
    }
