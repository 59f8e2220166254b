"""A dataset in other people's formats: npy folders, one HDF5 file, or FITS as a survey delivers it.

Folders hold one file an image, ``SPLIT/CLASS/NUMBER.suffix``, and a table ``labels.ecsv`` with the
whole truth, which ``deeplense import`` reads back. Every file is whole or absent; called again, an
interrupted export goes on with the files that are missing.
"""

import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.core.config import hint
from pipeline.core.errors import ConfigError, DatasetError
from pipeline.core.files import atomic_path, atomic_write, require_writable_parent
from pipeline.core.logs import progress
from pipeline.dataset.place import Url, locate
from pipeline.dataset.splits import SPLITS
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.exchange.export_fits import survey_writer
from pipeline.exchange.export_hdf5 import write_hdf5
from pipeline.exchange.origin import require_class_names

Format = Literal["npy", "hdf5", "fits"]
FORMATS = ("npy", "hdf5", "fits")
FORMAT = "deeplense-export"
FORMAT_VERSION = 1
#: Says which dataset a folder holds, and whether it is complete.
MANIFEST = "export.json"
LABELS = "labels.ecsv"
#: Files that are on their way to the disk at once.
_THREADS = 8


@dataclass(frozen=True)
class ExportSummary:
    """What an export did; ``written`` counts the files of this call, the others were there."""

    path: str
    format: str
    images: int
    written: int
    classes: dict[str, int]
    seconds: float
    dataset_sha256: str

    @property
    def text(self) -> str:
        """One line for a person."""
        classes = ", ".join(f"{n} {name}" for name, n in self.classes.items())
        there = f", {self.images - self.written} were there" if self.written < self.images else ""
        return f"{self.path}: {self.images} images as {self.format} ({classes}{there})"


def export_dataset(
    data: str | Path | Url,
    out: Path,
    kind: Format,
    *,
    splits: Sequence[str] = (),
    classes: Sequence[str] = (),
    pairs: str | None = None,
) -> ExportSummary:
    """Write the images of a dataset in another format.

    Parameters
    ----------
    data : str, Path or Url
        A complete dataset.
    out : Path
        Folder, or ``.h5`` file.
    kind : str
        ``npy``, ``hdf5`` or ``fits``.
    splits, classes : sequence of str
        Only these; all by default.
    pairs : str, optional
        Truth that images which have it carry as a pickled pair ``[image, value]``, as DeepLense's
        own scripts expect of the axion's mass; npy only.

    Raises
    ------
    ConfigError
        If there is no such split, class or truth.
    DatasetError
        If ``out`` holds something else.
    OutputError
        If it cannot be written.
    """
    start = time.monotonic()
    require_writable_parent(out)
    dataset = _open(data)
    require_class_names(dataset)
    index = _select(dataset, splits, classes)
    if pairs is not None and (kind != "npy" or pairs not in dataset.truth_info()):
        known = hint(pairs, dataset.truth_info())
        raise ConfigError(f"--pairs {pairs}: a truth of the dataset, for --format npy{known}")
    if kind == "hdf5":
        n_written = len(index)
        write_hdf5(dataset, index, out)
    else:
        files = _npy_writer(dataset, pairs) if kind == "npy" else survey_writer(dataset)
        n_written = _write_folder(dataset, index, out, kind, files, pairs)
    counts = np.bincount(dataset.labels[index], minlength=len(dataset.class_names))
    return ExportSummary(
        path=str(out),
        format=kind,
        images=len(index),
        written=n_written,
        classes={n: int(c) for n, c in zip(dataset.class_names, counts, strict=True)},
        seconds=round(time.monotonic() - start, 3),
        dataset_sha256=dataset.sha256,
    )


def _open(data: str | Path | Url) -> Dataset:
    from pipeline.checkpoint.spec import SPEC_FILE

    place = locate(data)
    if isinstance(place, Path) and (place / SPEC_FILE).is_file():
        raise ConfigError(f"{place}: a run folder; --format {'|'.join(FORMATS)} is for datasets")
    return open_dataset(place)


