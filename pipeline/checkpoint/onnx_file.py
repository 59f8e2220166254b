"""An exported network as a file: an ONNX model with the texts of its run folder in its metadata.

The metadata are the last bytes of the file: names and texts as ONNX stores them, among them the
sha256 of every byte before. They are read here without any package for ONNX, so that a file is
known to be ours and whole before a runtime sees it.
"""

import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import CheckpointError

FORMAT = "deeplense-onnx"
#: Raise with every change that an older reader would misunderstand; say so in CHANGELOG.md.
FORMAT_VERSION = 1
SUFFIX = ".onnx"

_FORMAT_KEY, _VERSION_KEY = "deeplense.format", "deeplense.format_version"
_SHA256_KEY = "deeplense.model_sha256"
#: ``metadata_props`` of ONNX's ModelProto, and key and value of its entries.
_METADATA_FIELD, _KEY_FIELD, _VALUE_FIELD = 14, 1, 2
#: Bytes of a number and of a key by protobuf's wire type; the other types say their length.
_FIXED = {1: 8, 5: 4}
_BYTES = 2


@dataclass(frozen=True)
class OnnxFile:
    """What is in a file that was found whole.

    Attributes
    ----------
    path : Path
    model : bytes
        The ONNX model, without the metadata.
    texts : mapping
        The metadata by name: texts of the run folder by file name.
    sha256 : str
        Of the model and all texts.
    """

    path: Path
    model: bytes
    texts: Mapping[str, str]
    sha256: str


def is_onnx(path: Path | str) -> bool:
    """Whether a path names an exported network, by its suffix."""
    return Path(path).suffix.lower() == SUFFIX


def pack(model: bytes, texts: Mapping[str, str]) -> bytes:
    """A file of a serialised ONNX model without metadata, and the texts that go with it."""
    own = {
        _FORMAT_KEY: FORMAT,
        _VERSION_KEY: str(FORMAT_VERSION),
        _SHA256_KEY: hashlib.sha256(model).hexdigest(),
    }
    return model + b"".join(
        _field(_METADATA_FIELD, _field(_KEY_FIELD, k.encode()) + _field(_VALUE_FIELD, v.encode()))
        for k, v in {**own, **texts}.items()
    )


def read_onnx(path: Path) -> OnnxFile:
    """Read and check a file that :func:`pack` made; nothing in it is executed.

    Raises
    ------
    CheckpointError
        If it is missing, no ONNX file, not one of ours, of a newer format, or changed.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    return unpack(Path(path), content)


def unpack(path: Path, content: bytes) -> OnnxFile:
    """Check the content of a file, as :func:`read_onnx`."""
    entries: dict[str, str] = {}
    end = 0  # of the model
    try:
        for number, first, last in _fields(content, 0, len(content)):
            if number == _METADATA_FIELD:
                key, value = _entry(content, first, last)
                if key in entries:
                    raise ValueError(f"{key!r} is there twice")
                entries[key] = value
            elif entries:
                raise ValueError("something follows its metadata")
            else:
                end = last
    except (ValueError, IndexError) as error:
        raise CheckpointError(
            f"{path}: not an exported network of deeplense: {error or 'it is cut short'}"
        ) from error
    model = content[:end]
    _check(path, entries, model)
    return OnnxFile(path, model, entries, hashlib.sha256(content).hexdigest())


def onnx_text(path: Path, name: str) -> str | None:
    """A text of the run folder that an exported network carries; None if it has no such file."""
    path = Path(path)
    try:
        status = path.stat()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    return _texts(path, status.st_mtime_ns, status.st_size).get(name)


@functools.lru_cache(maxsize=8)
def _texts(path: Path, modified: int, size: int) -> Mapping[str, str]:
    return read_onnx(path).texts


def _check(path: Path, entries: Mapping[str, str], model: bytes) -> None:
    if entries.get(_FORMAT_KEY) != FORMAT:
        raise CheckpointError(
            f"{path}: not an exported network of deeplense: no '{_FORMAT_KEY}: {FORMAT}' in its "
            "metadata; 'deeplense export RUN --onnx FILE' writes one"
        )
    version = entries.get(_VERSION_KEY)
    if version != str(FORMAT_VERSION):
        raise CheckpointError(
            f"{path}: format version {version!r}, but this release reads version {FORMAT_VERSION}"
        )
    if hashlib.sha256(model).hexdigest() != entries.get(_SHA256_KEY):
        raise CheckpointError(
            f"{path}: the network does not match the sha256 in its metadata: it was changed or "
            "damaged after the export"
        )


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | _BYTES]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _fields(content: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number and borders of the content of each field of a protobuf message."""
    while at < end:
        key, at = _read_varint(content, at)
        kind = key & 7
        if kind == _BYTES:
            length, first = _read_varint(content, at)
            at = first + length
        elif kind in _FIXED:
            first, at = at, at + _FIXED[kind]
        elif kind == 0:
            first = at
            _, at = _read_varint(content, at)
        else:
            raise ValueError("it is no ONNX file")
        if at > end:
            raise ValueError("it is no ONNX file, or cut short")
        yield key >> 3, first, at


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = content[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
        if shift > 63:
            raise ValueError("it is no ONNX file")


def _entry(content: bytes, first: int, last: int) -> tuple[str, str]:
    parts = {number: content[a:b].decode() for number, a, b in _fields(content, first, last)}
    return parts.get(_KEY_FIELD, ""), parts.get(_VALUE_FIELD, "")
