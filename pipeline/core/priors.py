"""Distributions that configuration can name; a plain number is a constant.

Every prior knows its support, so a range that leaves what physics allows is refused when the
configuration is read, not when a draw happens to fall outside.
"""

import math
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pipeline.core.config import StrictModel
from pipeline.core.units import parse_quantity

Float = NDArray[np.float64]


class Constant(StrictModel):
    """Always ``value``."""

    kind: Literal["constant"] = "constant"
    value: float

    def narrowed(self, width: float) -> Self:
        """The same: it has no width."""
        return self

    def draw(self, rng: np.random.Generator) -> float:
        """Return the value; consumes one uniform so that freezing a parameter shifts no other."""
        rng.random()
        return self.value

    def support(self) -> tuple[float, float]:
        """Smallest and largest possible value."""
        return self.value, self.value

    def median(self) -> float:
        """Value that half of the draws stay below."""
        return self.value

    def std(self) -> float:
        """Standard deviation."""
        return 0.0


class Uniform(StrictModel):
    """Flat between ``low`` and ``high``."""

    kind: Literal["uniform"] = "uniform"
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        return _require_order(self, self.low, self.high)

    def narrowed(self, width: float) -> Self:
        """The same, contracted to ``width`` times its width about its median."""
        return self.with_changes(**_contracted(self, width, "low", "high"))

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        return self.low + (self.high - self.low) * rng.random()

    def support(self) -> tuple[float, float]:
        """Smallest and largest possible value."""
        return self.low, self.high

    def median(self) -> float:
        """Value that half of the draws stay below."""
        return 0.5 * (self.low + self.high)

    def std(self) -> float:
        """Standard deviation."""
        return (self.high - self.low) / math.sqrt(12.0)


