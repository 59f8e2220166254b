"""Raw reading gives what zarr gives, and refuses what is damaged; zarr reads everything else."""

import os
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import DatasetIntegrityError
from pipeline.dataset.raw import RawArray, raw_array


def write(path: Path, values: np.ndarray, shard: int, chunk: int | None, **options) -> RawArray:
    item = values.shape[1:]
    array = zarr.create_array(
        store=path,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(chunk or shard, *item),
        shards=(shard, *item) if chunk else None,
        **{"compressors": None, "fill_value": 0, **options},
    )
    array[:] = values
    raw = raw_array(path)
    assert raw is not None
    return raw


def numbers(n: int, item: tuple[int, ...], dtype: str) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(n))
    return rng.integers(-50, 50, (n, *item)).astype(dtype)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 40),
    chunk=st.integers(1, 5),
    n_chunks=st.integers(1, 4),
    item=st.sampled_from([(), (1, 2, 3), (2, 4, 4)]),
    dtype=st.sampled_from(["float32", "float64", "int8", "int16", "int64", "uint8"]),
    sharded=st.booleans(),
    location=st.sampled_from(["start", "end"]),
    rows=st.tuples(st.integers(0, 45), st.integers(0, 45)),
)
def test_equals_zarr(
    tmp_path_factory, n, chunk, n_chunks, item, dtype, sharded, location, rows
) -> None:
    path = tmp_path_factory.mktemp("raw") / "a"
    values, shard = numbers(n, item, dtype), chunk * n_chunks
    if not sharded:
        raw = write(path, values, shard, None)
    else:
        inner = (chunk, *item)
        codec = zarr.codecs.ShardingCodec(
            chunk_shape=inner, index_location=location, codecs=[zarr.codecs.BytesCodec()]
        )
        array = zarr.create(
            store=path, shape=values.shape, dtype=dtype, zarr_format=3, fill_value=0,
            chunks=(shard, *item), codecs=[codec],
        )  # fmt: skip
        array[:] = values
        raw = raw_array(path)
    assert raw is not None
    assert raw.n_shards == -(-n // shard)
    read = raw.read()
    assert read.dtype.newbyteorder("=") == values.dtype
    np.testing.assert_array_equal(read, zarr.open_array(store=path, mode="r")[:])
    np.testing.assert_array_equal(raw.read(slice(*rows)), values[slice(*rows)])
    np.testing.assert_array_equal(
        np.concatenate([raw.shard(k) for k in range(raw.n_shards)]), values
    )


def test_chunks_out_of_order_and_holes_are_put_together(tmp_path: Path) -> None:
    values = numbers(12, (2,), "float32")
    values[3:6] = 0  # zarr leaves out a chunk of nothing but the fill value
    raw = write(tmp_path / "a", values, 12, 3)
    np.testing.assert_array_equal(raw.shard(0), values)
    with pytest.raises(DatasetIntegrityError, match="has holes"):
        raw.shard(0, whole=True)


def test_a_missing_shard_is_the_fill_value_or_an_error(tmp_path: Path) -> None:
    raw = write(tmp_path / "a", numbers(8, (3,), "float32") + 100, 4, 2, fill_value=np.nan)
    raw.file(1).unlink()
    assert np.isnan(raw.read()[4:]).all()
    with pytest.raises(DatasetIntegrityError, match="shard 1 is gone"):
        raw.shard(1, whole=True)


@pytest.mark.parametrize("n_left", [0, 3, 20, 60])
def test_a_cut_shard_is_refused(tmp_path: Path, n_left: int) -> None:
    raw = write(tmp_path / "a", numbers(4, (3,), "float32") + 100, 4, 2)
    os.truncate(raw.file(0), n_left)
    with pytest.raises(DatasetIntegrityError, match=str(raw.file(0))):
        raw.shard(0)


@pytest.mark.parametrize("byte", range(-36, 0))
def test_every_flipped_bit_of_the_index_is_found(tmp_path: Path, byte: int) -> None:
    raw = write(tmp_path / "a", numbers(4, (3,), "float32") + 100, 4, 2)
    content = bytearray(raw.file(0).read_bytes())
    content[byte] ^= 4
    raw.file(0).write_bytes(content)
    with pytest.raises(DatasetIntegrityError, match="checksum"):
        raw.shard(0)


def test_an_index_that_points_outside_is_refused(tmp_path: Path) -> None:
    import google_crc32c

    raw = write(tmp_path / "a", numbers(4, (3,), "float32") + 100, 4, 2)
    for offset, length in ((2**64 - 20, 24), (48, 24), (0, 2**63), (90, 24)):
        index = np.array([[0, 24], [offset, length]], "<u8").tobytes()
        body = bytes(48) + index + np.uint32(google_crc32c.value(index)).tobytes()
        raw.file(0).write_bytes(body)
        with pytest.raises(DatasetIntegrityError, match="chunk 1 should lie at"):
            raw.shard(0)


def test_a_plain_chunk_of_the_wrong_length_is_refused(tmp_path: Path) -> None:
    raw = write(tmp_path / "a", numbers(4, (), "int16"), 4, None)
    raw.file(0).write_bytes(b"123")
    with pytest.raises(DatasetIntegrityError, match="3 bytes, expected 8"):
        raw.read()


@pytest.mark.parametrize(
    "options",
    [
        {"compressors": "auto"},
        {"filters": [zarr.codecs.TransposeCodec(order=(1, 0))]},
        {"chunk_key_encoding": {"name": "v2", "separator": "."}},
        {"chunks": (2, 2)},
        {"serializer": zarr.codecs.BytesCodec(endian="big")},
    ],
    ids=["compressed", "transposed", "other names", "cut along other axes", "big endian"],
)
def test_zarr_reads_the_rest(tmp_path: Path, options) -> None:
    full = {"shape": (8, 4), "dtype": "int32", "chunks": (2, 4), "compressors": None, **options}
    zarr.create_array(store=tmp_path / "a", **full)[:] = 1
    assert raw_array(tmp_path / "a") is None


def test_no_array_is_none(tmp_path: Path) -> None:
    assert raw_array(tmp_path) is None
    (tmp_path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    assert raw_array(tmp_path) is None
