"""The cells of a manifest as text, with the line of every row; which of them say nothing, and numbers with commas."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.errors import ManifestError
from medssl.tables.ages import OLDEST, read_ages
from medssl.tables.missing import said_missing, without_missing
from medssl.tables.pointers import stands_in
from medssl.tables.text import decoded, read_cells, refuse_swallowed, separator_of

_MORE = "\x00more"
_BREAK = r"\r\n|\r|\n"
FEATURE = re.compile(r"[fe]\d+")
_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d+")
_TEXTS = ("participant_id", "session", "image", "mask", "sex", "site", "dataset", "split", "diagnosis", "subject")


def raw_cells(path: Path, known: dict[str, str], notes: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Stripped cells with "" where missing and the line number as column ``row``, and the names of the columns.

    Blank lines are dropped. known: small letters -> name of the columns with a meaning, whose capitals do not count.
    What was detected, emptied or read otherwise goes to ``notes``. Errors: ManifestError naming file and row.
    """
    if path.is_dir():
        raise ManifestError(
            f"{path} is a folder, not a manifest; write one with `medssl cohort scan {path} -o manifest.csv`"
        )
    if not stands_in(path) and not path.exists():
        raise ManifestError(f"manifest {path} does not exist; correct the path")
    text = decoded(path, notes)
    separator = separator_of(path, text, notes)
    if separator == " ":
        cells = read_cells(path)
        header = _names(path, cells.header, known)
        raw = pd.DataFrame(cells.rows, columns=header, dtype=object).assign(row=np.array(cells.lines, dtype=int))
    else:
        header, raw = _parsed(path, text, separator, known, notes)
    if separator == ";":
        raw = with_points(path, raw, header, notes)
    return _emptied(path, raw, header, notes), header


def years(path: Path, raw: pd.DataFrame, notes: list[str]) -> pd.Series:
    """The column age in years, NaN where it says none; see ``medssl.tables.ages.read_ages``."""
    if "age" not in raw:
        return pd.Series(np.nan, index=raw.index, dtype=float)
    cells = raw["age"]
    numbers = pd.to_numeric(cells.where(cells != "", "nan"), errors="coerce").astype(float)
    if (((numbers > 0) & (numbers <= OLDEST)) | (cells == "")).all():
        return numbers
    read = read_ages(cells.tolist(), path.name, groups=raw["dataset"].tolist() if "dataset" in raw else None)
    notes += read.notes
    same = np.isclose(numbers, read.years, rtol=1e-12, atol=0)  # the same digits by the same parser as ever
    return numbers.where(same, read.years)


def _parsed(
    path: Path, text: str, separator: str, known: dict[str, str], notes: list[str]
) -> tuple[list[str], pd.DataFrame]:
    """Names of the columns, and the stripped cells below them with the line of each row."""
    stream = io.StringIO(text, newline="")
    reader = csv.reader(stream, delimiter=separator)
    names = next((row for row in reader if any(cell.strip() for cell in row)), [])
    above = reader.line_num
    if text.count('"') % 2 and any("\n" in name or "\r" in name for name in names):
        raise ManifestError(f"{path} row 1 opens a quote that is never closed; close it or take it out")
    header = _names(path, names, known)
    refuse_swallowed(path, text, separator, len(header))
    below = stream.read()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.ParserWarning)  # surplus cells are reported below
            raw = pd.read_csv(
                io.StringIO(below, newline=""),
                sep=separator,
                header=None,
                names=[*header, _MORE],
                dtype=object,
                na_filter=False,
                skip_blank_lines=False,
                index_col=False,
            )
    except pd.errors.EmptyDataError:
        return header, pd.DataFrame({name: pd.Series(dtype=object) for name in [*header, "row"]})
    except (pd.errors.ParserError, ValueError) as error:
        reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
        raise ManifestError(
            f"{path} cannot be parsed ({reason}); check the number of cells and the quotes in that line"
        ) from error
    raw = raw.fillna("").astype(object)
    row = np.arange(len(raw)) + above + 1
    if '"' in text:  # quoted cells may hold line breaks
        breaks = sum(raw[name].str.count(_BREAK).astype(int) for name in raw.columns)
        row = row + np.concatenate([[0], np.cumsum(np.asarray(breaks))[:-1]])
    cells = {name: pd.Series(list(map(str.strip, raw[name].tolist())), raw.index, dtype=object) for name in raw.columns}
    more = cells.pop(_MORE)
    raw = pd.DataFrame({**cells, "row": row}, index=raw.index)
    if (more != "").any():
        k = int(np.flatnonzero((more != "").to_numpy())[0])
        who = f" ({raw['participant_id'].iloc[k]})" if "participant_id" in raw else ""
        such = f" ({int((more != '').sum())} such rows)" if (more != "").sum() > 1 else ""
        raise ManifestError(
            f'{path} row {raw["row"].iloc[k]}{who}: value "{more.iloc[k]}" stands behind the last of {len(header)} '
            f"columns; quote cells that hold the separator{such}"
        )
    if (raw[header[-1]] == "").any():
        notes += _short(path, below, separator, raw, header)
    return header, raw


