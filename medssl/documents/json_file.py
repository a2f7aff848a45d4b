"""Reads JSON that medssl wrote, or that came with scans: whole, in one form, and within limits."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from medssl.documents.shape import checked, unfit
from medssl.errors import UserError

LARGEST_BYTES = 32 << 20
"""Size of a JSON file that is read; the largest that medssl writes is below 1 MB."""
LARGEST_LOG = 1 << 30
"""Size of a file of JSON lines that is read."""
LARGEST_INTEGER = 2**64
"""Whole numbers below it (and above its negative) are read."""

T = TypeVar("T")


class _Refused(ValueError):
    """A rule of ours that a document breaks; the message ends a sentence."""


def read_json(path: Path, shape: type[T], remedy: str, *, nan: bool = False) -> T:
    """The content of a JSON file, checked against ``shape`` (see :func:`medssl.documents.shape.checked`).

    nan: whether NaN and Infinity may stand there. Errors: UserError in one sentence that names the file, the key where
    it is about one, and ends in ``remedy``.
    """
    return checked(parse_json(read_bytes(path, remedy), str(path), remedy, nan=nan), shape, str(path), remedy)


def read_json_lines(path: Path, shape: type[T], remedy: str, *, nan: bool = False) -> list[T]:
    """One JSON value per line, each checked against ``shape``.

    Blank lines are skipped, and so is a last line without a line end, which a killed process left unfinished.
    Errors: UserError that names the file and the line, and ends in ``remedy``.
    """
    content = read_bytes(path, remedy, LARGEST_LOG)
    rows = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        if line.strip():
            where = f"{path} line {number}"
            rows.append(checked(parse_json(line, where, remedy, nan=nan, lines=False), shape, where, remedy))
    return rows


def sound_json(path: Path) -> Any:
    """Plain values of a JSON file that came with scans; None where there is no file, or none that can be read."""
    try:
        return parse_json(read_bytes(path, ""), "", "", nan=True, repeated_keys=True)
    except UserError:
        return None


def read_bytes(path: Path, remedy: str, limit: int = LARGEST_BYTES) -> bytes:
    """The bytes of a file of ordinary size; UserError in one sentence where there is no such file."""
    content = first_bytes(path, limit + 1, remedy)
    if len(content) > limit:
        raise UserError(f"{path} is larger than {limit >> 20} MiB, so it is none that medssl wrote; {remedy}")
    return content


def first_bytes(path: Path, most: int, remedy: str, error: type[UserError] = UserError) -> bytes:
    """The first ``most`` bytes of a file; ``error`` in one sentence where there is no such file."""
    try:
        if path.exists() and not path.is_file():
            raise error(f"{path} is no file; {remedy}")
        with path.open("rb") as file:
            return file.read(most)
    except FileNotFoundError:
        raise error(f"{path} does not exist; {remedy}") from None
    except OSError as problem:
        raise error(f"{path} cannot be read ({(problem.strerror or str(problem)).lower()}); {remedy}") from None


def parse_json(
    content: bytes | str,
    where: str,
    remedy: str,
    *,
    nan: bool = False,
    repeated_keys: bool = False,
    lines: bool = True,
) -> Any:
    """Plain values of a JSON text; UserError where it is none, ends early or breaks a limit.

    where: starts the sentence. nan: NaN and Infinity may stand there. repeated_keys: of a key that stands twice in an
    object the last counts; otherwise that is refused. lines: name the line of a mistake. Limits: levels, size of whole
    numbers, text without NUL.
    """
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content.removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise UserError(f"{where} is damaged (no UTF-8 text); {remedy}") from None
    try:
        value = json.loads(
            text,
            object_pairs_hook=None if repeated_keys else _object,
            parse_constant=None if nan else _no_constant,
            parse_float=None if nan else _finite,
            parse_int=_whole,
        )
    except json.JSONDecodeError as problem:
        line = f"line {problem.lineno} is " if lines else ""
        raise UserError(f"{where} is damaged ({line}no valid JSON: {problem.msg}); {remedy}") from None
    except _Refused as problem:
        raise UserError(f"{where} {problem}; {remedy}") from None
    except RecursionError:
        raise UserError(f"{where} has far too many levels of lists and objects; {remedy}") from None
    if reason := unfit(value):
        raise UserError(f"{where} {reason}; {remedy}")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise _Refused(f"has the key '{twice:.60}' twice in one object")
    return value


def _no_constant(name: str) -> NoReturn:
    raise _Refused(f"holds {name}, which is no number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _Refused(f"holds the number {digits:.20}, which is too large")
    return value


def _whole(digits: str) -> int:
    if len(digits) > 21 or abs(int(digits)) >= LARGEST_INTEGER:
        raise _Refused(f"holds a whole number of {len(digits.lstrip('-'))} digits, which is too large")
    return int(digits)
