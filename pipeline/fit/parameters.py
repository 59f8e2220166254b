"""The parameters of a smooth lens: names, units, and the maps to coordinates without bounds.

A parameter that has bounds is a smooth function of a coordinate that has none; priors are Gaussian
in these coordinates. A fit works in *whitened* ones, z = (u - mean)/sigma, whose prior is N(0, 1).
Written on the array API for numpy and jax.numpy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError
from pipeline.fit.config import (
    FitConfig,
    GaussianPrior,
    LensModel,
    PixelSource,
    SersicSource,
    ShapeletSource,
)
from pipeline.physics.profiles.array_api import Array, namespace

type Floats = NDArray[np.float64]
type Kind = Literal["plain", "log", "interval", "disc"]

#: Parameters of the ellipsoid and the shear that every model has, in this order.
MACRO = ("theta_E", "slope", "e1", "e2", "center_x", "center_y", "gamma1", "gamma2")
_SERSIC = ("x", "y", "r_eff", "n", "e1", "e2")


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes
    ----------
    name, unit : str
    kind : str
        ``plain`` has no bounds; ``log`` is positive; ``interval`` lies between ``low`` and
        ``high``; of two neighbours of kind ``disc`` the vector is shorter than ``high``.
    prior : GaussianPrior
        The default.
    """

    name: str
    unit: str
    kind: Kind
    prior: GaussianPrior
    low: float = 0.0
    high: float = 0.0


def _prior(mean: float, sigma: float) -> GaussianPrior:
    return GaussianPrior(mean=mean, sigma=sigma)


def _sersic(prefix: str, r_eff: float, place: float) -> tuple[Parameter, ...]:
    return (
        Parameter(f"{prefix}_x", "arcsec", "plain", _prior(0.0, place)),
        Parameter(f"{prefix}_y", "arcsec", "plain", _prior(0.0, place)),
        Parameter(f"{prefix}_r_eff", "arcsec", "log", _prior(r_eff, 0.6 * r_eff)),
        Parameter(f"{prefix}_n", "", "interval", _prior(1.5, 0.8), 0.4, 6.0),
        Parameter(f"{prefix}_e1", "", "disc", _prior(0.0, 0.18), high=0.7),
        Parameter(f"{prefix}_e2", "", "disc", _prior(0.0, 0.18), high=0.7),
    )


def parameters(model: LensModel) -> tuple[Parameter, ...]:
    """Every non-linear parameter of a model, in the order of its vectors.

    Parameters
    ----------
    model : LensModel

    Returns
    -------
    tuple of Parameter
        Places of the source and of the light count from the centre of the lens.
    """
    macro = model.macro
    slope_width = 0.15 if macro.profile == "epl" else 0.0
    shear_width = 0.05 if macro.shear else 0.0
    found = [
        Parameter("theta_E", "arcsec", "log", _prior(1.1, 0.4)),
        Parameter("slope", "", "interval", _prior(2.0, slope_width), 1.2, 2.8),
        Parameter("e1", "", "disc", _prior(0.0, 0.12), high=0.5),
        Parameter("e2", "", "disc", _prior(0.0, 0.12), high=0.5),
        Parameter("center_x", "arcsec", "plain", _prior(0.0, 0.05)),
        Parameter("center_y", "arcsec", "plain", _prior(0.0, 0.05)),
        Parameter("gamma1", "", "disc", _prior(0.0, shear_width), high=0.4),
        Parameter("gamma2", "", "disc", _prior(0.0, shear_width), high=0.4),
    ]
    for m in macro.multipoles:
        found += [
            Parameter(f"a{m}_{part}", "", "plain", _prior(0.0, 0.01)) for part in ("cos", "sin")
        ]
    return (*found, *_source(model), *_light(model))


def _source(model: LensModel) -> tuple[Parameter, ...]:
    source = model.source
    if isinstance(source, SersicSource):
        found = _sersic("source", 0.2, 0.2)
        for k in range(2, source.n_components + 1):
            found += _sersic(f"source_{k}", 0.1, 0.3)
        return found
    scale = Parameter("source_scale", "arcsec", "log", _prior(0.12, 0.06))
    if isinstance(source, PixelSource):
        scale = Parameter("source_scale", "arcsec", "log", _prior(0.6, 0.2))
    if isinstance(source, ShapeletSource) and source.sersic:
        return (*_sersic("source", 0.2, 0.2), scale)
    place = tuple(Parameter(f"source_{a}", "arcsec", "plain", _prior(0.0, 0.2)) for a in "xy")
    return (*place, scale)


def _light(model: LensModel) -> tuple[Parameter, ...]:
    found: tuple[Parameter, ...] = ()
    for k in range(1, model.lens_light + 1):
        found += _sersic("light" if k == 1 else f"light_{k}", (0.8, 0.25)[k - 1], 0.03)
    return found


def parameter_names(model: LensModel) -> tuple[str, ...]:
    """Names of :func:`parameters`."""
    return tuple(p.name for p in parameters(model))


