"""Pickles of numbers and arrays are read; nothing else of a pickle is even looked at."""

import contextlib
import os
import pickle
import re
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pipeline.exchange.pickles import DamagedPickleError, UnsafePickleError, read_pickle

PROTOCOLS = range(6)
NUMBERS = npst.floating_dtypes(sizes=(16, 32, 64)) | npst.integer_dtypes() | npst.boolean_dtypes()


def pair(image: np.ndarray, mass: object) -> np.ndarray:
    """What DeepLense stores for one axion lens."""
    both = np.empty(2, object)
    both[0], both[1] = image, mass
    return both


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("mass", [3.2e-23, np.float64(3.2e-23), np.float32(2.0), 7])
def test_an_image_with_its_mass_comes_back(protocol: int, mass: float) -> None:
    image = np.random.default_rng(0).normal(size=(5, 4))
    found = read_pickle(pickle.dumps(pair(image, mass), protocol))
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found[0], image)
    assert found[1] == mass


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_files_of_numpy_1_are_read_like_those_of_numpy_2(protocol: int) -> None:
    image = np.arange(12.0).reshape(3, 4)
    text = pickle.dumps(pair(image, np.float64(0.5)), protocol)
    if protocol < 4:  # names are lines of text there, so their length does not matter
        old = text.replace(b"numpy._core.", b"numpy.core.")
    else:
        old = text.replace(b"\x16numpy._core.multiarray", b"\x15numpy.core.multiarray")
        old = old.replace(b"\x13numpy._core.numeric", b"\x12numpy.core.numeric")
        start = old.index(b"\x95") + 1
        length = struct.unpack("<Q", old[start : start + 8])[0] - (len(text) - len(old))
        old = old[:start] + struct.pack("<Q", length) + old[start + 8 :]
    assert b"_core" not in old
    found = read_pickle(old)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found[0], image)
    assert found[1] == 0.5


@given(
    array=npst.arrays(NUMBERS, npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)),
    protocol=st.sampled_from(PROTOCOLS),
    order=st.sampled_from("CF"),
)
@settings(max_examples=150, deadline=None)
def test_any_array_of_numbers_survives(array: np.ndarray, protocol: int, order: str) -> None:
    array = np.array(array, order=order)
    found = read_pickle(pickle.dumps(array, protocol))
    assert isinstance(found, np.ndarray)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


