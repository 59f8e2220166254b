"""Other people's images become a dataset: npy folders, stacks, archives, FITS files with labels.

What is made is a function of the images' content, not of their names: they are ordered by the hash
of their pixels, which also decides their split where nothing else does, so no duplicate lies in two
splits. Called again, an interrupted import reads everything once more and writes what is missing.
"""

import csv
import io
import time
from collections import Counter
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.config import dump
from pipeline.core.errors import ConfigError, DatasetError
from pipeline.core.logs import progress
from pipeline.core.provenance import canonical_json, sha256_hex
from pipeline.dataset.duplicates import image_digests
from pipeline.dataset.layout import TRUTH, StoreSpec, describe, image_arrays
from pipeline.dataset.place import Place, Url, exists, locate, require_writable, write_bytes
from pipeline.dataset.splits import SPLITS
from pipeline.dataset.writer import ShardStore, write_store
from pipeline.exchange.choose import Chosen, ImportConfig, choose
from pipeline.exchange.labels import Labels, read_labels
from pipeline.exchange.rejects import RejectedError, write_rejects
from pipeline.exchange.scan import Reading, Scan, checked, scan
from pipeline.exchange.sources import find_sources
from pipeline.exchange.stacks import Stack, open_stack
from pipeline.inference.search import is_fits_name
from pipeline.physics.components import TruthColumn

#: Truths that have a known meaning whoever wrote them.
KNOWN_TRUTHS = {"axion_mass": TruthColumn("eV", "mass of the axion")}
#: Files kept open while shards are written.
_OPEN_FILES = 4


@dataclass(frozen=True)
class ImportSummary:
    """What an import came to; ``moved`` images were taken out of a split that held a duplicate."""

    path: str
    images: int
    classes: dict[str, int]
    splits: dict[str, int]
    image_shape: tuple[int, int, int]
    pixel_scale: float
    bands: tuple[str, ...]
    unit: str
    duplicates: int
    moved: int
    rejected: int
    reasons: dict[str, int]
    rejects: str | None
    files: str
    seconds: float
    dataset_sha256: str
    resumed: bool

    @property
    def text(self) -> str:
        """A few lines for a person."""
        size = " x ".join(map(str, self.image_shape))
        classes = ", ".join(f"{n} {name}" for name, n in self.classes.items())
        splits = ", ".join(f"{n} {name}" for name, n in self.splits.items())
        lines = [
            f"{self.path}: {self.images} images of {size}, {self.pixel_scale:g} arcsec, "
            f"{', '.join(self.bands)}, {self.unit} ({classes}; {splits})"
        ]
        if self.duplicates:
            moved = f", {self.moved} moved so that none lies in two splits" if self.moved else ""
            lines.append(f"{self.duplicates} images occur more than once{moved}")
        if self.rejected:
            reasons = ", ".join(f"{n} {reason}" for reason, n in self.reasons.items())
            lines.append(f"{self.rejected} rejected ({reasons}), see {self.rejects}")
        return "\n".join([*lines, f"sha256 {self.dataset_sha256}"])


def import_images(
    root: Path, out: str | Path | Url, config: ImportConfig, labels: Path | None = None
) -> ImportSummary:
    """Make a dataset of the images in a folder or file.

    Parameters
    ----------
    root : Path
        Folder, ``.npy``, ``.npz`` or FITS file.
    out : str, Path or Url
        ``NAME.zarr``. Beside it: ``NAME.files.csv`` says which image came from where,
        ``NAME.rejects.csv`` what was left out and why.
    config : ImportConfig
    labels : Path, optional
        Table of labels (:mod:`pipeline.exchange.labels`).

    Raises
    ------
    ConfigError
        If there are no images, or something must be said that the files do not say.
    DatasetError
        If no image at all can be taken, or ``out`` holds something else.
    OutputError
        If it cannot be written.
    """
    start = time.monotonic()
    place = locate(out)
    require_writable(place)
    table = None if labels is None else read_labels(labels)
    there = find_sources(root, table, config.aliases)
    if config.pixel_scale is None and not any(is_fits_name(s.path.name) for s in there.sources):
        raise ConfigError(f"{root}: .npy files do not say their pixel scale; give --pixel-scale")
    reading = Reading(config.bands or ("unknown",), config.number, config.label, config.aliases)
    seen = scan(there.sources, reading)
    seen.rejects[:0] = there.rejects
    name = place.name.removesuffix(".zarr")
    rejects = place.with_name(f"{name}.rejects.csv")
    if not len(seen):
        write_rejects(seen.rejects, rejects)
        first = seen.rejects[0]
        raise DatasetError(
            f"{root}: none of {len(seen.rejects)} files or images can be taken, see {rejects}; "
            f"first {first.name}: {first.detail}"
        )
    chosen = choose(seen, config)
    write_rejects(seen.rejects, rejects)
    spec = _spec(seen, chosen, config, table)
    existed = exists(place)
    with write_store(place, spec) as store:
        missing = store.missing()
        resumed = existed and 0 < len(missing) < spec.n_shards
        _write(store, missing, seen, chosen, reading)
        digest = store.seal()
    files = place.with_name(f"{name}.files.csv")
    _write_files(files, seen, chosen)
    counts = np.bincount(chosen.label, minlength=len(chosen.class_names))
    return ImportSummary(
        path=str(place),
        images=len(chosen.index),
        classes={n: int(c) for n, c in zip(chosen.class_names, counts, strict=True)},
        splits={n: int((chosen.split == k).sum()) for k, n in enumerate(SPLITS)},
        image_shape=chosen.shape,
        pixel_scale=chosen.pixel_scale,
        bands=chosen.bands,
        unit=chosen.unit,
        duplicates=len(chosen.index) - len(np.unique(chosen.group)),
        moved=chosen.n_moved,
        rejected=len(seen.rejects),
        reasons=dict(sorted(Counter(r.reason for r in seen.rejects).items())),
        rejects=str(rejects) if seen.rejects else None,
        files=str(files),
        seconds=round(time.monotonic() - start, 3),
        dataset_sha256=digest,
        resumed=resumed,
    )


