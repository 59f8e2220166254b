"""Columns of the scores table: order, unit, meaning, and Unified Content Descriptor.

UCDs are those of the IVOA's list of words (UCD1+ controlled vocabulary 1.5).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline.statistics.regression import PROBABILITIES

if TYPE_CHECKING:
    from pipeline.tasks.base import Floats, TargetTransform

Kind = Literal["text", "number", "bool"]
#: Quantiles that are told of every measured quantity: column's ending -> probability.
QUANTILES = {f"q{str(p)[2:].ljust(2, '0')}": p for p in PROBABILITIES}


@dataclass(frozen=True)
class Column:
    """One column; ``unit`` as astropy spells it."""

    kind: Kind
    description: str
    unit: str | None = None
    ucd: str = ""


def layout(
    class_names: Sequence[str],
    targets: "Sequence[TargetTransform]",
    *,
    is_ensemble: bool,
    finds_anomalies: bool = False,
) -> dict[str, Column]:
    """Every column by name, in the order of the table."""
    columns = {**_FILE, **_IMAGE}
    if class_names:
        columns["label"] = Column("text", "most probable class", ucd="meta.code.class")
        for name in class_names:
            columns[f"p_{name}"] = Column(
                "number", f"calibrated probability of class {name}", ucd="stat.probability"
            )
        columns["entropy"] = Column("number", "entropy of the probabilities in nat", ucd="stat")
        if is_ensemble:
            columns["p_spread"] = Column(
                "number", "standard deviation of p_LABEL between runs", ucd="stat.stdev"
            )
    for target in targets:
        columns |= target_columns(target, is_ensemble=is_ensemble)
    return columns | (_ANOMALY if finds_anomalies else {}) | _TRUST


_FILE = {
    "path": Column(
        "text", "file, relative to the common root of the inputs", ucd="meta.id;meta.main"
    ),
    "hdu": Column("text", "HDU that was taken: its EXTNAME, or its number", ucd="meta.id.part"),
    "input_sha256": Column(
        "text", "SHA-256 of the file, or of the pixels of one image in it", ucd="meta.checksum"
    ),
    "status": Column("text", "scored or rejected", ucd="meta.code.status"),
    "reason": Column("text", "why there is no score", ucd="meta.code.error"),
    "detail": Column("text", "the reason in a sentence", ucd="meta.note"),
}
_IMAGE = {
    "band": Column(
        "text", "FILTER of the image, or the band that was asked for", ucd="instr.bandpass"
    ),
    "center_x": Column(
        "number", "column of the centre, from 1", "pix", "pos.cartesian.x;instr.pixel"
    ),
    "center_y": Column("number", "row of the centre, from 1", "pix", "pos.cartesian.y;instr.pixel"),
    "ra": Column("number", "right ascension of the centre", "deg", "pos.eq.ra;meta.main"),
    "dec": Column("number", "declination of the centre", "deg", "pos.eq.dec;meta.main"),
    "north_angle": Column(
        "number", "direction of north from +y, counter-clockwise", "deg", "pos.posAng"
    ),
    "pixel_scale": Column(
        "number",
        "of the file; empty if its header does not say",
        "arcsec",
        "instr.pixel;pos.angDistance",
    ),
    "resampled": Column("bool", "brought to the checkpoint's pixel scale", ucd="meta.code"),
    "unit": Column("text", "BUNIT", ucd="meta.unit"),
    "zero_point": Column("number", "AB magnitude of one unit", "mag", "phot.mag;arith.zp"),
    "psf_fwhm": Column(
        "number", "of a PSF extension or a header keyword", "arcsec", "phys.angSize;instr.det.psf"
    ),
    "sky": Column("number", "median of the border, file's unit", ucd="instr.skyLevel"),
    "sky_rms": Column(
        "number", "noise of the border, file's unit", ucd="instr.skyLevel;stat.stdev"
    ),
    "snr": Column("number", "smoothed peak over noise", ucd="stat.snr"),
    "masked_fraction": Column(
        "number", "pixels without a value, filled in", ucd="meta.code.qual;arith.ratio"
    ),
}
_ANOMALY = {
    "anomaly": Column(
        "number",
        "how unlike the classes that were trained on, in robust standard deviations of validation "
        "images above their median",
        ucd="stat.value",
    ),
}
_TRUST = {
    "novelty": Column(
        "number", "fraction of validation images closer to the training images", ucd="stat.rank"
    ),
    "trusted": Column("bool", "no flag speaks against the score", ucd="meta.code.qual"),
    "flags": Column(
        "text", "what to know about the image, words joined by commas", ucd="meta.code"
    ),
}


def target_columns(target: "TargetTransform", *, is_ensemble: bool) -> dict[str, Column]:
    """Columns of one measured quantity."""
    name, unit = target.name, target.unit or None
    is_log = target.function == "log10"
    shown, what, shown_unit = (f"log10_{name}", f"log10({name})", "dex") if is_log else (
        name, name, unit
    )  # fmt: skip
    columns = {name: Column("number", f"estimate of {name}", unit, "stat.value")}
    if is_log:
        columns[shown] = Column("number", f"estimate of {what}", shown_unit, "stat.value")
    columns[f"{shown}_std"] = Column(
        "number", f"standard deviation of {what}", shown_unit, "stat.stdev"
    )
    for quantile, probability in QUANTILES.items():
        limit = {0.05: ", the lower limit at 95 %", 0.95: ", the upper limit at 95 %"}
        text = f"{100 * probability:g} % quantile of {what}{limit.get(probability, '')}"
        columns[f"{shown}_{quantile}"] = Column("number", text, shown_unit, "stat.value")
    if is_ensemble:
        columns[f"{shown}_spread"] = Column(
            "number", f"standard deviation of {what} between runs", shown_unit, "stat.stdev"
        )
    return columns


def target_values(
    target: "TargetTransform",
    mean: "Floats",
    std: "Floats",
    quantiles: "Floats | None",
    spread: "Floats | None",
) -> "dict[str, Floats]":
    """Values (B,) of those columns; Gaussian quantiles where the task offers none (B, Q)."""
    from scipy.special import ndtri  # type: ignore[import-untyped]

    is_log = target.function == "log10"
    shown = f"log10_{target.name}" if is_log else target.name
    values = {target.name: 10.0 ** np.clip(mean, -300, 300) if is_log else mean}
    values |= {shown: mean, f"{shown}_std": std}
    for k, (name, probability) in enumerate(QUANTILES.items()):
        gaussian = mean + ndtri(probability) * std
        values[f"{shown}_{name}"] = gaussian if quantiles is None else quantiles[:, k]
    if spread is not None:
        values[f"{shown}_spread"] = spread
    return values
