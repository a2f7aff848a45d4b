"""Options that name something in the tables: refused, with the nearest name, where no table has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from medssl.checks import near
from medssl.data.sources.tables import Keep, listed, raw_table
from medssl.data.sources.visits import NONE, Named
from medssl.errors import ManifestError
from medssl.tables.ages import age_column
from medssl.tables.people import id_and_session, session_key

_NO_NAMES = ("participant_id", "subject_id", "session", "session_id", "age", "sex", "image", "mask", "weight", "split")
_VISITS = ("session", "session_id", "visit")
_IDS = ("participant_id", "subject_id")


def refuse_keep(keep: Keep, columns: Mapping[str, str]) -> None:
    """Refuse --keep for columns that hold no names. Errors: ManifestError."""
    own = {theirs.lower(): name for name, theirs in columns.items()}
    for column, word in keep:
        lower = own.get(column.lower(), column.lower())
        if lower in _NO_NAMES or age_column(column) is not None:
            raise ManifestError(
                f"--keep {column}={word}: {column} holds no names; --keep is for site, dataset, diagnosis and other "
                "columns of words, so leave it out"
            )


def refuse_options(
    tables: Mapping[Path, Path | None], keep: Keep, sessions: Named, columns: Mapping[str, str], read: bool = True
) -> None:
    """Refuse a column of --keep and a session of --session that occur in no table.

    tables: folder -> its participants table, if any. read: whether these are read at all. Errors: ManifestError.
    """
    asked = [(a, b) for a, b in sessions if a.lower() != NONE]
    if not asked and not (keep and len(tables) > 1):
        return
    found = [raw_table(table) for table in dict.fromkeys(tables.values()) if table is not None and read]
    if len(tables) > 1:
        _refuse_columns(found, keep, columns)
    if asked:
        _refuse_sessions(tables, found, asked, columns)


def _refuse_columns(found: Sequence[pd.DataFrame], keep: Keep, columns: Mapping[str, str]) -> None:
    names = list(dict.fromkeys(str(name) for table in found for name in table.columns))
    for column, word in keep:
        theirs = columns.get(column, column)
        if theirs.lower() not in {name.lower() for name in names}:
            what = f"no participants table has a column '{theirs}'" if names else "no folder has a participants table"
            raise ManifestError(f"--keep {column}={word}: {what}{_near(theirs, names)}; correct it or leave it out")


def _refuse_sessions(
    tables: Mapping[Path, Path | None], found: Sequence[pd.DataFrame], asked: Named, columns: Mapping[str, str]
) -> None:
    visits = [cell for table in found for cell in _visits_of(table, columns)]
    keys = {session_key(cell) for cell in visits}
    if all(session_key(a) in keys for a, _ in asked):
        return
    for path in sorted({path for folder in tables for path in folder.glob("**/*_sessions.tsv") if path.is_file()}):
        visits += _visits_of(raw_table(path), {})
    keys = {session_key(cell) for cell in visits}
    for theirs, ours in asked:
        if session_key(theirs) not in keys:
            shown = list(dict.fromkeys(visits))
            there = f" (they are {listed(shown, 6)})" if shown else ""
            raise ManifestError(
                f"--session {theirs}={ours}: no table has a session '{theirs}'{_near(theirs, shown)}{there}; the "
                "table's spelling stands before the =, the folder's behind it"
            )


def _visits_of(table: pd.DataFrame, columns: Mapping[str, str]) -> list[str]:
    """Every session that a table names, in a column of sessions or in its ids."""
    theirs = columns.get("session", "")
    names = [str(name) for name in table.columns]
    visits = [cell for name in names if name == theirs or name.lower() in _VISITS for cell in table[name]]
    ids = [name for name in names if name.lower() in _IDS or name == columns.get("participant_id")]
    visits += [visit for name in ids for cell in table[name] if (visit := id_and_session(cell)[1])]
    return [str(visit).strip() for visit in visits if str(visit).strip()]


def _near(word: str, names: Iterable[str]) -> str:
    """ " (did you mean 'X'?)" where a name is near."""
    close = near(word, names)
    return f" (did you mean '{close}'?)" if close else ""
