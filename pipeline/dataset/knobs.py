"""Knobs: the priors of a configuration that a person may fix by hand, one number each.

A knob is a key of the configuration with a range worth turning through. Its value replaces that of
the key, as ``--set`` does, so nothing is simulated in any other way than a dataset is. Keys that a
configuration does not have make no knob.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.config import StrictModel, dump, validate
from pipeline.core.errors import ConfigError
from pipeline.core.yaml_source import put_value
from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.detectability import substructured
from pipeline.physics.shapes import BoxPosition, DiscPosition

#: A source that is put by hand.
_PLACED = {"scenes.source_position": {"kind": "placed", "x": 0.0, "y": 0.0}}


@dataclass(frozen=True)
class Knob:
    """One number of a configuration.

    Attributes
    ----------
    key : str
        Dotted key that is overridden.
    group : str
        ``lens``, ``source``, ``telescope``, or the class whose substructure it changes.
    label, unit : str
    low, high, step : float
        Range of the knob, in the unit shown.
    value : float
        Where it stands at first: the median of the prior.
    known : tuple of float or None
        Range of the prior; None where the number is fixed.
    is_log : bool
        The knob shows the base-10 logarithm of the number.
    is_whole : bool
        The number has no fraction.
    """

    key: str
    group: str
    label: str
    unit: str
    low: float
    high: float
    step: float
    value: float
    known: tuple[float, float] | None
    is_log: bool = False
    is_whole: bool = False

    def setting(self, value: float) -> float:
        """Return the number that the key gets; ``value`` is held inside the range of the knob.

        Raises
        ------
        ConfigError
            If it is not a finite number.
        """
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise ConfigError(f"{self.label}: {value!r} is no number")
        held = min(max(float(value), self.low), self.high)
        number = float(f"{10.0**held if self.is_log else held:.9g}")
        return round(number) if self.is_whole else number


@dataclass(frozen=True)
class _Row:
    """A knob before a configuration has said its value; the last part of ``key`` may vary."""

    key: str
    label: str
    unit: str
    low: float
    high: float
    step: float
    is_log: bool = False
    is_whole: bool = False


_LENS = (
    _Row("macro.theta_E", "Einstein radius", "″", 0.5, 1.5, 0.01),
    _Row("macro.einstein_mass", "log mass in the ring", "M☉", 11.0, 12.5, 0.01, True),
    _Row("macro.sigma_v", "velocity dispersion", "km/s", 150.0, 350.0, 1.0),
    _Row("macro.slope", "density slope", "", 1.6, 2.4, 0.01),
    _Row("macro.shape.q", "axis ratio", "", 0.5, 1.0, 0.01),
    _Row("macro.shape.phi", "position angle", "rad", 0.0, 3.15, 0.01),
    _Row("macro.shape.e1", "ellipticity e₁", "", -0.3, 0.3, 0.01),
    _Row("macro.shape.e2", "ellipticity e₂", "", -0.3, 0.3, 0.01),
    _Row("macro.shear.modulus", "external shear", "", 0.0, 0.2, 0.005),
    _Row("macro.shear.angle", "direction of the shear", "rad", 0.0, 3.15, 0.01),
    _Row("macro.shear.gamma1", "shear γ₁", "", -0.15, 0.15, 0.005),
    _Row("macro.shear.gamma2", "shear γ₂", "", -0.15, 0.15, 0.005),
)
_SOURCE = (
    _Row("source_position.x", "source x", "″", -0.5, 0.5, 0.01),
    _Row("source_position.y", "source y", "″", -0.5, 0.5, 0.01),
    _Row("source.magnitude", "magnitude, unlensed", "AB", 18.0, 26.0, 0.1),
    _Row("source.r_eff", "half-light radius", "″", 0.02, 0.5, 0.01),
    _Row("source.scale", "size of a stamp's pixel", "″", 0.005, 0.1, 0.001),
    _Row("source.n", "Sérsic index", "", 0.5, 4.0, 0.1),
    _Row("source.shape.e1", "ellipticity e₁", "", -0.4, 0.4, 0.01),
    _Row("source.shape.e2", "ellipticity e₂", "", -0.4, 0.4, 0.01),
    _Row("source.shape.q", "axis ratio", "", 0.3, 1.0, 0.01),
    _Row("source.shape.phi", "position angle", "rad", 0.0, 3.15, 0.01),
    _Row("source.clump_fraction", "share of the light in clumps", "", 0.01, 0.8, 0.01),
)
_SUBSTRUCTURE = (
    _Row("mass", "log mass", "M☉", 7.0, 11.0, 0.05, True),
    _Row("log10_axion_mass", "log axion mass", "eV", -24.0, -20.0, 0.05),
    _Row("angle", "position angle", "rad", 0.0, 3.15, 0.01),
    _Row("sigma_sub", "log abundance", "kpc⁻²", -3.0, -0.5, 0.05, True),
    _Row("m_max", "log largest mass", "M☉", 7.5, 11.5, 0.05, True),
    _Row("n_mean", "mean number", "", 0.0, 60.0, 1.0),
    _Row("log10_half_mode_mass", "log half-mode mass", "M☉", 6.0, 10.5, 0.05),
    _Row("collapsed_fraction", "collapsed fraction", "", 0.0, 1.0, 0.01),
    _Row("delta_los", "abundance along the line of sight", "", 0.0, 3.0, 0.05),
)
_SCALE = _Row("signal_scale", "factor on every mass", "", 0.0, 20.0, 0.1)
_EXPOSURES = _Row("n_exposures", "exposures", "", 1.0, 40.0, 1.0, is_whole=True)


def placed(config: DatasetConfig) -> DatasetConfig:
    """Return the configuration with the source where it can be put by hand."""
    return with_settings(config, _PLACED)


def with_settings(
    config: DatasetConfig,
    settings: Mapping[str, Any],  # Any: whatever YAML can say
) -> DatasetConfig:
    """Return a configuration with the values of some keys replaced, checked as those of a file.

    Raises
    ------
    ConfigError
    """
    tree = dump(config)
    for key, value in settings.items():
        put_value(tree, key, value, key)
    return validate(tree, DatasetConfig)


def find_knobs(config: DatasetConfig) -> tuple[Knob, ...]:
    """Every knob of a configuration: lens, source, the substructure of each class, telescope.

    Parameters
    ----------
    config : DatasetConfig
        As its data were made; the source is placed by :func:`placed` before a knob is used.
    """
    scenes = config.scenes
    found = [
        *_found(_lens_rows(config), "scenes", "lens", scenes),
        *_placed_source(config),
        *_found(_SOURCE, "scenes", "source", scenes),
    ]
    if substructured(config):
        found += _found((_SCALE,), "scenes", "substructure", scenes)
    for k, (name, block) in enumerate(scenes.classes.items()):
        where = f"scenes.classes.{k}.substructure"
        found += _found(_SUBSTRUCTURE, where, name, block.substructure)
    if len(config.instruments) == 1:
        found += _found((_EXPOSURES,), "instruments.0", "telescope", config.instruments[0])
    return tuple(found)


def _lens_rows(config: DatasetConfig) -> tuple[_Row, ...]:
    """Without the slope of a lens that is isothermal by definition."""
    is_sie = config.scenes.macro.profile == "sie"
    return tuple(row for row in _LENS if not (is_sie and row.key == "macro.slope"))


def _placed_source(config: DatasetConfig) -> Iterator[Knob]:
    """Knobs of the source's place, which the priors draw together."""
    position = config.scenes.source_position
    size = config.scenes.macro.theta_E
    if isinstance(position, DiscPosition):
        reach = position.radius * (size.support()[1] if size is not None else 1.0)
    elif isinstance(position, BoxPosition):
        reach = position.half_width
    else:
        return
    for row, share in zip(_SOURCE[:2], (0.5, 0.25), strict=True):
        limit = max(row.high, reach)
        value = round(share * reach, 2)
        yield Knob(f"scenes.{row.key}", "source", row.label, row.unit, -limit, limit, row.step,
                   value, (-reach, reach))  # fmt: skip


