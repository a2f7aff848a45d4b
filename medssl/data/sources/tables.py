"""Participants tables in, manifests out: reading and writing."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medssl.data.manifest.cells import FEATURE, with_points
from medssl.data.volumes.reference import parse
from medssl.errors import ManifestError, shown
from medssl.files import write_atomic
from medssl.tables.ages import age_column, read_ages
from medssl.tables.missing import is_missing, said_missing, without_missing
from medssl.tables.text import read_cells

COLUMNS = ("participant_id", "session", "image", "age", "sex", "site", "dataset", "split", "diagnosis")
"""The columns of a manifest that have a meaning, in the order in which they are written."""

TABLE_NAMES = ("participants.tsv", "participants.csv")
_BYTES = re.compile("[\ud800-\udfff]")
_STEERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
FORMULA = ("=", "+", "-", "@")
"""Beginnings of a cell that spreadsheets take for a formula."""
_ROWS = "the rows with an image"
_NO_ID = ("", "n/a", "#n/a", "<na>")
_IDS = ("participant_id", "subject_id", "subject")
Keep = Sequence[tuple[str, str]]
"""(column, word): a word for "missing" that is a name in that column."""


def read_table(
    path: Path,
    notes: list[str] | None = None,
    columns: Mapping[str, str] | None = None,
    keep: Keep = (),
    lenient: bool = False,
) -> pd.DataFrame:
    """Rows of a TSV or CSV file as text, "" where a value is missing; see ``without_words`` for what counts as that.

    notes: takes what was detected (encoding, separator) and what was emptied. lenient: whether columns of ``keep`` may
    be absent, of one of several tables. Raises ManifestError where the file is
    absent, unreadable, empty, names a column twice or where a row has more cells than the header.
    """
    table = raw_table(path, notes)
    if lenient:
        keep = kept_in(table, keep, columns or {})
    return without_words(table, path, notes, columns, keep)


def kept_in(table: pd.DataFrame, keep: Keep, columns: Mapping[str, str]) -> Keep:
    """Those of ``keep`` whose column the table has."""
    return [(column, word) for column, word in keep if _names_of(table, column, columns)]


def raw_table(path: Path, notes: list[str] | None = None) -> pd.DataFrame:
    """All cells of a TSV or CSV file as stripped text, without empty rows. Errors: see ``read_table``."""
    if path.suffix.lower() not in {".csv", ".tsv", ".tab", ".txt"}:
        raise ManifestError(f"{path}: tables are read from .tsv or .csv; save it in one of these forms")
    cells = read_cells(path, notes)
    if not cells.rows:
        raise ManifestError(f"{path}: has no rows; it needs a header line and one line per participant")
    table = pd.DataFrame(cells.rows, columns=cells.header, dtype=object)
    return with_points(path, table, cells.header, [] if notes is None else notes) if cells.separator == ";" else table


def without_words(
    table: pd.DataFrame,
    path: Path,
    notes: list[str] | None = None,
    columns: Mapping[str, str] | None = None,
    keep: Keep = (),
) -> pd.DataFrame:
    """The table with "" for every word and code that stands for a missing value, said in ``notes``.

    Columns of ages keep their codes, which ``medssl.tables.ages`` knows; ids called NA or none become sub-NA. columns:
    manifest name -> name in this table. keep: words that are names, written as COLUMN-WORD (site-NA), since every
    reader of a manifest takes the word itself as missing.
    """
    given = columns or {}
    said: dict[str, Counter[str]] = {}
    names: dict[str, set[str]] = {}
    for column, word in keep:
        names.setdefault(_column_of(table, column, given, path), set()).add(word.strip().casefold())
    out = {}
    for name in table.columns:
        cells = table[name].tolist()
        if name in names:
            shown = next(column for column, _ in keep if _column_of(table, column, given, path) == name)
            kept = [f"{shown}-{cell}" if cell.casefold() in names[name] else cell for cell in cells]
            changed = dict.fromkeys(new for new, old in zip(kept, cells, strict=True) if new != old)
            if notes is not None and changed:
                notes.append(f"{name} of {path.name}: a name that reads as missing is written as {', '.join(changed)}")
            cells = kept
        if name.lower() in _IDS or given.get("participant_id") == name:
            # Whoever is called NA or none is somebody; with sub- before it every reader takes it so.
            out[name] = ["" if c.lower() in _NO_ID else f"sub-{c}" if is_missing(c) else c for c in cells]
            continue
        is_age = age_column(name) is not None or given.get("age") == name
        out[name], said[name] = without_missing(cells, "age" if is_age else name)
    if notes is not None:
        notes += said_missing(path.name, said)
    found = pd.DataFrame(out, columns=list(table.columns), dtype=object)
    return found[(found != "").any(axis=1)].reset_index(drop=True)


def _column_of(table: pd.DataFrame, column: str, columns: Mapping[str, str], path: Path) -> str:
    """The table's own name of a column of the manifest."""
    found = _names_of(table, column, columns)
    if not found:
        raise ManifestError(
            f"{path}: has no column '{column}', of which --keep speaks; its columns are {', '.join(table.columns)}"
        )
    return found[0]


def _names_of(table: pd.DataFrame, column: str, columns: Mapping[str, str]) -> list[str]:
    """Columns of the table that a manifest's name may mean, the best first."""
    theirs = columns.get(column, column)
    names = [str(name) for name in table.columns]
    return [name for name in names if name == theirs] or [name for name in names if name.lower() == theirs.lower()]