class LogUniform(StrictModel):
    """Flat in the logarithm between ``low`` and ``high``, both positive."""

    kind: Literal["log_uniform"] = "log_uniform"
    low: float = Field(gt=0)
    high: float = Field(gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        return _require_order(self, self.low, self.high)

    def narrowed(self, width: float) -> Self:
        """The same, contracted to ``width`` times its width about its median."""
        middle = self.median()
        low, high = (middle * (edge / middle) ** width for edge in (self.low, self.high))
        return self.with_changes(low=low, high=high)

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        return float(self.low * (self.high / self.low) ** rng.random())

    def support(self) -> tuple[float, float]:
        """Smallest and largest possible value."""
        return self.low, self.high

    def median(self) -> float:
        """Value that half of the draws stay below."""
        return math.sqrt(self.low * self.high)

    def std(self) -> float:
        """Standard deviation: E[x^k] = (high^k - low^k) / (k ln(high/low))."""
        width = math.log(self.high / self.low)
        mean = (self.high - self.low) / width
        return math.sqrt(max((self.high**2 - self.low**2) / (2.0 * width) - mean**2, 0.0))


class Normal(StrictModel):
    """Gaussian with ``mean`` and standard deviation ``sigma``."""

    kind: Literal["normal"] = "normal"
    mean: float
    sigma: float = Field(gt=0)

    def narrowed(self, width: float) -> Self:
        """The same, contracted to ``width`` times its width about its median."""
        return self.with_changes(sigma=self.sigma * width)

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        return _normal_quantile(self.mean, self.sigma, rng.random())

    def support(self) -> tuple[float, float]:
        """The whole real line."""
        return -math.inf, math.inf

    def median(self) -> float:
        """Value that half of the draws stay below."""
        return self.mean

    def std(self) -> float:
        """Standard deviation."""
        return self.sigma


class TruncatedNormal(StrictModel):
    """Gaussian with ``mean`` and ``sigma``, cut at ``low`` and ``high``."""

    kind: Literal["truncated_normal"] = "truncated_normal"
    mean: float
    sigma: float = Field(gt=0)
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        return _require_order(self, self.low, self.high)

    def narrowed(self, width: float) -> Self:
        """The same, contracted to ``width`` times its width about its median."""
        places = _contracted(self, width, "mean", "low", "high")
        return self.with_changes(sigma=self.sigma * width, **places)

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one value by inverting the cut distribution: exactly one uniform is used."""
        return self._quantile(rng.random())

    def support(self) -> tuple[float, float]:
        """Smallest and largest possible value."""
        return self.low, self.high

    def median(self) -> float:
        """Value that half of the draws stay below."""
        return self._quantile(0.5)

    def _quantile(self, u: float) -> float:
        a, b = (_normal_cdf((edge - self.mean) / self.sigma) for edge in (self.low, self.high))
        value = _normal_quantile(self.mean, self.sigma, a + (b - a) * u)
        return min(max(value, self.low), self.high)

    def std(self) -> float:
        """Standard deviation of the cut distribution (numerically, 2001 nodes)."""
        x = np.linspace(self.low, self.high, 2001)
        weight = np.exp(-0.5 * ((x - self.mean) / self.sigma) ** 2)
        mean = np.average(x, weights=weight)
        return float(np.sqrt(np.average((x - mean) ** 2, weights=weight)))


class Choice(StrictModel):
    """One of ``values``, with equal odds unless ``weights`` are given."""

    kind: Literal["choice"] = "choice"
    values: tuple[float, ...] = Field(min_length=1)
    weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None

    @model_validator(mode="after")
    def _matching(self) -> Self:
        if self.weights is not None:
            if len(self.weights) != len(self.values):
                raise ValueError(f"{len(self.weights)} weights for {len(self.values)} values")
            if sum(self.weights) <= 0:
                raise ValueError("weights must not all be zero")
        return self

    def narrowed(self, width: float) -> Self:
        """The same: its values have no order."""
        return self

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        edges = np.cumsum(self._odds())
        return self.values[min(int(np.searchsorted(edges, rng.random())), len(self.values) - 1)]

    def support(self) -> tuple[float, float]:
        """Smallest and largest possible value."""
        return min(self.values), max(self.values)

    def median(self) -> float:
        """Value that half of the draws stay below."""
        order = np.argsort(self.values)
        shares = np.cumsum(self._odds()[order])
        middle = int(order[min(int(np.searchsorted(shares, 0.5)), len(order) - 1)])
        return self.values[middle]

    def std(self) -> float:
        """Standard deviation."""
        mean = np.average(self.values, weights=self._odds())
        return float(np.sqrt(np.average((np.array(self.values) - mean) ** 2, weights=self._odds())))

    def _odds(self) -> Float:
        odds = np.array(self.weights if self.weights is not None else (1.0,) * len(self.values))
        return np.asarray(odds / odds.sum())


AnyPrior = Constant | Uniform | LogUniform | Normal | TruncatedNormal | Choice
#: A prior in YAML: a number, or a block with ``kind``.
Prior = Annotated[AnyPrior, Field(discriminator="kind")]


def narrowed[M: StrictModel](block: M, width: float) -> M:
    """A block of configuration with every prior in it contracted about its median.

    Parameters
    ----------
    block : StrictModel
        It, or whatever in it, that has a method ``narrowed`` is asked for it; other values stay.
    width : float
        Over the width as it is, above 0.
    """
    own = getattr(block, "narrowed", None)
    if own is not None:
        smaller: M = own(width)
        return smaller
    changes: dict[str, Any] = {}
    for name in type(block).model_fields:
        value = getattr(block, name)
        if isinstance(value, StrictModel):
            changes[name] = narrowed(value, width)
        elif isinstance(value, tuple) and all(isinstance(v, StrictModel) for v in value):
            changes[name] = tuple(narrowed(v, width) for v in value)
    return block.model_copy(update=changes)


def prior(
    unit: str | None = None,
    *,
    ge: float = -math.inf,
    gt: float = -math.inf,
    le: float = math.inf,
    lt: float = math.inf,
) -> Any:  # Any: an annotated prior type
    """Type of a prior whose values are in ``unit`` and must lie inside the given bounds."""

    def before(value: object) -> object:
        if isinstance(value, dict):
            return {k: v if k == "kind" else _in_unit(v, unit) for k, v in value.items()}
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            return {"kind": "constant", "value": _in_unit(value, unit)}
        return value

    def after(value: AnyPrior) -> AnyPrior:
        low, high = value.support()
        leaves_below = low < ge or (low <= gt and gt > -math.inf)
        leaves_above = high > le or (high >= lt and lt < math.inf)
        if leaves_below or leaves_above:
            above = f"> {gt:g}" if gt > ge else f">= {ge:g}"
            below = f"< {lt:g}" if lt < le else f"<= {le:g}"
            shown = f"{high:g} {unit}" if unit else f"{high:g}"
            raise ValueError(
                f"values from {low:g} to {shown} can leave the allowed range, {above} and {below}"
                + ("; use truncated_normal" if isinstance(value, Normal) else "")
            )
        return value

    return Annotated[
        Prior,
        BeforeValidator(before),
        AfterValidator(after),
        Field(json_schema_extra={"unit": unit}),
    ]


def _in_unit(value: Any, unit: str | None) -> Any:  # Any: raw YAML
    def convert(v: Any) -> Any:
        return v if unit is None else parse_quantity(v, unit)

    return tuple(map(convert, value)) if isinstance(value, list | tuple) else convert(value)


def _contracted(value: "Uniform | TruncatedNormal", width: float, *names: str) -> dict[str, float]:
    """Places of a prior, moved towards its median."""
    middle = value.median()
    return {name: middle + width * (getattr(value, name) - middle) for name in names}


def _require_order[T](model: T, low: float, high: float) -> T:
    if not low < high:
        raise ValueError(f"low must be below high, found {low:g} and {high:g}")
    return model


def _normal_cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


def _normal_quantile(mean: float, sigma: float, u: float) -> float:
    from statistics import NormalDist

    return NormalDist(mean, sigma).inv_cdf(min(max(u, 1e-16), 1.0 - 1e-16))
