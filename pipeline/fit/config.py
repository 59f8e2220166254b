"""What a fit is told: the smooth model, its Gaussian priors, and how hard to search.

Everything a fit needs beside the image, its noise and the instrument; it has one hash, travels in
checkpoints, and says how a stored residual was made.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.core.config import StrictModel, hint, load_config
from pipeline.core.resources import sim_params
from pipeline.physics.quantities import Angle


class GaussianPrior(StrictModel):
    """Gaussian prior of one parameter, in its own unit; ``sigma: 0`` holds it at the mean.

    It is Gaussian in the unbounded coordinate of the parameter, with this mean and, at the mean,
    this width.
    """

    mean: float
    sigma: float = Field(ge=0)


class MacroModel(StrictModel):
    """The lens: an ellipsoid with external shear, multipoles on request."""

    profile: Literal["sie", "epl"] = "epl"
    shear: bool = True
    multipoles: tuple[Literal[3, 4], ...] = ()  # elliptical ones, of free amplitude and angle

    @model_validator(mode="after")
    def _different(self) -> Self:
        if len(set(self.multipoles)) < len(self.multipoles):
            raise ValueError(f"multipoles must have different m, found {list(self.multipoles)}")
        return self


class SersicSource(StrictModel):
    """Elliptical Sersic galaxies; the flux of each is solved for in every step."""

    kind: Literal["sersic"] = "sersic"
    n_components: int = Field(default=1, ge=1, le=4)


class ShapeletSource(StrictModel):
    """Cartesian shapelets (Refregier 2003) of order <= ``n_max``, their scale and place free."""

    kind: Literal["shapelets"] = "shapelets"
    n_max: int = Field(default=8, ge=0, le=20)
    sersic: bool = True  # beneath them, a Sersic galaxy that they only correct


class PixelSource(StrictModel):
    """A square grid of ``n_side`` x ``n_side`` source pixels, bilinear, its scale and place free.

    Neighbours are held together by a prior on their differences, its strength found from the
    evidence (Suyu et al. 2006).
    """

    kind: Literal["pixels"] = "pixels"
    n_side: int = Field(default=12, ge=4, le=40)


AnySource = Annotated[SersicSource | ShapeletSource | PixelSource, Field(discriminator="kind")]


class LensModel(StrictModel):
    """A smooth lens and its source."""

    macro: MacroModel = MacroModel()
    source: AnySource = SersicSource()
    lens_light: int = Field(default=0, ge=0, le=2)  # Sersic components around the lens
    background: bool = False  # a constant in each band


class Search(StrictModel):
    """How the maximum is looked for.

    Each start is first improved on pixels of twice the size; the best are finished on the image
    itself. Images that end badly are tried again from ``more_starts`` others.
    """

    n_starts: int = Field(default=1, ge=1)
    more_starts: int = Field(default=12, ge=0)
    coarse_iterations: int = Field(default=12, ge=1)
    max_iterations: int = Field(default=80, ge=1)
    tolerance: float = Field(default=0.02, gt=0)  # of -2 ln posterior: smaller gains end a fit


class Perturbers(StrictModel):
    """Masses that the model lacks and that are looked for in what it leaves of the image.

    Round ones anywhere in the image, and rods about its middle.
    """

    softenings: tuple[Angle, ...] = (0.05, 0.2, 0.6)  # of round masses, arcsec
    half_lengths: tuple[Angle, ...] = (0.075, 0.12, 0.19, 0.3, 0.48, 0.75, 1.2)  # of rods, arcsec
    rod_reach: float = Field(default=0.36, gt=0)  # of the middles of rods, in mean prior theta_E
    # Einstein radii, arcsec, over which Bayes factors are averaged, evenly in the logarithm.
    theta_E: tuple[Angle, Angle] = (0.03, 0.25)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.theta_E[0] < self.theta_E[1]:
            raise ValueError(f"theta_E must be (low, high), found {list(self.theta_E)}")
        for name in ("softenings", "half_lengths"):
            lengths = getattr(self, name)
            if len(set(lengths)) < len(lengths):
                raise ValueError(f"{name} must be different, found {list(lengths)}")
        return self

    @property
    def n_groups(self) -> int:
        """Number of kinds of masses, each of which has a Bayes factor."""
        return len(self.softenings) + len(self.half_lengths)


class FitConfig(StrictModel):
    """A smooth-lens fit."""

    model: LensModel = LensModel()
    priors: dict[str, GaussianPrior] = Field(default_factory=dict)  # over the defaults, by name
    search: Search = Search()
    supersample: int = Field(default=2, ge=1, le=8)
    precision: Literal["float32", "float64"] = "float32"
    robust: float | None = Field(default=None, gt=0)  # sigma beyond which pixels count less
    response: Perturbers = Perturbers()
    poor_chi2: float = Field(
        default=1.25, gt=1
    )  # reduced chi2 above which, or below 1/which, a fit is poor

    @model_validator(mode="after")
    def _known_priors(self) -> Self:
        from pipeline.fit.parameters import parameter_names

        names = parameter_names(self.model)
        for name in self.priors:
            if name not in names:
                raise ValueError(f"priors: the model has no parameter {name!r}{hint(name, names)}")
        for name, prior in self.priors.items():
            if not math.isfinite(prior.mean):
                raise ValueError(f"priors.{name}: the mean must be finite")
        return self


def load_fit_config(source: str | Path, overrides: Sequence[str] = ()) -> FitConfig:
    """Read ``sim_params/fit/NAME.yaml`` or a YAML file.

    Parameters
    ----------
    source : str or Path
    overrides : sequence of str
        ``"key.key=value"``.

    Raises
    ------
    ConfigError
    """
    return load_config(source, FitConfig, overrides, presets=sim_params() / "fit")


def fit_preset_names() -> tuple[str, ...]:
    """Names of the shipped fits, sorted."""
    return tuple(sorted(path.stem for path in (sim_params() / "fit").glob("*.yaml")))
