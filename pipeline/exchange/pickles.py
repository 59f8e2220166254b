"""Read the pickles that numpy writes for arrays of objects, and run nothing.

``pickletools`` splits the stream into opcodes without acting on any; the small machine below knows
the opcodes that numpy needs, and five names. It imports nothing, calls nothing that a file names,
and allocates nothing that is not already in the file, so whatever a hostile pickle asks for is an
error that says so. numpy 1.x and 2.x and pickle protocols 0 to 5 are understood.
"""

import math
import pickletools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

#: What a pickle may hold: numbers, and arrays of numbers or of these.
type Value = float | int | bool | NDArray[Any]  # Any: whatever kind of number was stored

#: Most opcodes of one pickle: 400 000 images with their masses; bounds time and memory.
MAX_STEPS = 20_000_000
#: Most axes that are believed, and values along one of an array without values.
_MAX_AXES, _MAX_EMPTY = 8, 100
#: Kinds of numpy types that are numbers.
NUMBER_KINDS = "fiub"


class UnsafePickleError(ValueError):
    """The pickle asks for something other than numbers and arrays; nothing of it was run."""


class DamagedPickleError(ValueError):
    """The pickle is cut short, or no pickle."""


def read_pickle(content: bytes) -> Value:
    """Read a number, or an array of numbers or of objects of these kinds.

    Parameters
    ----------
    content : bytes

    Returns
    -------
    Value
        Arrays of numbers are read-only views of ``content``.

    Raises
    ------
    UnsafePickleError
        If it asks for anything else; names it.
    DamagedPickleError
        If it is cut short or makes no sense.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of escapes that no text should hold
        return _run(content)


def _run(content: bytes) -> Value:
    machine = _Machine()
    opcodes = pickletools.genops(content)
    for _ in range(MAX_STEPS):
        try:
            opcode, argument, position = next(opcodes)
        except StopIteration:
            raise DamagedPickleError("the pickle has no end") from None
        except ValueError as error:
            raise DamagedPickleError(f"damaged pickle: {error}") from error
        if opcode.name == "STOP":
            return machine.result()
        machine.run(opcode.name, argument, position or 0)
    raise DamagedPickleError(f"more than {MAX_STEPS} steps; write plain arrays instead")


class _Name(Enum):
    """The only names that are known; each stands for itself and is never looked up."""

    RECONSTRUCT = "_reconstruct"
    NDARRAY = "ndarray"
    DTYPE = "dtype"
    SCALAR = "scalar"
    FROM_BUFFER = "_frombuffer"
    ENCODE = "encode"
    BYTES = "bytes"


_NAMES = {
    ("numpy", "ndarray"): _Name.NDARRAY,
    ("numpy", "dtype"): _Name.DTYPE,
    ("_codecs", "encode"): _Name.ENCODE,  # how Python 3 writes bytes in old protocols ...
    ("__builtin__", "bytes"): _Name.BYTES,  # ... and no bytes at all
    **{
        (f"numpy.{core}.{module}", name.value): name
        for core in ("core", "_core")
        for module, name in (
            ("multiarray", _Name.RECONSTRUCT),
            ("multiarray", _Name.SCALAR),
            ("numeric", _Name.FROM_BUFFER),
        )
    },
}


class _Mark:
    """Start of a sequence on the stack."""


@dataclass
class _Type:
    """A numpy type; its byte order comes with BUILD."""

    code: str
    order: Literal["<", ">", "="] = "="

    def numbers(self) -> np.dtype[Any]:
        """The type, if it is one of numbers.

        Raises
        ------
        UnsafePickleError
        """
        try:
            found = np.dtype(self.code)
        except TypeError as error:
            raise UnsafePickleError(f"an array of type {self.code!r}") from error
        if found.kind not in NUMBER_KINDS:
            raise UnsafePickleError(f"an array of type {self.code!r}, which is no real number")
        return found.newbyteorder(self.order)

    @property
    def is_object(self) -> bool:
        return self.code in ("O", "O4", "O8", "|O")


@dataclass
class _Array:
    """An array; its content comes with BUILD."""

    value: NDArray[Any] | None = None


class _Machine:
    """Stack and memory of the pickle machine."""

    def __init__(self) -> None:
        self._stack: list[Any] = []  # Any: what a pickle pushes
        self._memory: dict[int, Any] = {}
        self._steps: dict[str, Callable[[Any], None]] = {
            **dict.fromkeys(("PROTO", "FRAME"), lambda _: None),
            **dict.fromkeys(_LITERALS, self._stack.append),
            "NONE": lambda _: self._stack.append(None),
            "NEWTRUE": lambda _: self._stack.append(True),
            "NEWFALSE": lambda _: self._stack.append(False),
            **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), self._put),
            **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), self._get),
            "MEMOIZE": lambda _: self._put(len(self._memory)),
            "MARK": lambda _: self._stack.append(_Mark()),
            "EMPTY_LIST": lambda _: self._stack.append([]),
            "LIST": lambda _: self._stack.append(self._marked()),
            "TUPLE": lambda _: self._stack.append(tuple(self._marked())),
            "EMPTY_TUPLE": lambda _: self._stack.append(()),
            "TUPLE1": lambda _: self._stack.append(tuple(self._pop(1))),
            "TUPLE2": lambda _: self._stack.append(tuple(self._pop(2))),
            "TUPLE3": lambda _: self._stack.append(tuple(self._pop(3))),
            "APPEND": lambda _: self._extend(self._pop(1)),
            "APPENDS": lambda _: self._extend(self._marked()),
            "POP": lambda _: self._drop(),
            "GLOBAL": lambda text: self._name(*text.split(" ", 1)),
            "STACK_GLOBAL": lambda _: self._name(*self._pop(2)),
            "REDUCE": lambda _: self._stack.append(_call(*self._pop(2))),
            "BUILD": lambda _: self._build(*self._pop(2)),
        }

    def run(self, opcode: str, argument: Any, position: int) -> None:
        """Do one step."""
        step = self._steps.get(opcode)
        if step is None:
            raise UnsafePickleError(f"the pickle asks for {opcode} at byte {position}{_ONLY}")
        try:
            step(argument)
        except UnsafePickleError as error:
            raise UnsafePickleError(
                f"the pickle asks for {error} at byte {position}{_ONLY}"
            ) from error

    def result(self) -> Value:
        """What the pickle holds."""
        if len(self._stack) != 1:
            raise DamagedPickleError("the pickle ends in the middle of an object")
        try:
            return _value(self._stack[0])
        except UnsafePickleError as error:
            raise UnsafePickleError(f"the pickle holds {error}{_ONLY}") from error

    def _pop(self, n: int) -> list[Any]:
        items = self._stack[-n:]
        if len(items) < n or any(isinstance(item, _Mark) for item in items):
            raise DamagedPickleError("the pickle takes what it has not put")
        del self._stack[-n:]
        return items

    def _drop(self) -> None:
        if not self._stack:
            raise DamagedPickleError("the pickle takes what it has not put")
        self._stack.pop()

    def _marked(self) -> list[Any]:
        for start in range(len(self._stack) - 1, -1, -1):
            if isinstance(self._stack[start], _Mark):
                items = self._stack[start + 1 :]
                del self._stack[start:]
                return items
        raise DamagedPickleError("the pickle takes what it has not put")

    def _put(self, key: int) -> None:
        if not self._stack or isinstance(self._stack[-1], _Mark):
            raise DamagedPickleError("the pickle keeps what it has not put")
        self._memory[key] = self._stack[-1]

    def _get(self, key: int) -> None:
        if key not in self._memory:
            raise DamagedPickleError("the pickle recalls what it has not kept")
        self._stack.append(self._memory[key])

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1] if self._stack else None
        if not isinstance(target, list):
            raise UnsafePickleError("items of something that is no list")
        target.extend(items)

    def _name(self, module: object, name: object) -> None:
        found = _NAMES.get((str(module), str(name)))
        if found is None:
            raise UnsafePickleError(_printable(f"{module}.{name}"))
        self._stack.append(found)

    def _build(self, target: object, state: object) -> None:
        if not isinstance(state, tuple):
            raise UnsafePickleError(f"a state that is a {type(state).__name__}")
        if isinstance(target, _Type):
            target.order = _order(state)
        elif isinstance(target, _Array):
            target.value = _array(state)
        else:
            raise UnsafePickleError(f"a state of a {type(target).__name__}")
        self._stack.append(target)


_ONLY = "; only numbers and numpy arrays of them are read, and nothing was run"
_LITERALS = (
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "BYTEARRAY8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
)  # fmt: skip


def _call(name: object, arguments: object) -> Any:
    """What a call of one of the known names gives, without the call."""
    if not isinstance(name, _Name) or not isinstance(arguments, tuple):
        raise UnsafePickleError(f"a call of a {type(name).__name__}")
    match name, arguments:
        case _Name.RECONSTRUCT, (_Name.NDARRAY, tuple(), _):
            return _Array()  # whatever size it claims; the size of its content counts
        case _Name.DTYPE, (str(code), *_):
            return _Type(code)
        case _Name.ENCODE, (str(text), str("latin1" | "latin-1")):
            return _latin1(text)
        case _Name.BYTES, ():
            return b""
        case _Name.SCALAR, (_Type() as kind, raw):
            return _from_bytes(_raw(raw), kind.numbers(), ()).item()
        case _Name.FROM_BUFFER, (raw, _Type() as kind, tuple(shape), str(order), *rest) if rest in (
            [],
            [None],
        ):
            return _Array(_from_bytes(_raw(raw), kind.numbers(), shape, order))
    raise UnsafePickleError(f"{name.value} with arguments that numpy does not write")


def _order(state: tuple[Any, ...]) -> Literal["<", ">", "="]:
    """Byte order in the state of a type; anything more than that is refused."""
    match state:
        case (3, str("<" | ">" | "|" | "=") as order, None, None, None, int(), int(), int()):
            return "<" if order == "<" else ">" if order == ">" else "="
    raise UnsafePickleError("a numpy type with fields, a shape or metadata")


def _array(state: tuple[Any, ...]) -> NDArray[Any]:
    """Array of the state ``(version, shape, type, is_fortran, content)``."""
    match state:
        case (1, tuple(shape), _Type() as kind, bool() | 0 | 1 as is_fortran, content):
            order = "F" if is_fortran else "C"
            if not kind.is_object:
                return _from_bytes(_raw(content), kind.numbers(), shape, order)
            if isinstance(content, list):
                return _of_objects([_value(item) for item in content], shape, order)
    raise UnsafePickleError("an array whose state numpy does not write")


def _value(item: object) -> Value:
    """Refuse what is neither number nor finished array."""
    if isinstance(item, _Array):
        if item.value is None:
            raise UnsafePickleError("an array without content, or one inside itself")
        return item.value
    if isinstance(item, bool | int | float):
        return item
    raise UnsafePickleError(f"a {type(item).__name__}, which is neither number nor array")


def _of_objects(items: list[Value], shape: Sequence[object], order: str) -> NDArray[Any]:
    sizes = _sizes(shape, len(items))
    flat = np.empty(len(items), object)
    for i, item in enumerate(items):
        flat[i] = item
    return flat.reshape(sizes, order="F" if order == "F" else "C")


def _from_bytes(
    raw: bytes, kind: np.dtype[Any], shape: Sequence[object], order: str = "C"
) -> NDArray[Any]:
    n_values, rest = divmod(len(raw), kind.itemsize)
    if rest:
        raise DamagedPickleError(f"{len(raw)} bytes are no whole number of {kind}")
    sizes = _sizes(shape, n_values)
    return np.frombuffer(raw, kind).reshape(sizes, order="F" if order == "F" else "C")


def _sizes(shape: Sequence[object], n_values: int) -> tuple[int, ...]:
    """A shape that holds as many values as there are."""
    largest = max(n_values, _MAX_EMPTY)  # axes beside an empty one
    sizes = tuple(n for n in shape if isinstance(n, int) and 0 <= n <= largest)
    if len(sizes) != len(shape) or len(shape) > _MAX_AXES or math.prod(sizes) != n_values:
        claim = _printable(" x ".join(map(str, shape)))
        raise DamagedPickleError(f"an array claims {claim} values and has {n_values}")
    return sizes


def _raw(content: object) -> bytes:
    """Bytes of an array; Python 2 wrote them as text."""
    if isinstance(content, str):
        return _latin1(content)
    if isinstance(content, bytes | bytearray):
        return bytes(content)
    raise UnsafePickleError(f"an array made of a {type(content).__name__}")


def _latin1(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise DamagedPickleError("text where bytes should be") from error


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:80])
