"""How a dataset lies in Zarr: group, arrays, attributes; what is there, and whether it is ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import (
    DatasetError,
    DatasetIntegrityError,
    DatasetNotFoundError,
    StorageError,
)
from pipeline.core.provenance import package_versions
from pipeline.dataset.layout import (
    DIGEST_BYTES,
    DIGESTS,
    FORMAT,
    FORMAT_VERSION,
    RAGGED_CHUNKS,
    ArraySpec,
    StoreSpec,
    inner_chunk,
)
from pipeline.dataset.place import Place, exists, read_bytes, zarr_store

if TYPE_CHECKING:
    import zarr


def create_arrays(path: Path, spec: StoreSpec) -> None:
    """Write an empty dataset: every array, no value."""
    import zarr

    group = zarr.create_group(store=path, zarr_format=3)
    group.attrs.update(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "n_images": spec.n_images,
            "shard_size": spec.shard_size,
            "arrays": [array.name for array in spec.arrays],
            "ragged": [array.name for array in spec.arrays if array.ragged],
            "origin": spec.origin,
            "origin_sha256": spec.origin_sha256,
            "versions": package_versions(),
            "device": spec.device(),
            **spec.attributes,
        }
    )
    for array in spec.arrays:
        chunk, shard = (spec.shard_size, *array.item_shape), None
        if array.ragged:
            shard = (spec.capacity, *array.item_shape)
            chunk = (spec.capacity // RAGGED_CHUNKS, *array.item_shape)
        elif array.item_shape:
            chunk, shard = (inner_chunk(spec.shard_size), *array.item_shape), chunk
        group.create_array(
            name=array.name,
            shape=array.shape(spec.length(array)),
            dtype=np.dtype(array.dtype),
            chunks=chunk,
            shards=shard,
            compressors=None,
            fill_value=array.fill,
            attributes=array.attributes,
        )
    group.create_array(
        name=DIGESTS,
        shape=(spec.n_shards, DIGEST_BYTES),
        dtype=np.uint8,
        chunks=(1, DIGEST_BYTES),
        compressors=None,
        fill_value=0,
        attributes={"description": "SHA-256 of each shard's decoded values; zeros: not written"},
    )


def open_group(place: Place, mode: Literal["r", "r+"]) -> zarr.Group:
    """Open the group of a dataset."""
    import zarr

    store = zarr_store(place, read_only=mode == "r")
    return zarr.open_group(store=store, mode=mode, zarr_format=3, use_consolidated=False)


def array_of(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """One array of a group, where a missing chunk is an error and an empty one is written.

    Raises
    ------
    DatasetError
        If it is not there.
    """
    import zarr

    try:
        array = group[name]
    except KeyError as error:
        raise DatasetError(f"{group.store}: array {name!r} is missing") from error
    assert isinstance(array, zarr.Array)
    if name == DIGESTS or name in group.attrs.get("ragged", ()):  # type: ignore[operator]
        return array
    return array.with_config({"read_missing_chunks": False, "write_empty_chunks": True})


def write_regions(
    arrays: Mapping[str, zarr.Array[Any]],
    regions: Mapping[str, slice],
    values: Mapping[str, NDArray[Any]],
) -> None:
    """Write a region of each of several arrays, all at once: waiting dominates small writes."""
    from zarr.core.sync import sync  # the loop that zarr's own arrays run on

    sync(
        _together(
            *(a.async_array.setitem(regions[name], values[name]) for name, a in arrays.items())
        )
    )


def read_regions(
    arrays: Mapping[str, zarr.Array[Any]], regions: Mapping[str, slice]
) -> dict[str, NDArray[Any]]:
    """Read a region of each of several arrays, all at once."""
    from zarr.core.sync import sync

    found = sync(
        _together(*(arrays[name].async_array.getitem(region) for name, region in regions.items()))
    )
    return {name: np.asarray(values) for name, values in zip(regions, found, strict=True)}


async def _together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """Results of coroutines; if one fails, the others and what they began end before it is raised.

    Otherwise chunks are still written when the caller has given up, and asyncio tells each of their
    failures with a traceback.
    """
    before = asyncio.all_tasks()
    try:
        return await asyncio.gather(*work)
    except Exception:
        while begun := asyncio.all_tasks() - before:
            await asyncio.gather(*begun, return_exceptions=True)
        raise


def delete_chunk(array: zarr.Array[Any], shard: int) -> None:
    """Delete the file that holds one shard of an array."""
    from zarr.core.sync import sync

    key = array.metadata.encode_chunk_key((shard, *(0,) * (array.ndim - 1)))
    sync((array.store_path / key).delete())


def read_of_shard(
    array: zarr.Array[Any], region: slice, place: Place, shard: int | None = None
) -> NDArray[Any]:
    """Read part of an array.

    Raises
    ------
    DatasetIntegrityError
        If bytes are missing or damaged, naming the shard.
    StorageError
        If a remote store does not answer.
    """
    try:
        return np.asarray(array[region])
    except StorageError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        where = "" if shard is None else f"shard {shard}, "
        raise DatasetIntegrityError(
            f"{place}: {where}{array.name.lstrip('/')} is missing or damaged: {first}; "
            "deeplense audit names every damaged shard"
        ) from error


def read_attributes(path: Place) -> dict[str, Any]:  # Any: JSON
    """Attributes of the group.

    Raises
    ------
    DatasetNotFoundError
        If nothing lies at the path.
    DatasetError
        If it is no dataset of ours, or of another version.
    """
    if not exists(path):
        raise DatasetNotFoundError(f"{path}: no dataset lies there")
    try:
        content = read_bytes(path / "zarr.json")
        if content is None:
            raise DatasetError(f"{path}: not a dataset: there is no zarr.json")
        meta = json.loads(content.decode())
    except StorageError:
        raise
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a dataset: zarr.json cannot be read: {error}") from error
    attributes = meta.get("attributes", {}) if isinstance(meta, dict) else {}
    if attributes.get("format") != FORMAT:
        raise DatasetError(f"{path}: a zarr group, but not a {FORMAT}")
    if attributes["format_version"] != FORMAT_VERSION:
        raise DatasetError(
            f"{path}: format version {attributes['format_version']}; this release reads "
            f"version {FORMAT_VERSION}"
        )
    return dict(attributes)


def stored_spec(path: Place) -> tuple[StoreSpec, str | None]:
    """What a dataset says of itself, and its hash if it is complete."""
    attributes = read_attributes(path)
    group = open_group(path, mode="r")
    try:
        ragged = attributes["ragged"]
        arrays = tuple(_stored_array(group, n, n in ragged) for n in attributes["arrays"])
        spec = StoreSpec(
            arrays=arrays,
            n_images=attributes["n_images"],
            shard_size=attributes["shard_size"],
            attributes=attributes,
            origin=attributes["origin"],
            origin_sha256=attributes["origin_sha256"],
        )
    except (KeyError, OSError, ValueError) as error:
        raise DatasetError(f"{path}: damaged: {error}") from error
    return spec, attributes.get("dataset_sha256")


def _stored_array(group: zarr.Group, name: str, ragged: bool) -> ArraySpec:
    array = array_of(group, name)
    # The digest reads little-endian values, whatever the order of bytes in memory.
    dtype = array.dtype.newbyteorder("<").str
    return ArraySpec(name, array.shape[1:], dtype, array.fill_value, dict(array.attrs), ragged)
