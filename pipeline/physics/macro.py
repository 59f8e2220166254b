"""The smooth main lens: configuration, draw, and its mass components."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from pydantic import model_validator

from pipeline.core.config import StrictModel
from pipeline.core.priors import Constant
from pipeline.physics.components import MassComponent, TruthColumn
from pipeline.physics.geometry import axis_ratio_angle
from pipeline.physics.host import Host
from pipeline.physics.quantities import (
    AnglePrior,
    MassPrior,
    MultipolePrior,
    PhasePrior,
    PositiveAnglePrior,
    SlopePrior,
    SpeedPrior,
)
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


class MultipoleConfig(StrictModel):
    """Departure of the isodensity contours from ellipses, of order 3 or 4 (PHYSICS 2)."""

    kind: Literal["elliptical", "circular"] = (
        "elliptical"  # circular only serves nearly round lenses
    )
    m: Literal[3, 4]
    amplitude: MultipolePrior  # a_m/theta_E; at m = 4, angle 0: discy above zero, boxy below
    angle: PhasePrior = Constant(value=0.0)  # from the major axis; 0 is aligned


class MacroConfig(StrictModel):
    """Elliptical isothermal or power-law lens with external shear and multipoles."""

    profile: Literal["sie", "epl"] = "epl"
    theta_E: PositiveAnglePrior | None = None  # total Einstein radius ...
    einstein_mass: MassPrior | None = None  # ... or the mass inside it ...
    sigma_v: SpeedPrior | None = (
        None  # ... or the dispersion of the isothermal sphere of that radius
    )
    slope: SlopePrior = Constant(value=2.0)  # isothermal; must stay 2 for profile sie
    shape: ShapeConfig
    shear: ShearConfig
    center_x: AnglePrior = Constant(value=0.0)
    center_y: AnglePrior = Constant(value=0.0)
    multipoles: tuple[MultipoleConfig, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        sizes = (self.theta_E, self.einstein_mass, self.sigma_v)
        if sum(size is not None for size in sizes) != 1:
            raise ValueError("expected one of theta_E and einstein_mass and sigma_v")
        orders = [multipole.m for multipole in self.multipoles]
        if len(set(orders)) < len(orders):
            raise ValueError(f"multipoles must have different m, found {orders}")
        if self.profile == "sie" and self.slope.support() != (2.0, 2.0):
            raise ValueError("profile sie is isothermal: leave slope out, or use profile epl")
        return self


@dataclass(frozen=True)
class Macro:
    """Drawn values of the macro lens; ``size`` is theta_E (arcsec), the mass inside it or sigma_v.

    ``multipoles`` holds (a_m/theta_E, angle from the major axis) in the order of the configuration.
    """

    size: float
    slope: float
    e1: float
    e2: float
    gamma1: float
    gamma2: float
    center_x: float
    center_y: float
    multipoles: tuple[tuple[float, float], ...] = ()


def draw_macro(
    config: MacroConfig, rng: np.random.Generator, multipole_rng: np.random.Generator
) -> Macro:
    """Draw the macro lens: eight uniforms of ``rng`` in a fixed order, two for each multipole."""
    (prior,) = (p for p in (config.theta_E, config.einstein_mass, config.sigma_v) if p is not None)
    size, slope = prior.draw(rng), config.slope.draw(rng)
    e1, e2 = config.shape.draw(rng)
    gamma1, gamma2 = config.shear.draw(rng)
    center_x, center_y = config.center_x.draw(rng), config.center_y.draw(rng)
    multipoles = tuple(
        (block.amplitude.draw(multipole_rng), block.angle.draw(multipole_rng))
        for block in config.multipoles
    )
    return Macro(size, slope, e1, e2, gamma1, gamma2, center_x, center_y, multipoles)


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
        The ellipsoid first, then the shear, then the multipoles.
    """
    q, phi = axis_ratio_angle(macro.e1, macro.e2)
    center = {"center_x": macro.center_x, "center_y": macro.center_y}
    slope = {"slope": macro.slope} if config.profile == "epl" else {}
    ellipsoid = {"theta_E": theta_E, **slope, "q": float(q), "phi": float(phi), **center}
    shear = {"gamma1": scaling * macro.gamma1, "gamma2": scaling * macro.gamma2, **center}
    multipoles = zip(config.multipoles, macro.multipoles, strict=True)
    return (
        MassComponent(config.profile, host.z_lens, ellipsoid),
        MassComponent("shear", host.z_lens, shear),
        *(_multipole(block, drawn, host, float(q), float(phi)) for block, drawn in multipoles),
    )


def _multipole(
    block: MultipoleConfig, drawn: tuple[float, float], host: Host, q: float, phi: float
) -> MassComponent:
    """Sized by the total Einstein radius, so that it is the same for every class."""
    amplitude, angle = drawn
    size = {"m": float(block.m), "a_m": amplitude * host.theta_E}
    center = {"center_x": host.center_x, "center_y": host.center_y}
    if block.kind == "circular":
        return MassComponent("multipole", host.z_lens, {**size, "phi_m": phi + angle, **center})
    ellipse = {"phi_m": angle, "q": q, "phi": phi, "theta_E": host.theta_E}
    return MassComponent("elliptical_multipole", host.z_lens, {**size, **ellipse, **center})


def truth_columns(configs: Sequence[MacroConfig]) -> dict[str, TruthColumn]:
    """Columns of :func:`macro_truth` under any of ``configs``."""
    columns = dict(TRUTH)
    for m in sorted({block.m for config in configs for block in config.multipoles}):
        columns[f"a_{m}"] = TruthColumn("", f"amplitude of the m = {m} multipole over theta_E")
        columns[f"phi_{m}"] = TruthColumn("rad", f"its angle from the major axis (m = {m})")
    return columns


def macro_truth(config: MacroConfig, macro: Macro, host: Host) -> dict[str, float]:
    """Columns of :func:`truth_columns`."""
    q, phi = axis_ratio_angle(macro.e1, macro.e2)
    multipoles: dict[str, float] = {}
    for block, (amplitude, angle) in zip(config.multipoles, macro.multipoles, strict=True):
        multipoles |= {f"a_{block.m}": amplitude, f"phi_{block.m}": angle}
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
        **multipoles,
    }
