"""Which columns of a table say who was scanned where, and which are features; how the former are read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from medssl.errors import UserError
from medssl.tables.ages import read_ages
from medssl.tables.missing import WORDS_ONLY, codes_among, said_missing, without_missing
from medssl.tables.missing import cell_text as text
from medssl.tables.people import GROUP

META = ("participant_id", "session", "age", "sex", "site", "dataset", "split", "diagnosis")
FOLDS = ("fold0", "fold1", "fold2")
"""Optional columns of the official cross-validation: train, internal_test, external_test or empty."""
SUFFIXES = (".csv", ".tsv", ".npz", ".parquet")
ID_LIKE = ("id", "subject", "session", "run")
"""Ends of names of columns whose numbers are names."""
_PATTERNS = (re.compile(r"f\d+"), re.compile(r"e\d+"))
_SEX = {"m": "M", "male": "M", "f": "F", "female": "F"}


class Parts(NamedTuple):
    """What a table is made of; see :class:`medssl.features.table.FeatureTable`."""

    meta: pd.DataFrame
    values: np.ndarray
    provenance: dict[str, Any]
    notes: tuple[str, ...]


def split_frame(frame: pd.DataFrame, provenance: Mapping[str, Any] | None, prefix: str | None, source: str) -> Parts:
    """Meta data and features of a DataFrame; ``feature_columns`` says which is which.

    source: what notes and errors call the table. Errors: UserError where a feature is not a number.
    """
    frame = frame.set_axis(known_names([str(c) for c in frame.columns]), axis=1)
    chosen = feature_columns(list(frame.columns), prefix=prefix, source=source)
    try:
        values = frame[chosen].to_numpy(dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"a feature is not a number ({error}); features must be numeric columns") from error
    notes: list[str] = []
    meta = tidy(frame.drop(columns=chosen), source, notes)
    return Parts(meta, values, dict(provenance or {}), tuple(notes))


def named_values(values: np.ndarray) -> list[str]:
    """Column names of features (N, F): f0000 and on."""
    return [f"f{i:04d}" for i in range(values.shape[1])]


def feature_columns(columns: list[str], *, prefix: str | None = None, source: str = "the table") -> list[str]:
    """Names that are features, in the order of the table; UserError where there is none.

    With a prefix: every column that begins with it, known meta columns excepted. Without: f<digits>, or, where
    there is no such column, e<digits>; UserError where a table has both, unless the first are f0000, f0001 and
    on without a gap, as they are written here.

    >>> feature_columns(["site", "e1", "e0"])
    ['e1', 'e0']
    """
    known = {*META, "subject", "unlike", *FOLDS, *(name for name in columns if name.lower() == GROUP)}
    if prefix is not None:
        chosen = [name for name in columns if name.startswith(prefix) and name not in known]
    else:
        by_pattern = [[name for name in columns if p.fullmatch(name)] for p in _PATTERNS]
        chosen = next((names for names in by_pattern if names), [])
        first, second = by_pattern
        if first and second and sorted(first) != [f"f{i:04d}" for i in range(len(first))]:
            raise UserError(
                f"{source} has two groups of feature columns, {_group(first)} and {_group(second)}; "
                f'rename or drop one of them, or read it with FeatureTable.read(path, prefix="{second[0][0]}")'
            )
    if not chosen:
        rule = f"a name that begins with {prefix!r}" if prefix is not None else "a name like f0000 (or e000)"
        shown = ", ".join(columns[:8]) + (", ..." if len(columns) > 8 else "")
        raise UserError(
            f"{source} has no feature column: none of ({shown}) has {rule}; "
            "rename the feature columns or give their prefix"
        )
    return chosen


def known_names(columns: list[str]) -> list[str]:
    """Names with those of ``META`` in lower case (Age is age), unless the table has that name too.

    >>> known_names(["Site", "AGE", "age", "Note"])
    ['site', 'AGE', 'age', 'Note']
    """
    lower = [name.lower() for name in columns]
    known = {name for name in (*META, "subject", *FOLDS) if lower.count(name) == 1}
    return [low if low in known else name for name, low in zip(columns, lower, strict=True)]


def _group(names: list[str]) -> str:
    """The columns of a group in few words: "e000 to e127 (128 columns)"."""
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]} ({len(names)} columns)"


def tidy(meta: pd.DataFrame, source: str = "the table", notes: list[str] | None = None) -> pd.DataFrame:
    """Meta data with the columns of ``META`` first, ids as text, age in years, missing values and codes emptied.

    notes: takes what was read otherwise or emptied (see ``medssl.tables``). source: what notes call the table.
    """
    meta = meta.reset_index(drop=True)
    meta = meta.set_axis([str(c) for c in meta.columns], axis=1)
    order = [*META, *(["subject"] if "subject" in meta.columns else [])]
    columns: dict[str, Any] = {}
    counts: dict[str, Counter[str]] = {}
    said: list[str] = []
    for name in order:
        if name == "age" and name in meta.columns:
            groups = meta["dataset"].tolist() if "dataset" in meta.columns else None
            read = read_ages(meta["age"].tolist(), source, groups=groups)
            columns[name], said = read.years, list(read.notes)
        elif name == "age":
            columns[name] = np.full(len(meta), np.nan)
        elif name in meta.columns:
            cells, counts[name] = without_missing(_texts(meta[name]), name)
            columns[name] = [_SEX.get(c.lower(), c) for c in cells] if name == "sex" else cells
        else:
            columns[name] = [""] * len(meta)
    for name in meta.columns:
        if name not in order:
            columns[name], counts[name] = _without_codes(name, meta[name])
    if notes is not None:
        notes += [*said_missing(source, counts), *said]
    tidied = pd.DataFrame(columns, index=pd.RangeIndex(len(meta)))
    return tidied.astype({name: object for name in order if name != "age"})


def _texts(column: pd.Series) -> list[str]:
    """Cells as text; words for "missing" stay, so that they can be counted."""
    return [v.strip() if isinstance(v, str) else text(v) for v in column.tolist()]


def _without_codes(name: str, column: pd.Series) -> tuple[pd.Series, Counter[str]]:
    """A further column with missing values emptied, and how often each code was; ids and numbers of rows stay."""
    if name in ("row", "weight", "manifest") or name.lower().endswith(ID_LIKE) or column.dtype == bool:
        return column, Counter()
    known = GROUP if name.lower() == GROUP else name
    if pd.api.types.is_numeric_dtype(column):
        if known in WORDS_ONLY or name.startswith("image_"):
            return column, Counter()
        gone = column.isin(codes_among(column.dropna().tolist()))
        counts = Counter(f"{code:g}" for code in column[gone].tolist())
        return (column.where(~gone) if gone.any() else column), counts
    given = column.tolist()
    if not all(isinstance(cell, str) for cell in given):
        return column, Counter()
    cells, counts = without_missing(given, known)
    return pd.Series(cells if cells != given else given, index=column.index, dtype=object), counts
