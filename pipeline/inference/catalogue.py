"""The scores table while it is being filled: one row per item, columns of fixed meaning."""

import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.inference.columns import Column, layout, target_values
from pipeline.inference.images import Rejection
from pipeline.inference.prepare import Prepared
from pipeline.inference.search import printable

if TYPE_CHECKING:
    from pipeline.inference.ensemble import Verdict
    from pipeline.inference.read_item import Outcome
    from pipeline.tasks.base import TargetTransform

#: Novelty above which an image is foreign: one validation image in a hundred lies further out.
OOD_NOVELTY = 0.99
#: Flags that take the trust out of a score.
UNTRUSTED = frozenset(
    {
        "ood", "low_snr", "companion", "checksum", "truncated_file", "bad_header", "unit_unknown",
        "pixel_scale_unknown", "coarse_pixels", "anisotropic_pixels", "mask_ignored",
        "psf_differs", "picture",
    }
)  # fmt: skip
#: Decimals kept of everything the network says, beyond which it depends on the machine.
DECIMALS = 6
#: Longest detail of a rejection, and of any other text of a row, in characters.
MAX_DETAIL, MAX_TEXT = 300, 120

#: Texts that many rows share; kept once in memory.
_REPEATED = frozenset({"hdu", "reason", "band", "unit", "label", "flags"})

Values = dict[str, Any]  # Any: text, number, bool by column


@dataclass
class Catalogue:
    """Rows of a scores table in the order of ``names``.

    Attributes
    ----------
    names : sequence of str
        One per item, as the table shows it.
    class_names : tuple of str
        Empty for a task without classes.
    targets : tuple of TargetTransform
    is_ensemble : bool
        Whether the spread between runs is told.
    finds_anomalies : bool
        Whether there is an anomaly score.
    """

    names: Sequence[str]
    class_names: tuple[str, ...]
    targets: "tuple[TargetTransform, ...]"
    is_ensemble: bool = False
    finds_anomalies: bool = False
    columns: dict[str, Any] = field(init=False)  # lists of text and arrays of numbers
    layout: dict[str, Column] = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.names)
        self.layout = layout(
            self.class_names,
            self.targets,
            is_ensemble=self.is_ensemble,
            finds_anomalies=self.finds_anomalies,
        )
        self.columns = {
            name: _empty(column.kind, n)
            for name, column in self.layout.items()
            if name not in ("path", "status")
        }
        self.columns["scored"] = np.zeros(n, bool)

    def put(self, row: int, values: Values) -> None:
        """Fill a row; columns that are not among ``values`` stay empty."""
        for name, value in values.items():
            if value is not None:
                shared = name in _REPEATED and isinstance(value, str)
                self.columns[name][row] = sys.intern(value) if shared else value

    def table(self, meta: Mapping[str, Any]) -> Any:  # an astropy Table; astropy carries no types
        """All rows as an ``astropy.table.Table`` with units, descriptions, UCDs and ``meta``."""
        from astropy.table import MaskedColumn, Table  # type: ignore[import-untyped]

        table = Table(meta=dict(meta))
        for name, column in self.layout.items():
            values, mask = self._values(name)
            if isinstance(values, list):
                values = np.array(["" if v is None else v for v in values], dtype=str)
            table[name] = MaskedColumn(
                values, mask=mask, unit=column.unit, description=column.description,
                meta={"ucd": column.ucd} if column.ucd else None,
            )  # fmt: skip
        return table

    def rows(self) -> Iterator[list[Any]]:
        """Rows of the table one by one, None where a value is missing."""
        columns = [self._values(name) for name in self.layout]
        for row in range(len(self.names)):
            yield [None if mask[row] else _plain(values[row]) for values, mask in columns]

    def header(self, meta: Mapping[str, Any]) -> Any:  # an astropy Table
        """Table of the same columns without rows."""
        return replace(self, names=()).table(meta)

    @property
    def n_scored(self) -> int:
        """Rows with a score."""
        return int(self.columns["scored"].sum())

    @property
    def reasons(self) -> dict[str, int]:
        """Rejected files by reason, most frequent first."""
        counts = Counter(reason for reason in self.columns["reason"] if reason is not None)
        return dict(counts.most_common())

    def _values(self, name: str) -> tuple[Any, np.ndarray]:
        """Values of a column, and where they are missing."""
        scored: np.ndarray = self.columns["scored"]
        if name in ("path", "status"):
            values = list(self.names) if name == "path" else np.where(scored, "scored", "rejected")
            return values, np.zeros(len(scored), bool)
        values = self.columns[name]
        if isinstance(values, list):
            return values, np.array([value is None for value in values], bool)
        return values, ~scored if values.dtype == bool else ~np.isfinite(values)


