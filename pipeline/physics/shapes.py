"""Priors of direction and shape: ellipticities, shear and places, each in two equivalent forms."""

import math
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from pipeline.core.config import StrictModel
from pipeline.core.priors import AnyPrior
from pipeline.physics.geometry import ellipticity
from pipeline.physics.quantities import (
    AnglePrior,
    AxisRatioPrior,
    EllipticityPrior,
    NonNegativeAngle,
    PhasePrior,
    ShearModulusPrior,
    ShearPrior,
)


class ShapeConfig(StrictModel):
    """Ellipticity, as axis ratio ``q`` and angle ``phi``, or as ``e1`` and ``e2``."""

    q: AxisRatioPrior | None = None
    phi: PhasePrior | None = None
    e1: EllipticityPrior | None = None
    e2: EllipticityPrior | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        _require_one_form(self, ("q", "phi"), ("e1", "e2"))
        if self.e1 is not None and self.e2 is not None and _largest(self.e1, self.e2) >= 1.0:
            raise ValueError("e1 and e2 can make an ellipticity of 1 or more")
        return self

    def draw(self, rng: np.random.Generator) -> tuple[float, float]:
        """Draw (e1, e2); two uniforms whichever the form."""
        if self.e1 is not None and self.e2 is not None:
            return self.e1.draw(rng), self.e2.draw(rng)
        assert self.q is not None and self.phi is not None
        q, phi = self.q.draw(rng), self.phi.draw(rng)
        e1, e2 = ellipticity(q, phi)
        return float(e1), float(e2)


class ShearConfig(StrictModel):
    """External shear, as ``modulus`` and ``angle``, or as ``gamma1`` and ``gamma2``."""

    modulus: ShearModulusPrior | None = None
    angle: PhasePrior | None = None
    gamma1: ShearPrior | None = None
    gamma2: ShearPrior | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        _require_one_form(self, ("modulus", "angle"), ("gamma1", "gamma2"))
        return self

    def draw(self, rng: np.random.Generator) -> tuple[float, float]:
        """Draw (gamma1, gamma2); two uniforms whichever the form."""
        if self.gamma1 is not None and self.gamma2 is not None:
            return self.gamma1.draw(rng), self.gamma2.draw(rng)
        assert self.modulus is not None and self.angle is not None
        modulus, angle = self.modulus.draw(rng), self.angle.draw(rng)
        return modulus * math.cos(2.0 * angle), modulus * math.sin(2.0 * angle)


class DiscPosition(StrictModel):
    """Uniform in a disc around the lens centre."""

    kind: Literal["disc"] = "disc"
    radius: float = Field(default=0.28, ge=0, lt=2)  # in theta_E; PHYSICS 3

    def narrowed(self, width: float) -> Self:
        """A disc of ``width`` times the radius."""
        return self.with_changes(radius=self.radius * width)

    def draw(self, rng: np.random.Generator, theta_E: float) -> tuple[float, float]:
        """Draw (x, y) from the lens centre, arcsec."""
        radius = self.radius * theta_E * math.sqrt(rng.random())
        angle = 2.0 * math.pi * rng.random()
        return radius * math.cos(angle), radius * math.sin(angle)


class BoxPosition(StrictModel):
    """Uniform in a square around the lens centre."""

    kind: Literal["box"] = "box"
    half_width: NonNegativeAngle

    def narrowed(self, width: float) -> Self:
        """A square of ``width`` times the size."""
        return self.with_changes(half_width=self.half_width * width)

    def draw(self, rng: np.random.Generator, theta_E: float) -> tuple[float, float]:
        """Draw (x, y) from the lens centre, arcsec."""
        x, y = (self.half_width * (2.0 * rng.random() - 1.0) for _ in range(2))
        return x, y


class PlacedPosition(StrictModel):
    """Where ``x`` and ``y`` say, from the lens centre."""

    kind: Literal["placed"] = "placed"
    x: AnglePrior
    y: AnglePrior

    def draw(self, rng: np.random.Generator, theta_E: float) -> tuple[float, float]:
        """Draw (x, y) from the lens centre, arcsec."""
        return self.x.draw(rng), self.y.draw(rng)


def _require_one_form(model: StrictModel, *forms: tuple[str, str]) -> None:
    given = {name for form in forms for name in form if getattr(model, name) is not None}
    if given not in [set(form) for form in forms]:
        shown = ", ".join(sorted(given)) or "nothing"
        names = " or ".join(f"{a} and {b}" for a, b in forms)
        raise ValueError(f"expected {names}, found {shown}")


def _largest(first: AnyPrior, second: AnyPrior) -> float:
    sizes = [max(abs(edge) for edge in prior.support()) for prior in (first, second)]
    return math.hypot(*sizes)