def _short(path: Path, below: str, separator: str, raw: pd.DataFrame, header: list[str]) -> list[str]:
    """A sentence on rows with fewer cells than the header, which the parser fills up. below: the text of the rows."""
    try:
        cells = np.array([len(row) for row in csv.reader(io.StringIO(below, newline=""), delimiter=separator)])
    except csv.Error:  # a cell of more than 131,072 letters
        return []
    if len(cells) != len(raw):
        return []
    short = np.flatnonzero((cells < len(header)) & (raw[header] != "").any(axis=1).to_numpy())
    if not len(short):
        return []
    rows = f"{len(short)} rows have fewer, the last of them" if len(short) > 1 else "one row has fewer,"
    return [
        f"{path.name} has {len(header)} columns, but {rows} row {raw['row'].iloc[short[-1]]} with {cells[short[-1]]} "
        "cells; the others were read as empty, so look whether the file was cut off"
    ]


def _names(path: Path, cells: list[str], known: dict[str, str]) -> list[str]:
    """Names of the columns; refused where one is empty or stands twice."""
    names = [" ".join(re.split(r"\s*[\r\n]+\s*", name.strip())) for name in cells]
    names = [known.get(name.lower(), name) for name in names]
    while names and not names[-1]:
        names.pop()
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or "" in names:
        wrong = f'the column "{twice[0]}" twice' if twice else "a column without a name"
        raise ManifestError(f"{path} row 1 has {wrong}; give every column its own name")
    return names


def _emptied(path: Path, raw: pd.DataFrame, header: list[str], notes: list[str]) -> pd.DataFrame:
    """The rows that say anything, with "" for every spelling of a missing value."""
    cells: dict[str, Any] = {}
    counts: dict[str, Counter[str]] = {}
    for name in header:
        words = raw[name].tolist()
        different = list(dict.fromkeys(words))
        column = "participant_id" if name == "age" or FEATURE.fullmatch(name) else name  # of features only words count
        kept, _ = without_missing(different, column)
        gone = {old for old, new in zip(different, kept, strict=True) if old and not new}
        if gone:
            _, counts[name] = without_missing(words, column)
            cells[name] = pd.Series(["" if word in gone else word for word in words], index=raw.index, dtype=object)
        else:
            cells[name] = raw[name]
    notes += said_missing(path.name, counts)
    raw = pd.DataFrame({**cells, "row": raw["row"]}, index=raw.index)
    blank = raw[header[0]] == ""  # most tables name every person
    return raw[(raw[header] != "").any(axis=1)] if blank.any() else raw


def with_points(path: Path, raw: pd.DataFrame, header: list[str], notes: list[str]) -> pd.DataFrame:
    """The columns of a table with semicolons whose numbers have decimal commas, with points; ages are read later."""
    changed: dict[str, Any] = {}
    for name in header:
        if name in (*_TEXTS, "age") or name.startswith("image_"):
            continue
        words, _ = without_missing(list(dict.fromkeys(raw[name])), "participant_id")
        filled = [word for word in words if word]
        commas = [word for word in filled if _COMMA.fullmatch(word)]
        if commas and all(_COMMA.fullmatch(word) or _WHOLE.fullmatch(word) for word in filled):
            changed[name] = raw[name].str.replace(",", ".", regex=False)
    if changed:
        shown = ", ".join(list(changed)[:8]) + (f" and {len(changed) - 8} more" if len(changed) > 8 else "")
        notes.append(f"decimal commas of {path.name} were read in column {shown}")
    return raw.assign(**changed) if changed else raw