def _select(dataset: Dataset, splits: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    wanted = np.ones(dataset.n_images, bool)
    for names, known, values in (
        (splits, SPLITS, dataset.split),
        (classes, dataset.class_names, dataset.labels),
    ):
        for name in names:
            if name not in known:
                raise ConfigError(f"{dataset.path}: no images of {name!r}{hint(name, known)}")
        if names:
            wanted &= np.isin(values, [known.index(name) for name in names])
    if not wanted.any():
        raise ConfigError(f"{dataset.path}: no image is both of that split and of that class")
    return np.flatnonzero(wanted).astype(np.int64)


#: Turns an image number and its pixels (C, H, W) into the content of its file.
type _Writer = Callable[[int, NDArray[np.float32]], bytes]


def _npy_writer(dataset: Dataset, pairs: str | None) -> _Writer:
    values = None if pairs is None else dataset.truth(pairs)

    def write(index: int, image: NDArray[np.float32]) -> bytes:
        picture: NDArray[Any] = image[0] if len(image) == 1 else image
        is_pair = values is not None and bool(np.isfinite(values[index]))
        if values is not None and is_pair:
            both = np.empty(2, object)
            both[0], both[1] = picture, float(values[index])
            picture = both
        stream = io.BytesIO()
        np.save(stream, picture, allow_pickle=is_pair)  # writing runs nothing; we read without it
        return stream.getvalue()

    return write


def _write_folder(
    dataset: Dataset,
    index: NDArray[np.int64],
    out: Path,
    kind: Format,
    content: _Writer,
    pairs: str | None,
) -> int:
    """Write the files that are missing, then the table; return how many there were to write."""
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "pairs": pairs,
        "dataset_sha256": dataset.sha256,
    }
    _take_up(out, manifest)
    names = _names(dataset, index, kind)
    missing = np.array([not (out / name).exists() for name in names], bool)
    with progress(f"writing {out.name}", int(missing.sum())) as advance:
        for rows in _blocks(dataset, index[missing]):
            images = dataset.read_images(rows)
            places = [out / names[k] for k in np.searchsorted(index, rows).tolist()]
            files = map(content, rows.tolist(), images)
            with ThreadPoolExecutor(_THREADS) as pool:  # most of the time is the disk's
                for _ in pool.map(atomic_write, places, files):
                    advance(1)
    _write_labels(dataset, index, names, out / LABELS)
    atomic_write(out / MANIFEST, _json({**manifest, "complete": True, "images": len(index)}))
    return int(missing.sum())


def _take_up(out: Path, manifest: dict[str, Any]) -> None:
    """Begin a folder, or recognise one that the same dataset began."""
    place = out / MANIFEST
    if not place.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise DatasetError(f"{out}: is there already and is no export; choose another --out")
        atomic_write(place, _json({**manifest, "complete": False}))
        return
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{place}: cannot be read: {error}") from error
    differing = [key for key, value in manifest.items() if found.get(key) != value]
    if differing:
        key = differing[0]
        raise DatasetError(
            f"{out}: holds another export ({key} {found.get(key)}, asked {manifest[key]}); choose "
            "another --out"
        )


def _names(dataset: Dataset, index: NDArray[np.int64], kind: Format) -> list[str]:
    width = len(str(dataset.n_images - 1))
    labels, split, names = dataset.labels, dataset.split, dataset.class_names
    return [f"{SPLITS[split[i]]}/{names[labels[i]]}/{i:0{width}d}.{kind}" for i in index.tolist()]


def _blocks(dataset: Dataset, index: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Image numbers shard by shard, so that each shard is read once."""
    shard = index // dataset.shard_size
    for k in np.unique(shard).tolist():
        yield index[shard == k]


def _write_labels(
    dataset: Dataset, index: NDArray[np.int64], names: Sequence[str], path: Path
) -> None:
    """Write the table that ``deeplense import`` reads back."""
    from astropy.table import Table  # type: ignore[import-untyped]  # heavy

    table = Table(
        {
            "path": list(names),
            "label": [dataset.class_names[k] for k in dataset.labels[index]],
            "split": [SPLITS[k] for k in dataset.split[index]],
            "index": index,
        }
    )
    for name, about in dataset.truth_info().items():
        table[name] = dataset.truth(name)[index]
        table[name].description = about.description
        if about.unit:
            table[name].unit = about.unit
    table.meta = {
        "dataset_sha256": dataset.sha256,
        "bands": list(dataset.bands),
        "pixel_scale": dataset.pixel_scale,
        "unit": dataset.unit,
    }
    with atomic_path(path) as temporary:
        table.write(temporary, format="ascii.ecsv", overwrite=True)


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=2) + "\n"
