"""The scores table: one row per file, its columns and their units."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.inference.images import Rejection
from pipeline.inference.prepare import Prepared
from pipeline.inference.search import printable

if TYPE_CHECKING:
    from pipeline.tasks.base import Prediction, TargetTransform

#: Novelty above which an image is foreign: one validation image in a hundred lies further out.
OOD_NOVELTY = 0.99
#: Flags that take the trust out of a score.
UNTRUSTED = frozenset(
    {
        "ood", "low_snr", "companion", "checksum", "truncated_file", "bad_header", "unit_unknown",
        "pixel_scale_unknown", "coarse_pixels", "anisotropic_pixels",
    }
)  # fmt: skip
#: Decimals kept of everything the network says, beyond which it depends on the batch size.
DECIMALS = 6
#: Longest detail of a rejection, in characters.
MAX_DETAIL = 300


@dataclass
class Catalogue:
    """Rows of a scores table while they are being filled, in the order of ``names``.

    Attributes
    ----------
    names : sequence of str
        One per file, as the table shows it.
    class_names : tuple of str
        Empty for a task without classes.
    targets : tuple of TargetTransform
    """

    names: Sequence[str]
    class_names: tuple[str, ...]
    targets: "tuple[TargetTransform, ...]"
    columns: dict[str, Any] = field(init=False)  # lists of text and arrays of numbers

    def __post_init__(self) -> None:
        n = len(self.names)
        texts = ("hdu", "input_sha256", "reason", "detail", "label", "flags")
        numbers = ["pixel_scale", "entropy", "novelty", *(f"p_{c}" for c in self.class_names)]
        numbers += [name for target in self.targets for name in _target_columns(target)]
        self.columns = {name: [None] * n for name in texts}
        self.columns |= {name: np.full(n, np.nan) for name in numbers}
        self.columns |= {name: np.zeros(n, bool) for name in ("scored", "resampled", "trusted")}

    def note(self, row: int, *, hdu: str | None, sha256: str | None) -> None:
        """Record what is known of every file."""
        self.columns["hdu"][row] = None if hdu is None else printable(hdu)
        self.columns["input_sha256"][row] = sha256

    def reject(self, row: int, rejection: Rejection) -> None:
        """Record why a file has no score."""
        self.columns["reason"][row] = str(rejection.reason)
        self.columns["detail"][row] = printable(rejection.detail)[:MAX_DETAIL]

    def score(self, rows: Sequence[int], images: Sequence[Prepared], answer: "Prediction") -> None:
        """Record the answers to a batch of images."""
        index = np.asarray(rows)
        columns = self.columns
        columns["scored"][index] = True
        columns["novelty"][index] = np.round(answer.novelty, DECIMALS)
        columns["resampled"][index] = [image.is_resampled for image in images]
        columns["pixel_scale"][index] = [
            np.nan if image.pixel_scale is None else round(image.pixel_scale, 9) for image in images
        ]
        if answer.class_probability is not None:
            self._score_classes(index, answer.class_probability)
        if answer.target_mean is not None and answer.target_std is not None:
            for i, target in enumerate(self.targets):
                mean, std = answer.target_mean[:, i], answer.target_std[:, i]
                for name, values in _target_values(target, mean, std).items():
                    columns[name][index] = values
        for row, image, novelty in zip(rows, images, answer.novelty, strict=True):
            flags = (*(("ood",) if novelty > OOD_NOVELTY else ()), *image.flags)
            columns["flags"][row] = ",".join(flags)
            columns["trusted"][row] = not UNTRUSTED.intersection(flags)

    def _score_classes(self, index: np.ndarray, probability: np.ndarray) -> None:
        safe = np.clip(probability, 1e-300, 1.0)
        self.columns["entropy"][index] = np.round(-(probability * np.log(safe)).sum(1), DECIMALS)
        for k, name in enumerate(self.class_names):
            self.columns[f"p_{name}"][index] = np.round(probability[:, k], DECIMALS)
        for row, best in zip(index, probability.argmax(1), strict=True):
            self.columns["label"][row] = self.class_names[best]

    @property
    def reasons(self) -> dict[str, int]:
        """Rejected files by reason, most frequent first."""
        counts = Counter(reason for reason in self.columns["reason"] if reason is not None)
        return dict(counts.most_common())

    def table(self, meta: Mapping[str, Any]) -> Any:  # an astropy Table; astropy carries no types
        """All rows as an ``astropy.table.Table`` with units, descriptions and ``meta``."""
        from astropy.table import MaskedColumn, Table  # type: ignore[import-untyped]

        table = Table(meta=dict(meta))
        for name, (unit, description) in self._layout().items():
            values, mask = self._values(name)
            if isinstance(values, list):
                values = np.array(["" if v is None else v for v in values], dtype=str)
            table[name] = MaskedColumn(values, mask=mask, unit=unit, description=description)
        return table

    def rows(self) -> Iterator[list[Any]]:
        """Rows of the table one by one, None where a value is missing."""
        columns = [self._values(name) for name in self._layout()]
        for row in range(len(self.names)):
            yield [None if mask[row] else _plain(values[row]) for values, mask in columns]

    def header(self, meta: Mapping[str, Any]) -> Any:  # an astropy Table
        """Table of the same columns without rows."""
        return Catalogue((), self.class_names, self.targets).table(meta)

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

    def _layout(self) -> dict[str, tuple[str | None, str]]:
        """Unit and description of every column, in order."""
        layout: dict[str, tuple[str | None, str]] = {
            "path": (None, "file, relative to the common root of the inputs"),
            "hdu": (None, "HDU that was taken: its EXTNAME, or its number"),
            "input_sha256": (None, "SHA-256 of the file"),
            "status": (None, "scored or rejected"),
            "reason": (None, "why there is no score"),
            "detail": (None, "the reason in a sentence"),
            "pixel_scale": ("arcsec", "of the file; empty if its header does not say"),
            "resampled": (None, "brought to the checkpoint's pixel scale"),
        }
        if self.class_names:
            layout["label"] = (None, "most probable class")
            for name in self.class_names:
                layout[f"p_{name}"] = (None, f"calibrated probability of class {name}")
            layout["entropy"] = (None, "entropy of the probabilities in nat")
        for target in self.targets:
            layout |= _target_columns(target)
        return layout | {
            "novelty": (None, "fraction of validation images closer to the training images"),
            "trusted": (None, "no flag speaks against the score"),
            "flags": (None, "what to know about the image, words joined by commas"),
        }


def _plain(value: Any) -> Any:  # numpy scalars to Python's
    return value.item() if isinstance(value, np.generic) else value


def _target_columns(target: "TargetTransform") -> dict[str, tuple[str | None, str]]:
    name, unit = target.name, target.unit or None
    if target.function == "log10":
        return {
            name: (unit, f"estimate of {name}"),
            f"log10_{name}": ("dex", f"estimate of log10({name})"),
            f"log10_{name}_std": ("dex", f"standard deviation of log10({name})"),
        }
    return {
        name: (unit, f"estimate of {name}"),
        f"{name}_std": (unit, f"standard deviation of {name}"),
    }


def _target_values(
    target: "TargetTransform", mean: np.ndarray, std: np.ndarray
) -> dict[str, np.ndarray]:
    mean, std = np.round(mean, DECIMALS), np.round(std, DECIMALS)
    values = (10.0**mean, mean, std) if target.function == "log10" else (mean, std)
    return dict(zip(_target_columns(target), values, strict=True))
