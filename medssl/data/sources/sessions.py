"""sub-XX/sub-XX_sessions.tsv of a BIDS folder: values by visit, over those of the participants table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from medssl.data.sources.merge import _FOR_LIFE, rows_joined
from medssl.data.sources.persons import tidy
from medssl.data.sources.sidecar import Sidecar, read_sidecar
from medssl.data.sources.tables import Keep, kept_in, listed, raw_table, without_words
from medssl.data.sources.visits import Named
from medssl.errors import ManifestError, count
from medssl.tables.missing import said_missing, without_missing
from medssl.tables.people import bare
from medssl.tables.pointers import stands_in

_NAMES = ("session_id", "session", "visit")


@dataclass(frozen=True)
class Reading:
    """How tables of people are read; see ``scan_folder``. source: the participants table.

    by_visit: whether that one has rows of its own for every visit. known: names of that one's columns, where
    columns of which the user speaks must be in one of the tables.
    """

    source: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    sex: Mapping[str, str] = field(default_factory=dict)
    keep: Keep = ()
    by_visit: bool = False
    known: Sequence[str] | None = None


@dataclass(frozen=True)
class _Table:
    cells: pd.DataFrame
    sidecar: Sidecar


def merge_sessions(
    out: pd.DataFrame,
    places: Sequence[Path],
    notes: list[str],
    sessions: Named = (),
    reading: Reading | None = None,
) -> pd.DataFrame:
    """Values of sub-XX/sub-XX_sessions.tsv over those of the participants table, where they are given.

    Every table is read by its own JSON file (or the folder's sessions.json), and by that of the participants table
    where these say nothing. What the tables give by visit is not taken from the participants table for other visits.
    Errors: ManifestError for a table whose content has not been fetched, without a column of sessions, or where no
    session of a person meets one in the folder.
    """
    reading = reading or Reading()
    said: list[str] = []
    tables, source = _tables(out, places, said, reading)
    _refuse_unknown(tables, reading)
    if source is None:
        return out
    rows = _tidied(tables, source, said, reading)
    whose = [bare(label, "sub") for label in rows["participant_id"]]
    extra, _ = rows_joined(out[["participant_id", "session"]], rows, whose, said, sessions, source.name)
    changed: list[str] = []
    if not reading.by_visit:
        out = _without_other_visits(out, extra, rows, changed)
    odd = _contradicting(out, rows, changed)
    for name in extra.columns:
        given = (extra[name] != "") & extra[name].notna()
        if name not in out:
            out[name] = float("nan") if name == "age" else ""
        out[name] = extra[name].where(given, out[name])
    if odd:
        out["sex"] = out["sex"].mask(out["participant_id"].isin(odd), "")
    notes += said[:6] + ([f"and {len(said) - 6} more notes on tables of sessions"] if len(said) > 6 else []) + changed
    return out


def has_sessions(root: Path) -> bool:
    """Whether anybody in a folder has a table of sessions."""
    homes = ("", "rawdata/", "derivatives/*/")
    return any(next(root.glob(f"{home}sub-*/sub-*_sessions.tsv"), None) is not None for home in homes)


def _refuse_unknown(tables: Sequence[_Table], reading: Reading) -> None:
    """Refuse a column of which the user speaks and which neither table has. Errors: ManifestError."""
    if reading.known is None:
        return
    known = {str(name) for table in tables for name in table.cells.columns} | set(reading.known)
    folded = {name.lower() for name in known}
    wrong = [("--column", theirs) for theirs in reading.columns.values() if theirs not in known]
    for column, _ in reading.keep:
        theirs = reading.columns.get(column, column)
        wrong += [("--keep", theirs)] if theirs.lower() not in folded else []
    for option, theirs in wrong:
        raise ManifestError(
            f"{reading.source or 'sessions.tsv'}: neither the participants table nor a table of sessions has a column "
            f"'{theirs}', of which {option} speaks; correct the name"
        )


def _tables(
    out: pd.DataFrame, places: Sequence[Path], said: list[str], reading: Reading
) -> tuple[list[_Table], Path | None]:
    """The tables of all people of ``out``, each with what is said of its columns, and what to call them together."""
    general = Sidecar() if reading.source is None else read_sidecar(reading.source, [])
    general = general.also([*([reading.columns["sex"]] if "sex" in reading.columns else []), "sex", "gender"])
    found: list[_Table] = []
    source = None
    for subject in dict.fromkeys(out["participant_id"]):
        for place in dict.fromkeys(places):
            path = place / subject / f"{subject}_sessions.tsv"
            if not os.path.isfile(path) and not stands_in(path):
                continue
            cells = raw_table(path, said)
            wanted = (reading.columns.get("session", _NAMES[0]).lower(), *_NAMES)
            name = next((n for want in wanted for n in cells.columns if n.lower() == want), None)
            if name is None:
                raise ManifestError(f"{path}: has no column session_id; name the session of each row")
            cells = cells.rename(columns={name: "session_id"}).assign(participant_id=str(subject))
            found.append(_Table(cells, read_sidecar(path, said).over(general)))
            source = source or place / "sessions.tsv"
            break
    return found, source


def _tidied(tables: Sequence[_Table], source: Path, said: list[str], reading: Reading) -> pd.DataFrame:
    """All rows with the manifest's names: codes are told from all tables together, units and levels from each its own.

    The codes of a column cannot be told from one person's rows; those that a JSON file names are its own table's.
    """
    groups: dict[str, list[int]] = {}
    for k, table in enumerate(tables):
        groups.setdefault(json.dumps(table.sidecar.entries, sort_keys=True, default=str), []).append(k)
    own = [_without_own(table, source, said) for table in tables]
    whole = pd.concat([cells.assign(_at=str(k)) for k, cells in enumerate(own)], ignore_index=True).fillna("")
    at = whole.pop("_at").astype(int)
    columns = {name: theirs for name, theirs in reading.columns.items() if theirs in whole and name != "session"}
    keep = kept_in(whole, reading.keep, columns)
    whole = without_words(whole.astype(object), source, said, columns, keep)
    parts = []
    for members in groups.values():
        names = {name for k in members for name in own[k].columns}
        rows = whole.loc[at.isin(members), [name for name in whole.columns if name in names]].reset_index(drop=True)
        mine = {name: theirs for name, theirs in columns.items() if theirs in names}
        parts.append(tidy(rows, source, said, mine, reading.sex, tables[members[0]].sidecar, judged=True))
    rows = pd.concat(parts, ignore_index=True)
    for name in rows.columns:
        if name != "age":
            rows[name] = rows[name].fillna("").astype(object)
    said[:] = list(dict.fromkeys(said))
    return rows


def _without_own(table: _Table, source: Path, said: list[str]) -> pd.DataFrame:
    """The cells without the codes that the table's JSON file calls missing."""
    cells, counts = {}, {}
    for name in table.cells.columns:
        codes = set(table.sidecar.missing(name))
        given = table.cells[name].tolist()
        cells[name] = ["" if cell in codes else cell for cell in given]
        counts[name] = without_missing([cell for cell in given if cell in codes], "age", codes)[1]
    said += said_missing(source.name, counts)
    return pd.DataFrame(cells, dtype=object)


def _without_other_visits(out: pd.DataFrame, extra: pd.DataFrame, rows: pd.DataFrame, said: list[str]) -> pd.DataFrame:
    """``out`` without what a person's table of sessions gives by visit, at visits for which it gives nothing."""
    gone: dict[str, list[str]] = {}
    out = out.copy()
    for name in extra.columns:
        if name in _FOR_LIFE or name not in out:
            continue
        filled = rows[(rows[name] != "") & rows[name].notna()]
        lacking = out["participant_id"].isin(set(filled["participant_id"]))
        lacking &= ((extra[name] == "") | extra[name].isna()) & (out[name] != "") & out[name].notna()
        if lacking.any():
            visits = out.loc[lacking, ["participant_id", "session"]]
            gone[name] = [" ".join(filter(None, pair)) for pair in visits.itertuples(index=False)]
            out[name] = out[name].mask(lacking, float("nan") if name == "age" else "")
    visits_ = list(dict.fromkeys(visit for visits in gone.values() for visit in visits))
    if visits_:
        said.append(
            f"{', '.join(gone)} of {count(len(visits_), 'visit')} were not taken from the participants table, since "
            f"the person's table of sessions gives them by visit: {listed(visits_)}"
        )
    return out


def _contradicting(out: pd.DataFrame, rows: pd.DataFrame, said: list[str]) -> list[str]:
    """People whose tables of sessions and participants table name two sexes; said."""
    if "sex" not in out or "sex" not in rows:
        return []
    both = pd.concat([out[["participant_id", "sex"]], rows[["participant_id", "sex"]]])
    many = both[both["sex"] != ""].groupby("participant_id", sort=False)["sex"].unique()
    odd = {str(who): list(sexes) for who, sexes in many.items() if len(sexes) > 1}
    if odd:
        named = [f"{who} {' and '.join(sexes)}" for who, sexes in odd.items()]
        said.append(f"sex differs between the participants table and tables of sessions, left empty: {listed(named)}")
    return list(odd)
