"""A table of features as one file: who was scanned where, then one column per feature.

CSV and TSV are for people, npz is for speed, parquet where pyarrow is installed. Where the numbers come from
(encoder, manifest, recipe) stands beside a text table in ``<file>.json`` together with the digest of the table,
so that a table that was edited afterwards is refused and not scored under a wrong name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

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


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features of N scans beside what is known of the scans.

    meta: DataFrame with RangeIndex and the columns of ``META`` (text with "" where missing; age in years as
    float with NaN where missing), "subject" where it was given, then any others. values: (N, F) float32.
    provenance: JSON values that name the encoder, the manifest and the recipe. notes: what of the meta data was read
    otherwise than it was given, or as missing, and how often. Raises UserError where the two parts do not fit.
    """

    meta: pd.DataFrame
    values: np.ndarray
    provenance: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        values = np.ascontiguousarray(self.values, dtype=np.float32)
        if values.ndim != 2 or values.shape[1] == 0:
            raise UserError(f"features have shape {values.shape}; a table needs (scans, features), at least 1 feature")
        if len(self.meta) != len(values):
            raise UserError(
                f"{len(self.meta)} rows of meta data but {len(values)} rows of features; "
                "row i of both must be the same scan"
            )
        said: list[str] = []
        object.__setattr__(self, "meta", tidy(self.meta, notes=said))
        object.__setattr__(self, "notes", tuple(dict.fromkeys([*self.notes, *said])))
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "provenance", dict(self.provenance))

    def __len__(self) -> int:
        """Number of scans N."""
        return len(self.values)

    @property
    def names(self) -> list[str]:
        """Column names of the features, f0000 and on."""
        return [f"f{i:04d}" for i in range(self.values.shape[1])]

    def frame(self) -> pd.DataFrame:
        """Meta columns, then the features, as one DataFrame."""
        taken = sorted(set(self.meta.columns) & set(self.names))
        if taken:
            raise UserError(f"the meta data have a column {taken[0]}, the name of a feature; rename or drop it")
        return pd.concat([self.meta, pd.DataFrame(self.values, columns=self.names)], axis=1)

    def subset(self, rows: ArrayLike) -> FeatureTable:
        """The rows with these numbers (or this mask), in this order, with the same provenance."""
        chosen = np.arange(len(self))[np.asarray(rows)]
        part = FeatureTable(self.meta.iloc[chosen], self.values[chosen], self.provenance)
        object.__setattr__(part, "meta", self.meta.iloc[chosen].reset_index(drop=True))  # few rows are not judged anew
        object.__setattr__(part, "notes", self.notes)
        return part

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        provenance: Mapping[str, Any] | None = None,
        *,
        prefix: str | None = None,
        source: str = "the table",
    ) -> FeatureTable:
        """Split a DataFrame into meta data and features; ``feature_columns`` says which is which.

        source: what notes and errors call the table.
        """
        frame = frame.set_axis(known_names([str(c) for c in frame.columns]), axis=1)
        chosen = feature_columns(list(frame.columns), prefix=prefix, source=source)
        try:
            values = frame[chosen].to_numpy(dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise UserError(f"a feature is not a number ({error}); features must be numeric columns") from error
        notes: list[str] = []
        meta = tidy(frame.drop(columns=chosen), source, notes)
        return cls(meta, values, dict(provenance or {}), tuple(notes))

    def write(self, path: Path | str) -> Path:
        """Write .csv, .tsv, .npz or .parquet by the suffix, atomically; returns the path.

        Float32 features survive exactly (nine significant digits in text). Text tables and parquet get their
        provenance in ``<path>.json``; npz carries it inside.
        """
        from medssl.features.files import write_table

        return write_table(self, Path(path))

    @classmethod
    def read(cls, path: Path | str, *, prefix: str | None = None) -> FeatureTable:
        """Read a table written here, or any CSV, TSV or parquet with numbered feature columns.

        prefix: features are the columns that begin with it (default: f<digits>, or else e<digits>). Ids stay
        text. StaleError where ``<path>.json`` records another file; without that file provenance is {}.
        """
        from medssl.features.files import read_table

        return read_table(Path(path), prefix)


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
