"""Reads text, JSON and tables of a run folder; what is broken is named in one sentence."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.documents.json_file import LARGEST_LOG, read_bytes, read_json, read_json_lines
from medssl.errors import UserError
from medssl.tables.missing import is_missing


def read_text(path: Path) -> str | None:
    """Content of a UTF-8 text file; None where there is none.

    Raises UserError naming the file when it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} is no UTF-8 text; it is damaged, remove it or write it again") from None
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise UserError(f"{path} cannot be read ({reason}); check its permissions, or remove it") from None


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """A JSON object; {} where there is no file.

    Raises UserError naming file and line, ending in ``remedy``.
    """
    return read_json(path, dict[str, Any], remedy, nan=True) if path.is_file() else {}


def read_table(path: Path, text: str | None, needs: tuple[str, ...], numeric: tuple[str, ...]) -> pd.DataFrame | None:
    """A CSV as text columns, some of them turned into numbers (empty is NaN); None where there is no text.

    Raises UserError naming the file for what is no table, lacks a column of ``needs`` or holds a wrong number.
    """
    if text is None:
        return None
    try:
        table = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False, index_col=False).fillna("")
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as problem:
        raise UserError(f"{path} is no readable table ({str(problem).strip()}); remove it or write it again") from None
    absent = [c for c in needs if c not in table.columns]
    if absent:
        raise UserError(f"{path} lacks the column '{absent[0]}'; remove it or write it again")
    for column in numeric:
        if column in table.columns:
            table[column] = numbers(path, table[column])
    return table


def numbers(path: Path, column: pd.Series) -> pd.Series:
    """Text cells as floats, NaN where empty.

    Raises UserError naming file, line and column of the first cell that is no number.
    """
    empty = column.map(is_missing).astype(bool)
    values = pd.to_numeric(column.where(~empty), errors="coerce")
    wrong = np.flatnonzero((values.isna() & ~empty).to_numpy())
    if wrong.size:
        at = int(wrong[0])
        raise UserError(f"{path} line {at + 2}: {column.name} is '{column.iloc[at]:.40}', which is no number; "
                        "correct it or write the file again")  # fmt: skip
    return values.astype(float)


def damaged_logs(folder: Path) -> tuple[str, ...]:
    """One sentence for every log that a report reads and that is empty or ends inside a line.

    Only whole lines are read. A process that was killed leaves at most half a last line; a damaged disk or a broken
    copy leaves the same, or worse.
    """
    notes = []
    tables = [folder / f"{name}.csv" for name in ("probe", "train")]
    read = [folder / "messages.jsonl", *(path if path.is_file() else path.with_suffix(".jsonl") for path in tables)]
    for path in (path for path in read if path.is_file()):
        content = read_bytes(path, "remove it", LARGEST_LOG)
        name = f"{folder.name}/{path.name}"
        if path.suffix == ".csv" and content.count(b"\n") == 1 and content.endswith(b"\n"):
            notes.append(f"The log {name} has a header and no row, so nothing of it is shown.")
        elif not content:
            notes.append(f"The log {name} is empty, so nothing of it is shown.")
        elif not content.endswith(b"\n"):
            line = content.count(b"\n") + 1
            notes.append(f"The log {name} is cut off in line {line}, so that line and what followed are not shown.")
    return tuple(notes)


def _whole_lines(path: Path) -> str | None:
    """Text without a last line that a killed process left unfinished."""
    text = read_text(path)
    return None if text is None else text[: text.rfind("\n") + 1]


def read_log(folder: Path, name: str, needs: tuple[str, ...]) -> pd.DataFrame | None:
    """A training log from CSV, else from JSON lines; of repeated steps (after a resume) the last one counts."""
    table_path, lines_path = folder / f"{name}.csv", folder / f"{name}.jsonl"
    text = _whole_lines(table_path)
    if text:
        table = read_table(table_path, text, needs, ())
        assert table is not None
        table = pd.DataFrame({c: numbers(table_path, table[c]) for c in table.columns})
    elif lines_path.is_file():
        rows = read_lines(lines_path)
        table = pd.DataFrame(rows)
        absent = [c for c in needs if c not in table.columns]
        if rows and absent:
            raise UserError(f"{lines_path} lacks the key '{absent[0]}'; remove it or write it again")
        table = table.apply(pd.to_numeric, errors="coerce") if rows else table
    else:
        return None
    if table.empty:
        return None
    key = needs[0]
    nameless = np.flatnonzero(~np.isfinite(table[key].to_numpy(float)))
    if nameless.size:
        where = f"{table_path} line {nameless[0] + 2}" if text else f"{lines_path} row {nameless[0] + 1}"
        raise UserError(f"{where} has no {key}; remove the line or write the file again")
    table = table.drop_duplicates(key, keep="last").sort_values(key)
    return None if table.empty else table.reset_index(drop=True)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """JSON objects, one per line; UserError naming file and line."""
    return read_json_lines(path, dict[str, Any], "correct or remove the line", nan=True)
