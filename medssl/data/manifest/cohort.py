"""A cohort: the rows of one or several manifests as one table, checked once, so that later rooms need not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd

from medssl.checks import nearest
from medssl.data.manifest.file import SPLITS, read_table, split_name
from medssl.data.volumes.reference import Stamps, parse
from medssl.errors import ManifestError
from medssl.tables.missing import cell_text
from medssl.tables.pointers import stands_in

Images = tuple[Path | str, ...]
Source = str | os.PathLike[str] | Mapping[str, Any]
_LISTED = 5


@dataclass(frozen=True, eq=False)
class Cohort:
    """Scans of people, one row each; the row number is ``Batch.index``.

    table: DataFrame with a RangeIndex. Always present: participant_id, session, image (absolute path), sex ("M", "F"),
    site, dataset, split ("train", "internal_test", "external_test"), diagnosis, subject (groups the scans of one
    person), manifest (path): text, "" when missing; age [years] and weight (sampling weight, 1.0): float, NaN when
    missing; row: line number in its manifest, the header being line 1. Other columns are kept: image_<modality> as
    absolute path, mask as absolute path where the image is a part that needs one (see medssl.data.volumes.reference),
    columns of plain numbers as float with NaN, everything else as text. Text columns have dtype object.
    notes: what was read otherwise than it stands in the file, or as missing, and how often.
    """

    table: pd.DataFrame
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, source: Source | Sequence[Source], require: Iterable[str] = (), *, images: bool = True) -> Cohort:
        """Read one manifest (path) or several (list of paths or of {"path": ..., "weight": ...}), CSV or TSV.

        weight multiplies the column ``weight`` of all its rows. ``subject`` is the manifest's own column where it is
        filled, else dataset/participant_id, else the id (behind the manifest's number where there are several).
        require: columns that must hold at least one value. images: False for tables of features, which need no column
        image. Errors: ManifestError naming file, row and remedy.
        """
        sources = [source] if isinstance(source, (str, os.PathLike, Mapping)) else list(source)
        if not sources:
            raise ManifestError("the list of manifests is empty; give at least one path")
        tables: list[pd.DataFrame] = []
        notes: list[str] = []
        seen: set[str] = set()
        for number, one in enumerate(sources, start=1):
            path, weight = _entry(one)
            if os.path.realpath(path) in seen:
                raise ManifestError(f"{path} is given twice; name every manifest once")
            seen.add(os.path.realpath(path))
            table = read_table(path, images, notes)
            table["weight"] *= weight
            prefix = f"manifest{number}/" if len(sources) > 1 else ""
            dataset = _datasets(table, path, notes)
            named = np.where(dataset != "", dataset + "/", prefix) + table["participant_id"]
            table["subject"] = np.where(table["subject"] != "", table["subject"], named)
            tables.append(table)
        cohort = cls(_joined(tables), tuple(dict.fromkeys(notes)))
        cohort._refuse_duplicates()
        cohort.require(require)
        return cohort

    @property
    def paths(self) -> tuple[Path, ...]:
        """The manifests, in order."""
        return tuple(Path(path) for path in self.table["manifest"].unique())

    @cached_property
    def digest(self) -> str:
        """sha256 hex of the content: every filled column, row by row, with image paths relative to their manifest.

        It stays when a folder is moved as a whole, and changes with any value, row or order of rows.
        """
        digest = hashlib.sha256(f"{len(self.table)} rows".encode())
        folder_of = {path: os.path.dirname(path) + os.sep for path in self.table["manifest"].unique()}
        folders = [folder_of[path] for path in self.table["manifest"].tolist()]
        for name in sorted(self.table.columns):
            if name in ("manifest", "row") or not self.has(name):
                continue
            values = self.table[name].tolist()
            if name.startswith("image") or name == "mask":
                values = [str(v).removeprefix(folder) for v, folder in zip(values, folders, strict=True)]
            digest.update(f"\x1d{name}\x1e".encode() + "\x1f".join(map(str, values)).encode())
        return digest.hexdigest()

    @property
    def has_split(self) -> bool:
        """Whether any row names a split."""
        return self.has("split")

    def has(self, column: str) -> bool:
        """Whether a column exists and holds any value."""
        return column in self.table.columns and bool((~_missing(self.table[column])).any())

    def require(self, columns: Iterable[str]) -> None:
        """Check that every column holds at least one value. Errors: ManifestError with the nearest known column."""
        for name in columns:
            self._known(name)
            if not self.has(name):
                raise ManifestError(
                    f'{self._names()} has no value in column "{name}", which is needed; fill the column, or choose a '
                    "method or label that does not read it"
                )

    def rows(self, split: str | None = None) -> np.ndarray:
        """Row numbers (n,) of a split, all for None; "train" is all rows where no row names a split."""
        if split is None or (split_name(split) == "train" and not self.has_split):
            return np.arange(len(self.table))
        wanted = split_name(split)
        if wanted is None:
            raise ManifestError(f'split "{split}" is unknown; allowed are {", ".join(SPLITS)}')
        return np.flatnonzero((self.table["split"] == wanted).to_numpy())

    def labels(self, column: str) -> np.ndarray:
        """A column as float (scans,), NaN when missing: numbers as they are, text as position in ``levels``."""
        self._known(column)
        values = self.table[column]
        if pd.api.types.is_numeric_dtype(values):
            return values.to_numpy(dtype=float)
        codes = pd.Categorical(values, categories=self.levels(column)).codes.astype(float)
        codes[codes < 0] = np.nan
        return codes

    def levels(self, column: str) -> list[str]:
        """The different values of a text column, sorted; the codes of ``labels`` count along this list."""
        self._known(column)
        values = self.table[column]
        if pd.api.types.is_numeric_dtype(values):
            raise ManifestError(f'column "{column}" holds numbers, which have no levels; choose a text column')
        return sorted(set(values) - {""})

    def where(self, row: int) -> str:
        """What messages call a row: "manifest.csv row 7 (sub-07)", with folders where manifests share a name."""
        file, line, person = (self.table[name].iloc[row] for name in ("manifest", "row", "participant_id"))
        return f"{self._shown[file]} row {line} ({person})"

    @cached_property
    def _shown(self) -> dict[str, str]:
        """Path of a manifest -> the shortest end of it that no other manifest of the cohort shares."""
        parts = {file: Path(file).parts for file in self.table["manifest"].unique()}
        shown = {}
        for file, names in parts.items():
            others = [other for key, other in parts.items() if key != file]
            depth = 1
            while depth < len(names) and any(other[-depth:] == names[-depth:] for other in others):
                depth += 1
            shown[file] = str(Path(*names[-depth:]))
        return shown

    def images(self, row: int, columns: Sequence[str] = ("image",)) -> tuple[Path, ...]:
        """Files of a row, one per column. Errors: ManifestError where a cell is empty or a column unknown."""
        files = []
        for name in columns:
            self._known(name)
            file = self.table[name].iloc[row]
            if not isinstance(file, str) or not file:
                raise ManifestError(
                    f'{self.where(row)}: "{name}" names no file; fill it, drop the row, or read other columns'
                )
            files.append(self._with_mask(row, file))
        return tuple(files)

    def files(self, rows: Sequence[int] | np.ndarray, columns: Sequence[str] = ("image",)) -> list[Images]:
        """``images`` of many rows; plain paths stay text, which costs less."""
        chosen = np.asarray(rows, dtype=int)
        for name in columns:
            self._known(name)
        cells_CR = [self.table[name].to_numpy(dtype=object)[chosen].tolist() for name in columns]
        groups: list[Images] = list(zip(*cells_CR, strict=True))
        odd = {k for cells in cells_CR for k, v in enumerate(cells) if not isinstance(v, str) or not v or "#" in v}
        for k in sorted(odd):
            groups[k] = self.images(int(chosen[k]), columns)
        return groups

    def names(self, rows: Sequence[int] | np.ndarray) -> Sequence[str]:
        """``where`` of many rows, each made when it is asked for."""
        return _Names(self, np.asarray(rows, dtype=int))

    def _with_mask(self, row: int, cell: str) -> Path:
        """The path of a cell, with the mask of its row where it names a part that needs one."""
        reference = parse(cell)
        mask = self.table["mask"].iloc[row] if reference.needs_mask and "mask" in self.table else ""
        return replace(reference, mask=Path(mask)).path if isinstance(mask, str) and mask else Path(cell)

    def subset(self, rows: Sequence[int] | np.ndarray) -> Cohort:
        """The cohort of some rows, numbered anew."""
        return Cohort(self.table.iloc[np.asarray(rows)].reset_index(drop=True), self.notes)

    def check_files(self, stamps: Stamps | None = None) -> None:
        """Check that every named image exists. Errors: ManifestError naming up to 5 rows.

        stamps: takes what is found out about the files, so that a later step need not ask again.
        """
        known = Stamps() if stamps is None else stamps
        absent: list[tuple[int, str]] = []
        for name in [c for c in self.table.columns if c == "image" or c.startswith("image_")]:
            for k, cell in enumerate(self.table[name].tolist()):
                if cell and ("#" in cell or not known.has(cell)):
                    file = parse(self._with_mask(k, cell)).absent()
                    absent += [] if file is None else [(k, str(file))]
        if absent:
            absent.sort(key=lambda entry: entry[0])
            shown = "; ".join(f"{self.where(k)}: {file} {stands_in(file)}".rstrip() for k, file in absent[:_LISTED])
            more = f"; and {len(absent) - _LISTED} more" if len(absent) > _LISTED else ""
            if stands_in(absent[0][1]):
                raise ManifestError(
                    f"{len(absent)} image file{'s are' if len(absent) > 1 else ' is'} not here: {shown}{more}"
                )
            raise ManifestError(
                f"{len(absent)} image file{'s do' if len(absent) > 1 else ' does'} not exist: {shown}{more}; paths "
                "count from the manifest's folder: correct them, move the manifest, or drop the rows"
            )

    def _known(self, column: str) -> None:
        """Refuse a column that the table lacks, naming the nearest one."""
        if column not in self.table.columns:
            raise ManifestError(f"{self._names()} has no column '{column}'; {nearest(column, self.table.columns)}")

    def _names(self) -> str:
        return ", ".join(self._shown.values()) or "the cohort"

    def _refuse_duplicates(self) -> None:
        """Two rows with the same participant, session and image are one scan counted twice."""
        keys = ["participant_id", "session", "image"]
        again = self.table.duplicated(keys, keep="first")
        if again.any():
            row = int(np.flatnonzero(again.to_numpy())[0])
            same = (self.table[keys] == self.table[keys].iloc[row]).all(axis=1)
            first = int(np.flatnonzero(same.to_numpy())[0])
            raise ManifestError(
                f"{self.where(row)} repeats {self.where(first)} (same participant_id, session and image; "
                f"{int(again.sum())} such rows in all); drop one of them"
            )


class _Names(Sequence[str]):
    """What messages call some rows."""

    def __init__(self, cohort: Cohort, rows: np.ndarray) -> None:
        self.cohort, self.rows = cohort, rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return _Names(self.cohort, self.rows[place])
        return self.cohort.where(int(self.rows[place]))


def _datasets(table: pd.DataFrame, path: Path, notes: list[str]) -> pd.Series:
    """The data set by which a row's person is named: its own, or that of other rows of the same participant_id.

    A cell that was left empty must not make one person two, who could stand on both sides of a split.
    """
    blank = (table["dataset"] == "") & (table["subject"] == "")
    if not blank.any() or blank.all():
        return table["dataset"]
    filled = table[table["dataset"] != ""]
    of = filled.groupby("participant_id")["dataset"].min()
    found = table["participant_id"].map(of).where(blank, "").fillna("")
    if (found != "").any():
        people = table.loc[found != "", "participant_id"].unique()
        notes.append(
            f"{int((found != '').sum())} rows of {path.name} name no dataset where other rows of their participant_id "
            f"do, and are taken for the same people: {', '.join(people[:5])}"
            + (f" and {len(people) - 5} more" if len(people) > 5 else "")
        )
    return table["dataset"].where(found == "", found)


def _entry(source: Source) -> tuple[Path, float]:
    """Path and weight of one element of a list of manifests."""
    if not isinstance(source, Mapping):
        return Path(source), 1.0
    unknown = sorted(set(source) - {"path", "weight"})
    if unknown or "path" not in source:
        wrong = f'has the unknown key "{unknown[0]}"' if unknown else "has no path"
        raise ManifestError(f"manifest {dict(source)} {wrong}; write {{path: FILE, weight: NUMBER}}")
    weight = source.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < np.inf:
        raise ManifestError(f"weight of manifest {source['path']} is {weight!r}; it must be a number above 0")
    return Path(source["path"]), float(weight)


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """One table; a column that only some manifests have is missing in the rows of the others."""
    numeric = {
        name
        for table in tables
        for name in table.columns
        if pd.api.types.is_numeric_dtype(table[name])
        and all(pd.api.types.is_numeric_dtype(t[name]) for t in tables if name in t)
    }
    names = list(dict.fromkeys(name for table in tables for name in table.columns))
    parts = [table.reindex(columns=names) for table in tables]
    whole: dict[str, Any] = {}
    for name in names:
        if name in numeric:
            whole[name] = np.concatenate([part[name].to_numpy(dtype=float) for part in parts])
        else:
            whole[name] = np.concatenate([_as_text(part[name]) for part in parts])
    table = pd.DataFrame({name: pd.Series(v, dtype=float if name in numeric else object) for name, v in whole.items()})
    return table.assign(row=table["row"].astype(int))


def _as_text(values: pd.Series) -> np.ndarray:
    """Text with "" when missing, of a column that holds numbers in one manifest and text in another."""
    if pd.api.types.is_numeric_dtype(values):
        return np.array([cell_text(float(v)) for v in values], dtype=object)
    return values.fillna("").to_numpy(dtype=object)


def _missing(values: pd.Series) -> pd.Series:
    return values.isna() | (values == "")