def _found(rows: Sequence[_Row], where: str, group: str, block: StrictModel) -> Iterator[Knob]:
    """Knobs of the rows whose key the block has."""
    for row in rows:
        value = _value(block, row.key)
        if value is None or not callable(getattr(value, "support", None)):
            number = value
            support = (value, value)
        else:
            number, support = value.median(), value.support()
        if not isinstance(number, int | float):
            continue
        numbers = [number, *support]
        if row.is_log:
            if min(numbers) <= 0:
                continue
            numbers = [math.log10(n) for n in numbers]
        middle, low, high = numbers
        inside = [n for n in (low, high, middle) if math.isfinite(n)]
        yield Knob(
            key=f"{where}.{row.key}",
            group=group,
            label=row.label,
            unit=row.unit,
            low=min(row.low, *(math.floor(n / row.step) * row.step for n in inside)),
            high=max(row.high, *(math.ceil(n / row.step) * row.step for n in inside)),
            step=row.step,
            value=round(round(middle / row.step) * row.step, 6),
            known=(low, high) if low < high else None,
            is_log=row.is_log,
            is_whole=row.is_whole,
        )


def _value(block: Any, key: str) -> Any:  # Any: a prior, a number or None
    for name in key.split("."):
        block = block.get(name) if isinstance(block, Mapping) else getattr(block, name, None)
    return block