class Coordinates:
    """Maps between a model's parameters and their whitened coordinates.

    Parameters
    ----------
    config : FitConfig
        Its priors replace the defaults.

    Raises
    ------
    ConfigError
        If the mean of a prior is no value that its parameter can have.
    """

    def __init__(self, config: FitConfig) -> None:
        self.parameters = parameters(config.model)
        self.names = tuple(p.name for p in self.parameters)
        self.units = tuple(p.unit for p in self.parameters)
        priors = [config.priors.get(p.name, p.prior) for p in self.parameters]
        means = np.array([prior.mean for prior in priors])
        _check_means(self.parameters, means)
        #: Means of the priors in the coordinates without bounds, and their widths there.
        self.mean = self._unbounded(means)
        slopes = np.abs(np.diagonal(self._slopes(self.mean)))
        self.width = np.array([prior.sigma for prior in priors]) / slopes

    def __len__(self) -> int:
        return len(self.parameters)

    def index(self, name: str) -> int:
        """Position of a parameter in the vectors."""
        return self.names.index(name)

    def values(self, z: Array) -> Array:
        """Parameters of whitened coordinates, shape (..., P) each; within their bounds for any z.

        Parameters
        ----------
        z : Array, shape (..., P)

        Returns
        -------
        Array, shape (..., P)
        """
        xp = namespace(z)
        u = xp.asarray(self.mean, dtype=z.dtype) + z * xp.asarray(self.width, dtype=z.dtype)
        return self._bounded(u)

    def whitened(self, values: Floats) -> Floats:
        """Whitened coordinates of parameters, the inverse of :meth:`values`; 0 for fixed ones.

        Parameters
        ----------
        values : Floats, shape (..., P)
            Values outside the bounds are taken for the nearest that are well inside.
        """
        u = self._unbounded(np.asarray(values, np.float64))
        width = np.where(self.width > 0, self.width, 1.0)
        return np.asarray(np.where(self.width > 0, (u - self.mean) / width, 0.0))

    def jacobian(self, z: Floats) -> Floats:
        """Derivatives of :meth:`values` by the whitened coordinates, shape (..., P, P)."""
        return np.asarray(self._slopes(self.mean + z * self.width) * self.width)

    def _bounded(self, u: Array) -> Array:
        xp = namespace(u)
        columns = []
        for k, p in enumerate(self.parameters):
            column = u[..., k]
            if p.kind == "log":
                column = xp.exp(xp.clip(column, -10.0, 10.0))
            elif p.kind == "interval":
                column = p.low + (p.high - p.low) * (0.5 + 0.5 * xp.tanh(0.5 * column))
            elif p.kind == "disc":
                first = self._first_of_pair(k)
                size2 = u[..., first] ** 2 + u[..., first + 1] ** 2
                column = column / xp.sqrt(1.0 + size2 / p.high**2)
            columns.append(column)
        return xp.stack(columns, axis=-1)

    def _unbounded(self, values: Floats) -> Floats:
        u = np.array(values, np.float64)
        for k, p in enumerate(self.parameters):
            column = values[..., k]
            if p.kind == "log":
                u[..., k] = np.log(np.maximum(column, 1e-4))
            elif p.kind == "interval":
                share = np.clip((column - p.low) / (p.high - p.low), 1e-3, 1.0 - 1e-3)
                u[..., k] = np.log(share / (1.0 - share))
            elif p.kind == "disc":
                first = self._first_of_pair(k)
                size = np.hypot(values[..., first], values[..., first + 1])
                shrink = np.minimum(1.0, 0.98 * p.high / np.maximum(size, 1e-30))
                inside = size * shrink
                u[..., k] = column * shrink / np.sqrt(1.0 - (inside / p.high) ** 2)
        return u

    def _slopes(self, u: Floats) -> Floats:
        """Derivatives of the parameters by the coordinates without bounds, shape (..., P, P)."""
        n = len(self.parameters)
        slopes = np.zeros((*u.shape[:-1], n, n))
        values = self._bounded(u)
        for k, p in enumerate(self.parameters):
            if p.kind == "plain":
                slopes[..., k, k] = 1.0
            elif p.kind == "log":
                slopes[..., k, k] = values[..., k]
            elif p.kind == "interval":
                low, high = values[..., k] - p.low, p.high - values[..., k]
                slopes[..., k, k] = low * high / (p.high - p.low)
            else:
                first = self._first_of_pair(k)
                a, b = u[..., first], u[..., first + 1]
                stretch = 1.0 + (a * a + b * b) / p.high**2
                for j, other in ((first, a), (first + 1, b)):
                    cross = u[..., k] * other / p.high**2 / stretch**1.5
                    slopes[..., k, j] = (j == k) / np.sqrt(stretch) - cross
        return slopes

    def _first_of_pair(self, k: int) -> int:
        """Position of the first of the two neighbours that make a vector."""
        return k if self.names[k].endswith("1") else k - 1


def _check_means(every: Sequence[Parameter], means: Floats) -> None:
    for k, (p, mean) in enumerate(zip(every, means, strict=True)):
        size = mean
        if p.kind == "disc":
            first = k if p.name.endswith("1") else k - 1
            size = float(np.hypot(means[first], means[first + 1]))
        good = {
            "plain": True,
            "log": mean > 0,
            "interval": p.low < mean < p.high,
            "disc": size < p.high,
        }[p.kind]
        if not good:
            bounds = "above 0" if p.kind == "log" else f"between {p.low:g} and {p.high:g}"
            raise ConfigError(f"priors.{p.name}.mean: {mean:g} is not {bounds}")


def merged_priors(
    config: FitConfig, priors: Mapping[str, GaussianPrior], over: bool = False
) -> FitConfig:
    """Copy of ``config`` with those of ``priors`` that its model knows.

    Parameters
    ----------
    config : FitConfig
    priors : Mapping
    over : bool
        Whether they replace what the configuration says itself.
    """
    known = set(parameter_names(config.model))
    chosen = {name: prior for name, prior in priors.items() if name in known}
    both = {**config.priors, **chosen} if over else {**chosen, **config.priors}
    return config.with_changes(priors=both)
