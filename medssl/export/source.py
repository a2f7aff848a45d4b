"""What estimator.py says of itself, read as text: its CONFIG, its imports, and whether medssl wrote all of it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, TypedDict

from medssl.documents.json_file import read_bytes
from medssl.documents.shape import checked
from medssl.export.template import estimator_source

LARGEST_BYTES = 4 << 20
_REMEDY = "write the submission again with `medssl openbhb export`"
_NO_LITERAL = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError)


class _Columns(TypedDict):
    places: list[int]


class Config(TypedDict):
    """What is read of CONFIG; it holds more."""

    modality: str
    row: int
    start: int
    stop: int
    stored: list[int]
    head: dict[str, Any] | None
    columns: _Columns | None


def read_source(path: Path) -> str:
    """The text of estimator.py, with what is no UTF-8 replaced; UserError where it cannot be read or is huge."""
    return read_bytes(path, _REMEDY, LARGEST_BYTES).decode("utf-8", "replace")


def config_of(text: str, path: Path) -> Config | None:
    """The plain values of CONFIG, read without running anything; None where there is no such assignment.

    Errors: UserError naming a key that is missing or of another type.
    """
    content = _literal(text)
    return None if content is None else checked(content, Config, f"{path}: CONFIG", _REMEDY)


def is_written_by_medssl(text: str) -> bool:
    """Whether the whole text, letter for letter, is what this medssl writes for the CONFIG that stands in it.

    Such a text holds no code but medssl's own: CONFIG is taken as plain values, and all else is generated anew and
    compared.
    """
    content = _literal(text)
    try:
        return content is not None and estimator_source(content) == text
    except (LookupError, *_NO_LITERAL):
        return False


def imported(text: str) -> list[str]:
    """Packages that the text imports, sorted; [] where it is no Python."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except _NO_LITERAL:
        return []
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return sorted({name.split(".")[0] for name in names})


def _literal(text: str) -> dict[str, Any] | None:
    try:
        for node in ast.parse(text).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CONFIG":
                return dict(ast.literal_eval(node.value))
    except _NO_LITERAL:
        pass
    return None
