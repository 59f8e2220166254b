"""``.npy`` and ``.npz`` files: what is in them, or why not."""

import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pipeline.exchange.npy import read_npy, read_npz
from pipeline.exchange.rejects import RejectedError

NUMBERS = npst.floating_dtypes(sizes=(16, 32, 64)) | npst.integer_dtypes() | npst.boolean_dtypes()


def file_of(folder: Path, header: str, content: bytes = b"", version: int = 1) -> Path:
    """An ``.npy`` file with any header."""
    text = header.encode() + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    path = folder / "x.npy"
    path.write_bytes(b"\x93NUMPY" + bytes((version, 0)) + length + text + content)
    return path


@given(
    array=npst.arrays(NUMBERS, npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)),
    order=st.sampled_from("CF"),
    version=st.sampled_from([(1, 0), (2, 0), (3, 0)]),
)
@settings(max_examples=100, deadline=None)
def test_what_numpy_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    array: np.ndarray,
    order: str,
    version: tuple[int, int],
) -> None:
    path = tmp_path_factory.mktemp("npy") / "x.npy"
    with path.open("wb") as stream:
        np.lib.format.write_array(stream, np.array(array, order=order), version)
    found = read_npy(path)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_large_files_are_mapped_and_not_read(tmp_path: Path) -> None:
    array = np.arange(2**19, dtype="<f8").reshape(128, 64, 64)
    np.save(tmp_path / "x.npy", array)
    tracemalloc.start()
    found = read_npy(tmp_path / "x.npy")
    last = np.array(found[-1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(last, array[-1])
    assert peak < array.nbytes / 10


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}", "truncated"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 9)}", "truncated"),
        ("{'descr': '<c16', 'fortran_order': False, 'shape': (1,)}", "real numbers"),
        ("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1,)}", "not a plain array"),
        ("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}", "not a plain array"),
        ("{'descr': '<q9', 'fortran_order': False, 'shape': (1,)}", "no type"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}", "not a plain array"),
        ("__import__('os').system('touch /tmp/created')", "not a plain array"),
        ("{'descr': '|V0', 'fortran_order': False, 'shape': (1,)}", "real numbers"),
    ],
)
def test_bad_headers_are_refused_by_name(header: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match=said):
        read_npy(file_of(tmp_path, header, bytes(8)))


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{", b"PK\x03\x04", pickle.dumps(1.0)]
)
def test_what_is_no_npy_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(RejectedError) as refused:
        read_npy(tmp_path / "x.npy")
    assert refused.value.reason == "unreadable"


def test_an_object_array_of_another_shape_than_its_header_is_refused(tmp_path: Path) -> None:
    content = pickle.dumps(np.array([1.0, None], object)[:1])
    path = file_of(tmp_path, "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", content)
    with pytest.raises(RejectedError, match="the header says"):
        read_npy(path)


def test_an_archive_gives_every_array_and_texts_for_labels(tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)
    np.savez_compressed(tmp_path / "x.npz", images=images, label=np.array(["no", "sub", "no"]))
    found = read_npz(tmp_path / "x.npz")
    np.testing.assert_array_equal(found["images"], images)
    assert found["label"].tolist() == ["no", "sub", "no"]


def test_a_hostile_member_of_an_archive_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (open, (str(tmp_path / "created"), "w"))

    array = np.empty(1, object)
    array[0] = Evil()
    np.savez(tmp_path / "x.npz", images=array)
    with pytest.raises(RejectedError, match=r"_?io.open") as refused:
        read_npz(tmp_path / "x.npz")
    assert refused.value.reason == "unsafe_pickle"
    assert not (tmp_path / "created").exists()


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (2000000000,), }\n"
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", start)
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        where = content.index(signature) + offset
        content[where : where + 4] = struct.pack("<I", 0xFFFFFFF0)  # 4 GiB claimed
    path.write_bytes(bytes(content))
    tracemalloc.start()
    with pytest.raises(RejectedError):
        read_npz(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_files_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    npz = data.draw(st.booleans())
    path = folder / ("x.npz" if npz else "x.npy")
    if npz:
        np.savez_compressed(path, images=np.eye(4), label=np.array(["a"] * 4))
    else:
        np.save(path, np.eye(4))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        read_npz(path) if npz else read_npy(path)
    except RejectedError as error:
        assert error.detail