def listed(items: Sequence[str], most: int = 5) -> str:
    """The first few items as text: "a, b, c and 12 more"."""
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more} more" if more > 0 else "")


def in_order(table: pd.DataFrame, notes: list[str] | None = None) -> pd.DataFrame:
    """Known columns first, then the others as they came; empty optional columns dropped; rows renumbered.

    Codes and ages are judged once more, on these rows, as every reader of the manifest does; said in ``notes``.
    """
    table = _without_controls(_as_read(table, notes), notes)
    known = [name for name in COLUMNS if name in table.columns]
    others = [name for name in table.columns if name not in COLUMNS]
    table = table[known + others].reset_index(drop=True)
    empty = [
        name
        for name in table.columns
        if name not in {"participant_id", "image"} and not table[name].astype(str).str.strip().replace("nan", "").any()
    ]
    return table.drop(columns=empty)


def _without_controls(table: pd.DataFrame, notes: list[str] | None) -> pd.DataFrame:
    """The table without characters that steer a terminal; a line end or a tab inside a cell stays, as it is quoted.

    Cells of paths are left alone: an image with such a name is not written (``is_writable``).
    """
    cells: dict[str, Any] = {}
    first = ""
    total = 0
    for name in table.columns:
        given = table[name].tolist()
        if name == "mask" or name.startswith("image"):
            continue
        found = [cell for cell in given if isinstance(cell, str) and _STEERS.search(cell)]
        if found:
            total += len(found)
            first = first or f"{name} '{shown(found[0])}'"
            cells[name] = [_STEERS.sub("", cell) if isinstance(cell, str) else cell for cell in given]
    if total and notes is not None:
        what = "cells hold" if total > 1 else "cell holds"
        notes.append(f"{total} {what} control characters, which were taken out (such as {first}); correct the table")
    return table.assign(**cells)


def _as_read(table: pd.DataFrame, notes: list[str] | None) -> pd.DataFrame:
    """The table with the cells empty that a reader of it as manifest would empty: it knows no other rows."""
    cells: dict[str, list[str] | list[float]] = {}
    counts: dict[str, Counter[str]] = {}
    said: list[str] = []
    for name in table.columns:
        given = table[name].tolist()
        if name == "age":
            read = read_ages(given, _ROWS, groups=table["dataset"].tolist() if "dataset" in table else None)
            cells[name], said = [float(age) for age in read.years], list(read.notes)
        elif all(isinstance(cell, str) for cell in given):
            words_only = FEATURE.fullmatch(name) is not None
            cells[name], counts[name] = without_missing(given, "participant_id" if words_only else name)
    if notes is not None:
        notes += [*said_missing(_ROWS, counts), *said]
    return table.assign(**cells)


def write_manifest(table: pd.DataFrame, path: str | Path, *, images: bool = True, overwrite: bool = True) -> Path:
    """Write a manifest (CSV, or TSV by its name), image paths relative to its folder; atomic.

    Columns that ``Cohort`` adds (manifest, row) are not written. Ages keep their digits, missing is empty.
    images: False for a table of features, which needs no column image. overwrite: whether a file that is there is
    replaced. Raises ManifestError where required columns are absent, UserError where such a file must stay or the
    folder cannot be written to.
    """
    path = Path(path).absolute()
    needed = ("participant_id", "image") if images else ("participant_id",)
    lacking = [name for name in needed if name not in table.columns]
    if lacking:
        raise ManifestError(f"{path}: a manifest needs the column '{lacking[0]}'; the table has none")
    out = table.drop(columns=[name for name in ("manifest", "row") if name in table.columns])
    for name in out.columns:
        if name == "image" or str(name).startswith("image_"):
            paths = {value: _relative(str(value), path.parent) if value else "" for value in out[name].unique()}
            out[name] = [paths[value] for value in out[name]]
    if "mask" in out and "image" in out:  # a path only where the image is a part that needs one
        needs = [parse(str(image)).needs_mask for image in out["image"]]
        near = {value: _relative(str(value), path.parent) for value in out["mask"][needs].unique() if value}
        out["mask"] = [near.get(v, v) if need else v for v, need in zip(out["mask"], needs, strict=True)]
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    for name in out.columns:
        if odd := next((cell for cell in out[name] if isinstance(cell, str) and _BYTES.search(cell)), ""):
            raise ManifestError(
                f"{path}: {name} would be '{shown(odd)}', which holds bytes that are no text; rename the file or folder"
            )
    lines = out.to_csv(sep=separator, index=False, na_rep="", lineterminator="\r\n").split('"')
    text = '"'.join(part if k % 2 else part.replace("\r\n", "\n") for k, part in enumerate(lines))  # as it is in quotes
    write_atomic(path, text.encode("utf-8"), remedy="choose another place with -o", replace=overwrite)
    return path


def is_writable(name: str) -> bool:
    """Whether a path can stand in a table and be read back: it is text, and without control characters."""
    return not (_BYTES.search(name) or any(unicodedata.category(letter) == "Cc" for letter in name))


def _relative(image: str, folder: Path) -> str:
    """The path from the manifest's folder with forward slashes; absolute where no relative one exists.

    Folders are resolved first, since ".." does not undo a linked folder; the file itself may stay a link.
    """
    place = Path(os.path.realpath(os.path.dirname(image)), os.path.basename(image))
    try:
        found = Path(os.path.relpath(place, os.path.realpath(folder))).as_posix()
        return f"./{found}" if found.startswith(FORMULA) or found != found.strip() else found
    except ValueError:  # another drive
        return place.as_posix()
