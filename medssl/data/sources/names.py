"""Names that a scan fills in itself (folders, data sets, sites), so that every reader of the manifest keeps them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from medssl.data.sources.tables import listed
from medssl.tables.missing import CODES, is_missing, without_missing

FILLED = ("dataset", "site", "session")
"""Columns that are written so that they can be read back; ids have a way of their own (sub-NA)."""


def readable(name: str, column: str) -> str:
    """A name as a column of a manifest can hold it: COLUMN-NAME where it is a word or a code for "missing".

    >>> readable("NA", "site"), readable("-9", "dataset"), readable("oslo", "site")
    ('site-NA', 'dataset--9', 'oslo')
    """
    return f"{column}-{name}" if name.strip() and (is_missing(name) or _is_code(name)) else name


def filled(names: Sequence[str], column: str, notes: list[str]) -> list[str]:
    """Names as ``readable`` writes them; said."""
    out = [readable(name, column) for name in names]
    _say(names, out, column, notes)
    return out


def keep_readable(table: pd.DataFrame, notes: list[str]) -> None:
    """Write, in place, what is in a table and would be read as missing there as COLUMN-NAME; said."""
    for column in FILLED:
        if column in table:
            cells = [str(cell) for cell in table[column]]
            kept, _ = without_missing(cells, column)
            out = [
                f"{column}-{cell}" if cell.strip() and not there else cell
                for cell, there in zip(cells, kept, strict=True)
            ]
            if out != cells:
                table[column] = pd.Series(out, index=table.index, dtype=object)
                _say(cells, out, column, notes)


def _is_code(name: str) -> bool:
    try:
        return float(name) in CODES
    except ValueError:
        return False


def _say(names: Sequence[str], written: Sequence[str], column: str, notes: list[str]) -> None:
    changed = {new: old for new, old in zip(written, names, strict=True) if new != old}
    if changed:
        pairs = listed([f"{old} as {new}" for new, old in changed.items()])
        notes.append(f"a name of a {column} that reads as missing is written so that it stays: {pairs}")
