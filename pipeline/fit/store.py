"""Fits on disk, shard by shard: what a killed run goes on with, and what networks are given.

A folder with ``fit.json`` (what was fitted, and how) and for each shard the model, the residual and
the response maps as npy files, the numbers as npz, and last of all ``shard-K.json`` with the
digests of these: it is the flag that says the shard is complete. Nothing in it depends on the clock
or the host.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.config import validate
from pipeline.core.errors import DatasetIntegrityError, DatasetMismatchError, DatasetNotFoundError
from pipeline.core.files import atomic_write
from pipeline.core.provenance import canonical_json, sha256_hex
from pipeline.fit.config import FitConfig
from pipeline.fit.result import Fits

FORMAT, FORMAT_VERSION = "deeplense-fits", 3
#: Folder of the fits inside that of a dataset.
FOLDER = "fit"
#: Arrays of pixels, each a file of its own.
PIXELS = ("residual", "model", "response")
_TEXTS = ("names", "units", "status", "reason")


class FitStore:
    """Fits of one set of images under one configuration.

    Parameters
    ----------
    path : Path
    identity : mapping
        Plain data that say what is fitted and how; other fits in the folder are refused.
    n_images, shard_size : int

    Raises
    ------
    DatasetMismatchError
        If the folder holds fits of other images or of another configuration.
    """

    def __init__(
        self, path: Path, identity: Mapping[str, Any], n_images: int, shard_size: int
    ) -> None:
        self.path, self.n_images, self.shard_size = path, n_images, shard_size
        self.identity = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **identity,
            "n_images": n_images,
            "shard_size": shard_size,
        }
        head = path / "fit.json"
        if not head.is_file():
            path.mkdir(parents=True, exist_ok=True)
            atomic_write(head, canonical_json(self.identity))
            return
        found = json.loads(head.read_text(encoding="utf-8"))
        if found != json.loads(canonical_json(self.identity)):
            differing = [k for k in self.identity if found.get(k) != _plain(self.identity[k])]
            raise DatasetMismatchError(
                f"{path} holds other fits (different {', '.join(differing) or 'format'}); "
                "delete the folder to make new ones"
            )

    @property
    def n_shards(self) -> int:
        """Number of shards; the last may hold fewer images."""
        return -(-self.n_images // self.shard_size)

    def rows(self, shard: int) -> slice:
        """Image numbers of one shard."""
        return slice(shard * self.shard_size, min((shard + 1) * self.shard_size, self.n_images))

    def missing(self) -> tuple[int, ...]:
        """Shards that are not complete."""
        return tuple(k for k in range(self.n_shards) if not self._flag(k).is_file())

    def write(self, shard: int, fits: Fits) -> None:
        """Write one shard, its flag last."""
        files = {self._pixels(shard, name): _npy(getattr(fits, name)) for name in PIXELS}
        numbers = {
            field.name: np.array(getattr(fits, field.name))
            for field in fields(fits)
            if field.name not in PIXELS
        }
        files[self._numbers(shard)] = _npz(numbers)
        for path, content in files.items():
            atomic_write(path, content)
        digests = {path.name: sha256_hex(content) for path, content in files.items()}
        atomic_write(self._flag(shard), canonical_json(digests))

    def read(self, shard: int) -> Fits:
        """Fits of one shard, checked against their digests.

        Raises
        ------
        DatasetIntegrityError
        """
        contents = self._checked(shard)
        with np.load(io.BytesIO(contents[self._numbers(shard).name]), allow_pickle=False) as npz:
            values: dict[str, Any] = {name: npz[name] for name in npz.files}
        for name in _TEXTS:
            values[name] = tuple(values[name].tolist())
        for name in PIXELS:
            content = contents[self._pixels(shard, name).name]
            values[name] = np.load(io.BytesIO(content), allow_pickle=False)
        return Fits(**values)

    def pixels(self, shard: int, name: str) -> NDArray[Any]:
        """One array of ``PIXELS`` of one shard, (n, ..., H, W), mapped from its file.

        Raises
        ------
        DatasetNotFoundError
            If the shard was not fitted yet.
        """
        if not self._flag(shard).is_file():
            raise DatasetNotFoundError(f"{self.path}: shard {shard} is not fitted")
        return np.asarray(np.load(self._pixels(shard, name), mmap_mode="r", allow_pickle=False))

    def numbers(self, shard: int) -> dict[str, NDArray[Any]]:
        """Everything but pixels of one shard, by the names of ``Fits``."""
        with np.load(self._numbers(shard), allow_pickle=False) as npz:
            return {name: npz[name] for name in npz.files}

    def all_fits(self, pixels: bool = True) -> Fits:
        """Every fit, in order; without ``pixels`` those are empty and memory stays small."""
        parts = []
        for shard in range(self.n_shards):
            part = self.read(shard)
            parts.append(part if pixels else _without_pixels(part))
        return Fits.joined(parts)

    def _checked(self, shard: int) -> dict[str, bytes]:
        flag = self._flag(shard)
        if not flag.is_file():
            raise DatasetNotFoundError(f"{self.path}: shard {shard} is not fitted")
        contents = {}
        for name, digest in json.loads(flag.read_text(encoding="utf-8")).items():
            path = self.path / Path(name).name
            contents[name] = path.read_bytes() if path.is_file() else b""
            if sha256_hex(contents[name]) != digest:
                raise DatasetIntegrityError(
                    f"{path} does not match its digest; delete {flag.name} to fit it again"
                )
        return contents

    def _flag(self, shard: int) -> Path:
        return self.path / f"shard-{shard:06d}.json"

    def _pixels(self, shard: int, name: str) -> Path:
        return self.path / f"{name}-{shard:06d}.npy"

    def _numbers(self, shard: int) -> Path:
        return self.path / f"numbers-{shard:06d}.npz"


def open_fits(path: Path) -> tuple[FitStore, FitConfig]:
    """Fits that lie in a folder, and the configuration that made them.

    Raises
    ------
    DatasetNotFoundError
        If there are none.
    DatasetMismatchError
        If they are of a format that this version does not know.
    """
    head = path / "fit.json"
    if not head.is_file():
        raise DatasetNotFoundError(
            f"{path}: no fits; 'deeplense fit DATA.zarr --store' makes those of a dataset"
        )
    identity = json.loads(head.read_text(encoding="utf-8"))
    if (identity.get("format"), identity.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise DatasetMismatchError(f"{head}: not fits of format version {FORMAT_VERSION}")
    config = validate(identity["fit"], FitConfig, name=f"{head}: fit")
    rest = {k: v for k, v in identity.items() if k not in ("n_images", "shard_size")}
    return FitStore(path, rest, identity["n_images"], identity["shard_size"]), config


def _plain(value: Any) -> Any:  # Any: plain JSON data
    return json.loads(canonical_json(value))


def _npy(values: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values), allow_pickle=False)
    return buffer.getvalue()


def _npz(values: Mapping[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **values)  # type: ignore[arg-type]
    return buffer.getvalue()


def _without_pixels(fits: Fits) -> Fits:
    empty = np.zeros((len(fits), 0, 0, 0), np.float32)
    values = {field.name: getattr(fits, field.name) for field in fields(fits)}
    return Fits(**{**values, **dict.fromkeys(PIXELS, empty)})