class Calls:
    """Pickles as a call, which ``pickle.load`` would make."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


class Stateful:
    def __setstate__(self, state: object) -> None: ...

    def __getstate__(self) -> dict[str, int]:
        return {"x": 1}


def in_array(target: Path) -> bytes:
    inside = np.empty(1, object)
    inside[0] = Calls(os.system, f"touch {target}")
    return pickle.dumps(inside)


def nested_load(target: Path) -> bytes:
    file = target.with_name("nested.npy")
    np.save(file, np.array([Calls(os.system, f"touch {target}")], object), allow_pickle=True)
    return pickle.dumps(Calls(np.load, str(file), None, True))


def opens(target: Path) -> str:
    return f"open({str(target)!r}, 'w').close()"


#: What the refusal must say -> a pickle that creates a file, or does other mischief, when loaded.
HOSTILE: dict[str, Callable[[Path], bytes]] = {
    "posix.system": lambda t: pickle.dumps(Calls(os.system, f"touch {t}")),
    "os.system": lambda t: f"cos\nsystem\n(S'touch {t}'\ntR.".encode(),
    "builtins.eval": lambda t: pickle.dumps(Calls(eval, opens(t))),
    "builtins.exec": lambda t: pickle.dumps(Calls(exec, opens(t))),
    "__builtin__.eval": lambda t: pickle.dumps(Calls(eval, opens(t)), 2),
    "builtins.getattr": lambda t: b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR.",
    "subprocess.Popen": lambda t: pickle.dumps(Calls(subprocess.Popen, ["touch", str(t)])),
    "numpy.load": nested_load,
    "_pickle.loads": lambda t: pickle.dumps(Calls(pickle.loads, b"N.")),
    "posix.system at byte": in_array,
    "INST": lambda t: f"(S'touch {t}'\nios\nsystem\n.".encode(),
    "asks for os.system": lambda t: f"(cos\nsystem\nS'touch {t}'\no.".encode(),
    "Stateful": lambda t: pickle.dumps(Stateful()),
    "PERSID": lambda t: b"Pid\n.",
    "EXT1": lambda t: b"\x82\x01.",
    "multiarray.fromfile": lambda t: b"cnumpy.core.multiarray\nfromfile\n(S'/dev/zero'\ntR.",
    "_codecs.lookup": lambda t: b"c_codecs\nlookup\n(S'rot13'\ntR.",
    "encode with arguments": lambda t: b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
    "dtype.__class__": lambda t: b"\x80\x04\x8c\x05numpy\x8c\x0fdtype.__class__\x93.",
    "numpy.matrixlib.defmatrix.matrix": lambda t: b"cnumpy.matrixlib.defmatrix\nmatrix\n.",
    "EMPTY_DICT": lambda t: pickle.dumps({"a": 1}),
    "EMPTY_SET": lambda t: pickle.dumps({1, 2}),
    "a str": lambda t: pickle.dumps("text"),
    "which is no real number": lambda t: pickle.dumps(np.array([1j])),
    "asks for EMPTY_DICT": lambda t: pickle.dumps(np.zeros(2, [("a", "f8")])),
}


@pytest.mark.parametrize("said", HOSTILE)
def test_hostile_pickles_are_refused_by_name_and_nothing_runs(said: str, tmp_path: Path) -> None:
    target = tmp_path / "created"
    with pytest.raises(UnsafePickleError, match=re.escape(said)) as refused:
        read_pickle(HOSTILE[said](target))
    assert "nothing was run" in str(refused.value)
    assert not target.exists()


@pytest.mark.parametrize("said", ["posix.system", "builtins.eval", "numpy.load"])
def test_the_hostile_pickles_are_real(said: str, tmp_path: Path) -> None:
    target = tmp_path / "created"
    content = HOSTILE[said](target)
    pickle.loads(content)  # noqa: S301 - shows that the test above would see a file
    assert target.exists()


def test_reading_a_pickle_never_imports_the_pickle_module() -> None:
    code = (
        "import sys, pipeline.exchange.pickles as p; "
        "sys.modules['pickle'] = None; print(p.read_pickle(b'F1.5\\n.'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1.5"


def claiming(shape: tuple[object, ...]) -> bytes:
    """Pickle of an array of two numbers that claims another shape."""
    text = pickle.dumps(np.zeros(2), 2)
    there = b"K\x01K\x02\x85"  # version 1, shape (2,)
    assert text.count(there) == 1
    return text.replace(there, b"K\x01" + pickle.dumps(shape, 2)[2:-1])


@pytest.mark.parametrize("shape", [(10**12,), (2**40, 2**40), (-2,), (3,), (2, -1), (1.0, 2), ()])
def test_an_array_that_claims_more_than_it_has_allocates_nothing(shape: tuple[object, ...]) -> None:
    with pytest.raises(DamagedPickleError, match="claims"):
        read_pickle(claiming(shape))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"N",
        b"0.",
        b"(.",
        b"t.",
        b"h\x07.",
        b"q\x00.",
        b"R.",
        b"NN.",
        b"\x8e" + b"\xff" * 7 + b"\x7f" + b"x.",  # BINBYTES8 of 9 exabytes
        b"\x96" + b"\x00" * 5 + b"\x01\x00\x00" + b"x.",  # BYTEARRAY8 of a terabyte
        b"F1.0\nr\xff\xff\xff\x7f" + b"j\xfe\xff\xff\x7f.",  # memory at two billion
        b"\xff\xff",
        b"I1\n" * 3 + b".",
    ],
)
def test_nonsense_is_refused_and_costs_no_memory(content: bytes) -> None:
    tracemalloc.start()
    with pytest.raises((DamagedPickleError, UnsafePickleError)):
        read_pickle(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_damaged_pickles_give_a_value_or_a_refusal_and_nothing_else(data: st.DataObject) -> None:
    content = bytearray(
        pickle.dumps(pair(np.eye(3), np.float64(2.0)), data.draw(st.integers(0, 5)))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UnsafePickleError, DamagedPickleError):
        read_pickle(bytes(content[: data.draw(st.integers(0, len(content)))]))


def test_an_array_inside_itself_is_refused() -> None:
    loop = np.empty(1, object)
    loop[0] = loop
    with pytest.raises(UnsafePickleError, match="inside itself"):
        read_pickle(pickle.dumps(loop))
