"""The search space: which keys of a training configuration vary, and between what.

A space is YAML over any key: ``parameters`` maps ``optimiser.learning_rate`` to a range or to a
list of values. Every end of every range is tried on the configuration before anything is trained.
"""

import copy
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from pipeline.core.config import (
    StrictModel,
    dump,
    find_config,
    hint,
    resolve,
    validate,
)
from pipeline.core.errors import ConfigError
from pipeline.core.provenance import canonical_json, sha256_hex
from pipeline.core.resources import sim_params
from pipeline.core.yaml_source import Origins, Tree, set_value
from pipeline.training.config import TrainingConfig, training_presets

#: What a sampler chooses: a number, or the label of a choice.
type Chosen = float | int | str
#: What YAML can say.
type Value = Any


class _Range(StrictModel):
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, found {self.low:g} and {self.high:g}")
        return self

    def value(self, chosen: Chosen) -> Value:
        """Value for the configuration."""
        return chosen

    def ends(self) -> tuple[Value, ...]:
        """Values that stand for all others when the space is checked."""
        return self.low, self.high


class Uniform(_Range):
    """Any number from ``low`` to ``high``; ``n_grid`` of them, evenly spaced, on a grid."""

    kind: Literal["uniform"] = "uniform"
    n_grid: int | None = Field(None, ge=2)

    def grid(self) -> tuple[Chosen, ...]:
        """Points of a grid; none if ``n_grid`` does not say how many."""
        n = self.n_grid or 0
        return tuple(self.low + (self.high - self.low) * k / (n - 1) for k in range(n))


class LogUniform(_Range):
    """Any number from ``low`` to ``high``, flat in the logarithm; ``n_grid`` as for uniform."""

    kind: Literal["log_uniform"] = "log_uniform"
    low: float = Field(gt=0)
    n_grid: int | None = Field(None, ge=2)

    def grid(self) -> tuple[Chosen, ...]:
        """Points of a grid; none if ``n_grid`` does not say how many."""
        n = self.n_grid or 0
        inner = [self.low * (self.high / self.low) ** (k / (n - 1)) for k in range(n - 1)]
        return (*inner, self.high) if n else ()


class Integer(_Range):
    """Every ``step``-th integer from ``low`` to ``high``; ``log`` is flat in the logarithm."""

    kind: Literal["integer"] = "integer"
    low: int
    high: int
    step: int = Field(1, ge=1)
    log: bool = False

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.log and (self.low < 1 or self.step != 1):
            raise ValueError("log needs low >= 1 and step 1")
        if (self.high - self.low) % self.step:
            raise ValueError(f"high is not low plus a multiple of step {self.step}")
        return self

    def grid(self) -> tuple[Chosen, ...]:
        """Every value."""
        return tuple(range(self.low, self.high + 1, self.step))