def _spec(seen: Scan, chosen: Chosen, config: ImportConfig, table: Labels | None) -> StoreSpec:
    columns = {
        name: (table.columns.get(name) if table is not None else None)
        or KNOWN_TRUTHS.get(name, TruthColumn("", ""))
        for name in sorted(seen.targets)
    }
    content = sha256_hex(chosen.digests.tobytes())
    values = [seen.target(name)[chosen.index].tobytes() for name in columns]
    said = sha256_hex(b"".join((chosen.label.tobytes(), chosen.split.tobytes(), *values)))
    attributes: dict[str, Any] = {
        **describe(chosen.class_names, chosen.bands, chosen.pixel_scale),
        "import": {**dump(config), "content_sha256": content, "labels_sha256": said},
    }
    arrays = image_arrays(chosen.class_names, chosen.shape, columns, chosen.unit)
    decisive = [attributes, {n: asdict(c) for n, c in columns.items()}, chosen.unit, chosen.shape]
    return StoreSpec(
        arrays=arrays,
        n_images=len(chosen.index),
        shard_size=config.shard_size,
        attributes=attributes,
        origin="import",
        origin_sha256=sha256_hex(canonical_json([*decisive, config.shard_size])),
    )


def _write(
    store: ShardStore, missing: tuple[int, ...], seen: Scan, chosen: Chosen, reading: Reading
) -> None:
    """Read the images of each missing shard again, and write it."""

    @lru_cache(maxsize=_OPEN_FILES)
    def opened(source: int) -> Stack:
        return open_stack(seen.sources[source].path, reading.bands, reading.number)

    sources, rows_of = np.array(seen.source)[chosen.index], np.array(seen.row)[chosen.index]
    truths = {name: seen.target(name)[chosen.index] for name in sorted(seen.targets)}
    n_images = sum(store.rows(k).stop - store.rows(k).start for k in missing)
    with progress(f"writing {store.path.name}", n_images) as advance:
        for shard in missing:
            rows = store.rows(shard)
            images = np.empty((rows.stop - rows.start, *chosen.shape), np.float32)
            for k in np.argsort(sources[rows], kind="stable").tolist():
                source = int(sources[rows.start + k])
                try:
                    images[k] = checked(opened(source).read(int(rows_of[rows.start + k])))
                except (RejectedError, ValueError, IndexError) as error:
                    raise _changed(seen.sources[source].name) from error
            if not np.array_equal(image_digests(images), chosen.digests[rows]):
                raise _changed("a file")
            values: dict[str, NDArray[Any]] = {
                "images": images,
                "label": chosen.label[rows],
                "split": chosen.split[rows],
            }
            store.write(shard, values | {TRUTH + name: v[rows] for name, v in truths.items()})
            advance(len(images))


def _changed(name: str) -> DatasetError:
    return DatasetError(f"{name} was changed while it was imported; run the same command again")


def _write_files(place: Place, seen: Scan, chosen: Chosen) -> None:
    """Write which image came from where."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("index", "path", "row", "label", "split"))
    for i, number in enumerate(chosen.index.tolist()):
        source = seen.sources[seen.source[number]]
        label = chosen.class_names[chosen.label[i]]
        writer.writerow((i, source.name, seen.row[number], label, SPLITS[chosen.split[i]]))
    write_bytes(place, text.getvalue().encode())
