"""Why an image was not taken over: a word for the table, and a sentence for the person."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pipeline.dataset.place import Place, read_bytes, write_bytes


class Reason(StrEnum):
    """Words of the table of rejects; those of the scorer, where it has one."""

    UNREADABLE = "unreadable"
    UNSAFE_PICKLE = "unsafe_pickle"
    WRONG_TYPE = "wrong_type"
    WRONG_SHAPE = "wrong_shape"
    TOO_LARGE = "too_large"
    NOT_FINITE = "not_finite"
    BLANK = "blank"
    NO_LABEL = "no_label"
    BAD_LABEL = "bad_label"
    CONTRADICTORY = "contradictory"
    MISSING_PIXEL_SCALE = "missing_pixel_scale"
    PIXEL_SCALE_MISMATCH = "pixel_scale_mismatch"
    UNIT_MISMATCH = "unit_mismatch"


class RejectedError(ValueError):
    """Raised inside this package to leave a file or an image out; never crosses its border."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = str(reason)
        self.detail = detail


@dataclass(frozen=True)
class Reject:
    """One file, or one image of a stack (its ``row``), that was left out."""

    name: str
    row: int | None
    reason: str
    detail: str


def write_rejects(rejects: Iterable[Reject], place: Place) -> None:
    """Write the table as CSV, whole or not at all; without rejects only where one is there.

    Parameters
    ----------
    rejects : iterable of Reject
    place : Place
    """
    found = list(rejects)
    if not found and read_bytes(place) is None:
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "row", "reason", "detail"))
    writer.writerows((r.name, r.row, r.reason, r.detail) for r in found)
    write_bytes(place, text.getvalue().encode())