class Choice(StrictModel):
    """One of ``values``, whatever YAML can say: numbers, words, lists, whole blocks."""

    kind: Literal["choice"] = "choice"
    values: tuple[Value, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _different(self) -> Self:
        labels = self.grid()
        twice = {label for label in labels if labels.count(label) > 1}
        if twice:
            raise ValueError(f"the same value twice: {', '.join(sorted(map(str, twice)))}")
        return self

    def value(self, chosen: Chosen) -> Value:
        """Value of a label."""
        return self.values[self.grid().index(chosen)]

    def ends(self) -> tuple[Value, ...]:
        """All of them."""
        return self.values

    def grid(self) -> tuple[Chosen, ...]:
        """Label of every value: a word as it is, anything else as JSON."""
        return tuple(v if isinstance(v, str) else canonical_json(v) for v in self.values)


type Parameter = Uniform | LogUniform | Integer | Choice
_KINDS: dict[str, type[Parameter]] = {
    "uniform": Uniform, "log_uniform": LogUniform, "integer": Integer, "choice": Choice,
}  # fmt: skip


def _parameter(data: object) -> object:
    if isinstance(data, StrictModel):
        return data
    if isinstance(data, list | tuple):
        return Choice(values=tuple(data))
    kind = data.get("kind") if isinstance(data, Mapping) else None
    if kind not in _KINDS:
        found = f"kind {kind!r}{hint(str(kind), _KINDS)}" if kind else repr(data)
        raise ValueError(
            "expected a list of values, or a block with kind uniform, log_uniform, integer or "
            f"choice; found {found}"
        )
    return _KINDS[kind].model_validate(data)


class SearchSpace(StrictModel):
    """What is searched, and how.

    Parameters
    ----------
    parameters : mapping of str to parameter
        Keys of the training configuration, as in ``--set``; ``[a, b, c]`` is short for a choice.
    sampler : str
        ``tpe`` (tree-structured Parzen estimators, Bergstra et al. 2011), ``gp`` (Gaussian process
        with expected improvement), ``grid`` (every combination once) or ``random``.
    pruner : str
        Ends trials that fall behind: ``median`` (from the second epoch on worse than the median of
        the others there), ``halving`` (asynchronous successive halving, Li et al. 2020),
        ``hyperband`` (Li et al. 2018) or ``none``.
    trials : int
        Trials of the whole study; a grid ends by itself if it has fewer points.
    n_startup : int
        Trials before the sampler learns from the others and before ``median`` ends any.
    seed : int
        Of the sampler.
    """

    description: str = ""
    parameters: dict[str, Annotated[SerializeAsAny[StrictModel], BeforeValidator(_parameter)]] = (
        Field(min_length=1)
    )
    sampler: Literal["tpe", "gp", "grid", "random"] = "tpe"
    pruner: Literal["median", "halving", "hyperband", "none"] = "median"
    trials: int = Field(30, gt=0)
    n_startup: int = Field(10, gt=0)
    seed: int = Field(0, ge=0)

    @property
    def sha256(self) -> str:
        """Hash of the parameters: of what makes trials comparable."""
        return sha256_hex(canonical_json(dump(self)["parameters"]))

    @property
    def n_trials(self) -> int:
        """Trials of the study: ``trials``, or the points of a smaller grid."""
        if self.sampler != "grid":
            return self.trials
        return min(self.trials, math.prod(len(p.grid()) for p in self.items().values()))

    def items(self) -> dict[str, Parameter]:
        """Parameters by key."""
        return self.parameters  # type: ignore[return-value]  # made by _parameter

    def grid_point(self, number: int) -> dict[str, Chosen]:
        """Point of a grid by its number; the first few are spread over all of it."""
        grids = {key: parameter.grid() for key, parameter in self.items().items()}
        n_points = math.prod(map(len, grids.values()))
        step = next(
            k for k in itertools.count(round(0.618 * n_points)) if math.gcd(k, n_points) == 1
        )
        left = number * step % n_points
        point = {}
        for key, values in grids.items():
            left, k = divmod(left, len(values))
            point[key] = values[k]
        return point


@dataclass(frozen=True)
class Recipe:
    """A training configuration with a search space over it.

    Parameters
    ----------
    space : SearchSpace
    base : TrainingConfig
        The configuration without changes.
    """

    space: SearchSpace
    base: TrainingConfig
    _tree: Tree
    _origins: Origins
    _where: Mapping[str, str]
    _name: str

    def config(self, chosen: Mapping[str, Chosen]) -> TrainingConfig:
        """Training configuration of a trial.

        Raises
        ------
        ConfigError
            If the values do not fit one another; names the line of the space.
        """
        items = self.space.items()
        return self._changed({key: items[key].value(v) for key, v in chosen.items()})

    def variations(self) -> Iterator[TrainingConfig]:
        """Configurations with one parameter after the other at each of its ends.

        Raises
        ------
        ConfigError
            If one of them is none: an unknown key, or a value that its key does not take.
        """
        first = {key: p.ends()[0] for key, p in self.space.items().items()}
        yield self._changed(first)
        for key, parameter in self.space.items().items():
            for value in parameter.ends()[1:]:
                yield self._changed({**first, key: value})

    def _changed(self, values: Mapping[str, Value]) -> TrainingConfig:
        tree, origins = copy.deepcopy(self._tree), dict(self._origins)
        # Whole blocks first, then what lies inside them.
        for key in sorted(values, key=lambda k: k.count(".")):
            _set(tree, origins, key, values[key], self._where[key])
        return validate(tree, TrainingConfig, origins, name=self._name)


def load_recipe(
    config: str | Path,
    space: str | Path,
    overrides: Sequence[str] = (),
    changes: Sequence[str] = (),
) -> Recipe:
    """Read a training configuration and a search space over it, and check both.

    Parameters
    ----------
    config : str or Path
        Training preset or YAML file.
    space : str or Path
        Preset of ``sim_params/tuning``, or YAML file.
    overrides, changes : sequence of str
        ``"key.key=value"`` of the configuration, and of the space.

    Raises
    ------
    ConfigError
        Naming file, line and key; for an unknown key, the nearest one.
    """
    tree, origins = resolve(space, tuning_presets())
    for text in changes:
        set_value(tree, origins, text)
    found = validate(tree, SearchSpace, origins, name=str(space))
    file = str(find_config(space, tuning_presets()))
    where = {key: origins.get(("parameters", key), file) for key in found.parameters}
    _require_grid(found, where)
    tree, origins = resolve(config, training_presets())
    for text in overrides:
        set_value(tree, origins, text)
    base = validate(tree, TrainingConfig, origins, name=str(config))
    recipe = Recipe(found, base, tree, origins, where, str(config))
    for _ in recipe.variations():
        pass
    return recipe


def tuning_presets() -> Path:
    """Folder of the shipped search spaces."""
    return sim_params() / "tuning"


def _require_grid(space: SearchSpace, where: Mapping[str, str]) -> None:
    if space.sampler != "grid":
        return
    for key, parameter in space.items().items():
        if not parameter.grid():
            raise ConfigError(f"{where[key]}: {key}: a grid needs n_grid, its number of points")


def _set(tree: Tree, origins: Origins, key: str, value: Value, where: str) -> None:
    """Set one key as ``--set`` does; a bare name becomes a block, another kind empties it."""
    path = key.split(".")
    node: Value = tree
    for name in path[:-1]:
        if not isinstance(node, dict):
            break
        if isinstance(node.get(name), str):
            node[name] = {"kind": node[name]}
        node = node.get(name)
    if path[-1] == "kind" and isinstance(node, dict) and node.get("kind") != value:
        node.clear()
    try:
        set_value(tree, origins, f"{key}={canonical_json(value)}")
    except ConfigError as error:
        raise ConfigError(f"{where}: {str(error).removeprefix('--set ')}") from error
    place = tuple(int(p) if p.isdigit() else p for p in path)
    for known in [p for p in origins if p[: len(place)] == place]:
        del origins[known]
    for depth in range(1, len(place) + 1):
        origins.setdefault(place[:depth], where)
