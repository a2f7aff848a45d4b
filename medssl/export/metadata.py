"""Reads metadata.pkl of a submission without unpickling: plain values are rebuilt, and nothing in it is ever called."""

from __future__ import annotations

import io
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from medssl.documents.json_file import LARGEST_INTEGER, read_bytes
from medssl.documents.shape import DEEPEST, checked, unfit
from medssl.errors import UserError

LARGEST_BYTES = 8 << 20
MOST_VALUES = 200_000
"""Values of a metadata.pkl; the one of the widest table of the challenge has about 5,000."""
TABLE_NAMES = frozenset(
    {"builtins.slice", "builtins.bytes", "builtins.bytearray", "builtins.object", "copyreg._reconstructor"}
)
"""Further names that a pickled table of pandas asks for, beside those of pandas, numpy and pyarrow."""

_REMEDY = "write the submission again with `medssl openbhb export`"
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_KEEP = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_FETCH = ("GET", "BINGET", "LONG_BINGET")


class Metadata(TypedDict, total=False):
    """What medssl writes there, as far as it is read again."""

    made_by: str
    licence: str
    hashes: dict[str, str]
    configuration: dict[str, Any]


@dataclass(frozen=True)
class Opaque:
    """Stands for an object of a library, which is not made."""

    name: str


class _Mark:
    """Where a group of values on the stack begins."""


def read_metadata(path: Path) -> Metadata | Opaque:
    """The plain values of a metadata.pkl; ``Opaque`` where it is a table of pandas, which is left as it is.

    Dictionaries, lists, tuples, text, numbers, true, false and null are rebuilt. Errors: UserError in one sentence for
    anything else that the file asks for (by its name), a file that is damaged, cut off, too large, too deep or
    contains itself, or whose keys are not what medssl writes.
    """
    content = read_bytes(path, _REMEDY, LARGEST_BYTES)
    try:
        value = _rebuilt(content, path)
    except UserError:
        raise
    except Exception:  # the bytes are anybody's, so whatever cannot be done with them means the same
        raise UserError(f"{path} is damaged or cut off, or no pickle of plain values; {_REMEDY}") from None
    if isinstance(value, Opaque):
        return value
    return checked(_plain(value, path), Metadata, str(path), _REMEDY)