def _empty(kind: str, n: int) -> Any:  # a list of text, or an array
    if kind == "text":
        return [None] * n
    return np.zeros(n, bool) if kind == "bool" else np.full(n, np.nan)


def rejected_row(outcome: "Outcome") -> Values:
    """Row of an item that has no score."""
    rejection = outcome.image
    assert isinstance(rejection, Rejection)
    return _known(outcome) | {
        "reason": str(rejection.reason),
        "detail": printable(rejection.detail)[:MAX_DETAIL],
    }


def scored_rows(
    outcomes: "Sequence[Outcome]",
    verdict: "Verdict",
    class_names: Sequence[str],
    targets: "Sequence[TargetTransform]",
) -> list[Values]:
    """Rows of items that the network has answered."""
    answer = verdict.prediction
    network: dict[str, Any] = {"novelty": np.round(answer.novelty, DECIMALS)}  # arrays by column
    if answer.anomaly is not None:
        network["anomaly"] = np.round(answer.anomaly, DECIMALS)
    if answer.class_probability is not None:
        network |= _class_values(answer.class_probability, class_names, verdict.class_spread)
    if answer.target_mean is not None and answer.target_std is not None:
        for i, target in enumerate(targets):
            spread = None if verdict.target_spread is None else verdict.target_spread[:, i]
            offered = answer.target_quantile
            quantiles = None if offered is None else offered[:, i]
            values = target_values(
                target, answer.target_mean[:, i], answer.target_std[:, i], quantiles, spread
            )
            exact = target.name if target.function == "log10" else ""
            for name, value in values.items():
                network[name] = _six_digits(value) if name == exact else np.round(value, DECIMALS)
    rows = []
    for b, outcome in enumerate(outcomes):
        image = outcome.image
        assert isinstance(image, Prepared)
        flags = (*(("ood",) if answer.novelty[b] > OOD_NOVELTY else ()), *image.flags)
        rows.append(
            _known(outcome)
            | {name: _fact(value) for name, value in image.facts.items()}
            | {name: _plain(values[b]) for name, values in network.items()}
            | {
                "scored": True,
                "resampled": image.is_resampled,
                "pixel_scale": _fact(image.pixel_scale),
                "flags": ",".join(flags),
                "trusted": not UNTRUSTED.intersection(flags),
            }
        )
    return rows


def _known(outcome: "Outcome") -> Values:
    """What is known of every item."""
    hdu = None if outcome.hdu is None else printable(outcome.hdu)[:MAX_TEXT]
    return {"hdu": hdu, "input_sha256": outcome.sha256}


def _class_values(
    probability: np.ndarray, class_names: Sequence[str], spread: np.ndarray | None
) -> dict[str, Any]:
    safe = np.clip(probability, 1e-300, 1.0)
    values: dict[str, Any] = {
        "entropy": np.round(-(probability * np.log(safe)).sum(1), DECIMALS),
        "label": [class_names[best] for best in probability.argmax(1)],
    }
    for k, name in enumerate(class_names):
        values[f"p_{name}"] = np.round(probability[:, k], DECIMALS)
    if spread is not None:
        values["p_spread"] = np.round(spread, DECIMALS)
    return values


def _six_digits(values: np.ndarray) -> np.ndarray:
    return np.array([float(f"{value:.5e}") for value in values])


def _fact(value: Any) -> Any:  # Any: number or text
    """Ten significant digits of a number, one short printable line of a text."""
    if isinstance(value, str):
        return printable(value)[:MAX_TEXT]
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.9e}")


def _plain(value: Any) -> Any:  # numpy scalars to Python's
    return value.item() if isinstance(value, np.generic) else value
