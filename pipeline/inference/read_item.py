"""Read and prepare one item of a search, whatever kind of file it lies in."""

from dataclasses import dataclass

from pipeline.inference.images import (
    RawImage,
    ReadOptions,
    Rejection,
    RejectReason,
    read_image,
)
from pipeline.inference.pictures import PICTURE_SUFFIXES, read_picture
from pipeline.inference.prepare import Prepared, prepare_image
from pipeline.inference.search import Found
from pipeline.inference.stacks import ARRAY_SUFFIXES, Part, read_part
from pipeline.inference.target import Target


@dataclass(frozen=True)
class Outcome:
    """What became of one item; ``hdu`` is None where none was chosen."""

    image: Prepared | Rejection
    hdu: str | None
    sha256: str | None


def read_item(item: Found, target: Target, options: ReadOptions) -> Outcome:
    """Read the picture of an item and prepare it for a checkpoint; never raises for a bad file."""
    if item.problem is not None:
        return Outcome(item.problem, None, None)
    try:
        raw, options, sha256 = _read(item, target, options)
        if not isinstance(raw, RawImage):
            return Outcome(raw, None, sha256)
        return Outcome(prepare_image(raw, target, options), raw.hdu, sha256)
    except MemoryError:
        detail = "needs more memory than a reader may take"
        return Outcome(Rejection(RejectReason.TOO_LARGE, detail), None, None)


def read_raw(item: Found) -> tuple[RawImage | Rejection, str | None]:
    """The picture of an item as stored, and the hash that the table gives for it."""
    if item.problem is not None:
        return item.problem, None
    raw, _, sha256 = _read(item, Target((), 1.0, 1, True), ReadOptions())
    return raw, sha256


def _read(
    item: Found, target: Target, options: ReadOptions
) -> tuple[RawImage | Rejection, ReadOptions, str | None]:
    part = item.part
    if part is not None and part.x is not None:
        from pipeline.inference.mosaic import read_cutout

        return read_cutout(item.path, part, target, options)
    if part is not None or item.path.suffix.lower() in ARRAY_SUFFIXES:
        return (*_with(options, read_part(item.path, part or Part(), options, target.bands)),)
    if item.path.suffix.lower() in PICTURE_SUFFIXES:
        return (*_with(options, read_picture(item.path)),)
    return (*_with(options, read_image(item.path, bands=target.bands, options=options)),)


def _with(
    options: ReadOptions, read: tuple[RawImage | Rejection, str | None]
) -> tuple[RawImage | Rejection, ReadOptions, str | None]:
    return read[0], options, read[1]