def _rebuilt(content: bytes, path: Path) -> Any:
    """Do what the instructions of a pickle say, as far as they put plain values together."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for code, argument in _instructions(content):
        if code == "STOP":
            (value,) = stack
            return value
        if code in ("PROTO", "FRAME"):
            continue
        if code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code in _VALUES:
            stack.append(argument)
        elif code in _EMPTY:
            stack.append(_EMPTY[code]())
        elif code == "MARK":
            stack.append(_Mark)
        elif code in _KEEP:
            memo[len(memo) if argument is None else int(argument)] = stack[-1]
        elif code in _FETCH:
            stack.append(memo[int(argument)])
        elif code in ("POP", "POP_MARK", "DUP"):
            _move(code, stack)
        elif code in _TUPLES or code in ("TUPLE", "LIST", "DICT"):
            _group(code, stack)
        elif code in ("APPEND", "APPENDS", "SETITEM", "SETITEMS"):
            _fill(code, stack)
        else:
            _library_object(code, argument, stack, path)
    raise ValueError("it has no end")


def _instructions(content: bytes) -> Iterator[tuple[str, Any]]:
    for number, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(content))):
        if number > 4 * MOST_VALUES:
            raise ValueError("it has too many instructions")
        yield opcode.name, argument


def _move(code: str, stack: list[Any]) -> None:
    if code == "DUP":
        stack.append(stack[-1])
    elif code == "POP":
        stack.pop()
    else:
        _since_mark(stack)


def _group(code: str, stack: list[Any]) -> None:
    """Replace the topmost values by a tuple, list or dictionary of them."""
    if code in _TUPLES:
        size = _TUPLES[code]
        if len(stack) < size:
            raise ValueError("values are missing")
        stack[-size:] = [tuple(stack[-size:])]
        return
    values = _since_mark(stack)
    stack.append(tuple(values) if code == "TUPLE" else values if code == "LIST" else _pairs(values))


def _fill(code: str, stack: list[Any]) -> None:
    """Put the topmost values into the list or dictionary below them."""
    values = _since_mark(stack) if code.endswith("S") else [stack.pop() for _ in range(2 if code == "SETITEM" else 1)]
    if code == "SETITEM":
        values.reverse()
    target = stack[-1]
    if isinstance(target, Opaque):
        return
    if code.startswith("APPEND") and isinstance(target, list):
        target.extend(values)
    elif code.startswith("SETITEM") and isinstance(target, dict):
        target.update(_pairs(values))
    else:
        raise ValueError("values are put into what holds none")


def _pairs(values: list[Any]) -> dict[Any, Any]:
    if len(values) % 2:
        raise ValueError("a dictionary has a key without a value")
    return dict(zip(values[::2], values[1::2], strict=True))


def _since_mark(stack: list[Any]) -> list[Any]:
    """Take what lies above the last mark, and the mark."""
    values: list[Any] = []
    while (value := stack.pop()) is not _Mark:
        values.append(value)
    return values[::-1]


def _library_object(code: str, argument: Any, stack: list[Any], path: Path) -> None:
    """An object of a library: named, never made. Objects of pandas stand for themselves, all others are refused."""
    if code in ("GLOBAL", "STACK_GLOBAL", "INST"):
        if code == "STACK_GLOBAL":
            name, module = stack.pop(), stack.pop()
        else:
            module, name = str(argument).split(" ", 1)
        if code == "INST":
            _since_mark(stack)
        full = f"{module}.{name}"
        if full not in TABLE_NAMES and str(module).split(".")[0] not in ("pandas", "numpy", "pyarrow"):
            raise UserError(
                f"{path} asks for {full[:80]!r}, which is code and no plain value, so it is not read; {_REMEDY}"
            )
        stack.append(Opaque(full))
    elif code in ("REDUCE", "NEWOBJ", "BUILD", "OBJ", "NEWOBJ_EX"):
        values = _since_mark(stack) if code == "OBJ" else [stack.pop() for _ in range(2 if code == "NEWOBJ_EX" else 1)]
        called = values[0] if code == "OBJ" else stack.pop()
        if not isinstance(called, Opaque):
            raise ValueError("it calls what is no class")
        stack.append(called)
    else:
        raise UserError(f"{path} uses the instruction {code}, which plain values do not need; {_REMEDY}")


def _plain(value: Any, path: Path) -> Any:
    """A copy without sharing: a value that two places refer to is counted twice, so that it cannot multiply."""
    counted = 0

    def copied(part: Any, level: int) -> Any:
        nonlocal counted
        counted += 1
        if counted > MOST_VALUES:
            raise UserError(f"{path} stands for more than {MOST_VALUES} values; {_REMEDY}")
        if level > DEEPEST:
            raise UserError(f"{path} has more than {DEEPEST} levels, or contains itself; {_REMEDY}")
        if isinstance(part, dict):
            if wrong := [key for key in part if not isinstance(key, str) or unfit(key)]:
                raise UserError(f"{path} has the key {wrong[0]!r:.60}, which is no text; {_REMEDY}")
            return {key: copied(inner, level + 1) for key, inner in part.items()}
        if isinstance(part, list | tuple):
            copy = [copied(inner, level + 1) for inner in part]
            return copy if isinstance(part, list) else tuple(copy)
        if isinstance(part, Opaque):
            raise UserError(f"{path} asks for {part.name[:80]!r} inside plain values; {_REMEDY}")
        if part is not None and not isinstance(part, str | int | float):
            raise UserError(f"{path} holds {type(part).__name__}, which is no plain value; {_REMEDY}")
        if isinstance(part, int) and abs(part) >= LARGEST_INTEGER:
            raise UserError(f"{path} holds a whole number of more than 64 bits; {_REMEDY}")
        if isinstance(part, str) and (fault := unfit(part)):
            raise UserError(f"{path} {fault}; {_REMEDY}")
        return part

    return copied(value, 1)
