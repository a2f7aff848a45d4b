"""What a manifest says about persons, sites, ages and splits, without a look at the images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from medssl.data.checks.confounding import about_confounding
from medssl.data.manifest.groups import about_families
from medssl.data.manifest.spellings import about_spelling
from medssl.errors import count
from medssl.tables.age_use import RULE
from medssl.tables.ages import looks_like, possible
from medssl.tables.people import ascii_if_odd

if TYPE_CHECKING:
    import pandas as pd

    from medssl.data.manifest.cohort import Cohort

_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?")
FEWEST_SUBJECTS = 10
ROUNDING = 0.1  # two ages of one visit [years] that differ by no more are the same one
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a cell that spreadsheets take for a formula."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or odd. level: error (would break a training), warning or info.

    code: a short name that groups findings. file: the image or manifest. row: line in the manifest, None
    where the finding is about the whole cohort. text: one sentence. count: how many rows or scans it is about, where it
    stands for several.
    """

    level: str
    code: str
    file: str
    row: int | None
    text: str
    count: int = 1


def check_table(cohort: Cohort) -> Iterator[Finding]:
    """Findings on splits, sites, ages, sexes and names of a cohort, and on what was read otherwise than it stands."""
    for note in cohort.notes:
        yield _overall(cohort, "info", _code(note), note)
    yield from _splits(cohort)
    for row, level, code, text in about_families(cohort):
        yield _about(cohort, row, level, code, text)
    for line, code, text in about_spelling(cohort):
        yield replace(_overall(cohort, "warning", code, text), row=line)
    yield from _ages(cohort)
    yield from _sexes(cohort)
    yield from _visits(cohort)
    yield from _sites(cohort)
    yield from _formulas(cohort)


def _about(cohort: Cohort, row: int, level: str, code: str, text: str, rows: int = 1) -> Finding:
    record = cohort.table.iloc[row]
    return Finding(level, code, str(record["manifest"]), int(record["row"]), f"{cohort.where(row)}: {text}", rows)


def _overall(cohort: Cohort, level: str, code: str, text: str) -> Finding:
    return Finding(level, code, ", ".join(str(path) for path in cohort.paths), None, text)


def _mixed(table: pd.DataFrame, column: str, by: str = "subject") -> Iterator[tuple[str, pd.DataFrame]]:
    """Subjects (or what ``by`` names) whose rows differ in a column, with their rows."""
    differs = table.groupby(by)[column].transform("nunique") > 1
    for name, rows in table[differs].groupby(by, sort=False):
        yield str(name), rows


def _code(note: str) -> str:
    """The kind of a note of reading, by its words."""
    if " read as missing" in note:
        return "read-as-missing"
    return "age-read" if re.match(r"\d+ ages? of ", note) else "table-read"


def _splits(cohort: Cohort) -> Iterator[Finding]:
    table = cohort.table
    if not cohort.has_split:
        yield _overall(
            cohort,
            "info",
            "no-split",
            "no row has a split, so all are trained on; medssl cohort split draws one",
        )
    for subject, rows in _mixed(table[table["split"] != ""], "split"):
        splits = list(dict.fromkeys(rows["split"]))
        level = "error" if "train" in splits else "warning"
        row = int(rows.index[rows["split"] != splits[0]][0])
        other = cohort.where(int(rows.index[0]))
        yield _about(
            cohort,
            row,
            level,
            "subject-across-splits",
            f"subject {subject} is in {splits[1]} here and in {splits[0]} at {other}; keep one person in one split",
        )
    trained = set(table.loc[(table["split"] == "train") & (table["site"] != ""), "site"])
    outside = table[(table["split"] == "external_test") & table["site"].isin(trained)]
    for site, rows in outside.groupby("site"):
        yield _about(
            cohort,
            int(rows.index[0]),
            "warning",
            "site-not-external",
            f"site {site} is external_test in {len(rows)} rows and also in train, so it is not an unseen site",
            len(rows),
        )
    if cohort.has_split:
        blank = np.flatnonzero((table["split"] == "").to_numpy())
        if len(blank):
            yield _about(
                cohort,
                int(blank[0]),
                "info",
                "split-empty",
                f"{len(blank)} rows have no split and are used nowhere",
                len(blank),
            )
    subjects = table["subject"].iloc[cohort.rows("train")].nunique()
    if cohort.has_split and not (table["split"] == "train").any():
        yield _overall(
            cohort,
            "error",
            "no-train",
            "rows have a split but none is train, so there is nothing to train on; mark rows as train, or draw a "
            "split anew with medssl cohort split",
        )
    elif subjects < FEWEST_SUBJECTS:
        yield _overall(
            cohort,
            "warning",
            "few-subjects",
            f"{subjects} training subjects; a representation needs at least {FEWEST_SUBJECTS}, better hundreds",
        )


def _ages(cohort: Cohort) -> Iterator[Finding]:
    ages = cohort.table["age"].to_numpy(dtype=float)
    missing = np.flatnonzero(np.isnan(ages))
    if len(missing) == len(ages):
        yield _overall(
            cohort,
            "warning",
            "age-missing",
            "no row has an age, so methods and scores that read age cannot be used",
        )
        return
    for row in missing:
        yield _about(
            cohort,
            int(row),
            "warning",
            "age-missing",
            "age is empty; methods that read age treat it as unknown",
        )
    explained = np.zeros(len(ages), dtype=bool)
    groups = cohort.table.groupby(["manifest", "dataset", "site"], sort=False).indices
    for rows in groups.values():
        known = rows[~np.isnan(ages[rows])]
        unit = looks_like(ages[known])
        if unit:
            explained[known] = True
            low, high = ages[known].min(), ages[known].max()
            yield _about(
                cohort,
                int(known[0]),
                "warning",
                "age-unit",
                f"the {len(known)} ages of this data set and site ({low:g} to {high:g}) look like {unit}; "
                "write ages in years",
            )
    for row in np.flatnonzero(~possible(ages) & ~np.isnan(ages) & ~explained):
        yield _about(
            cohort,
            int(row),
            "warning",
            "age-impossible",
            f"age {ages[row]:g} {RULE}; correct it or leave it empty",
        )


def _sexes(cohort: Cohort) -> Iterator[Finding]:
    table = cohort.table
    for odd in np.flatnonzero(~table["sex"].isin(["M", "F", ""]).to_numpy()):
        text = f"sex '{table['sex'].iloc[odd]}' is neither M nor F nor empty"
        yield _about(cohort, int(odd), "warning", "sex-odd", text)
    known = table[table["sex"] != ""]
    for subject, rows in _mixed(known, "sex"):
        other = rows.index[rows["sex"] != rows["sex"].iloc[0]]
        text = f"sex of subject {subject} is {rows['sex'].iloc[0]} at {cohort.where(int(rows.index[0]))} and "
        text += f"{rows['sex'].loc[other[0]]} here; correct one of them"
        yield _about(cohort, int(other[0]), "warning", "sex-odd", text)
    if 0 < len(known) < len(table):
        row = int(np.flatnonzero((table["sex"] == "").to_numpy())[0])
        yield _about(
            cohort, row, "info", "sex-missing", f"{len(table) - len(known)} rows have no sex", len(table) - len(known)
        )


def _visits(cohort: Cohort) -> Iterator[Finding]:
    """Rows of one person and one session that say two ages (further apart than rounding) or two diagnoses."""
    table = cohort.table.assign(visit=cohort.table["subject"] + "\x1f" + cohort.table["session"])
    for name, kept in (("age", table["age"].notna()), ("diagnosis", table["diagnosis"] != "")):
        for _, rows in _mixed(table[kept], name, by="visit"):
            first = rows[name].iloc[0]
            others = (rows[name] - first).abs() > ROUNDING if name == "age" else rows[name] != first
            if not others.any():
                continue
            other = rows.index[others.to_numpy()][0]
            here = rows[name].loc[other]
            shown = (f"{first:g}", f"{here:g}") if name == "age" else (first, here)
            session = rows["session"].iloc[0]
            at = f"at session {session}" if session else "where no session tells the visits apart"
            remedy = "correct one of them" if session else "correct one of them, or fill the column session"
            text = (
                f"{name} of subject {rows['subject'].iloc[0]} {at} is {shown[0]} at "
                f"{cohort.where(int(rows.index[0]))} and {shown[1]} here; {remedy}"
            )
            yield _about(cohort, int(other), "warning", f"{name}-contradicts", text)


def _sites(cohort: Cohort) -> Iterator[Finding]:
    table = cohort.table
    named = table[table["site"] != ""]
    if named.empty:
        yield _overall(cohort, "info", "no-site", "no row has a site, so scanner effects cannot be measured")
        return
    blank = np.flatnonzero((table["site"] == "").to_numpy())
    if len(blank):
        yield _about(cohort, int(blank[0]), "info", "site-missing", f"{len(blank)} rows have no site", len(blank))
    for site, rows in named.groupby("site", sort=True):
        if rows["subject"].nunique() == 1:
            yield _about(
                cohort,
                int(rows.index[0]),
                "warning",
                "site-of-one",
                f"site {site} has one subject only; site probes and ComBat need two or more",
            )
    for site, rows in _mixed(named[named["dataset"] != ""], "dataset", by="site"):
        first, other = rows.index[0], rows.index[rows["dataset"] != rows["dataset"].iloc[0]][0]
        yield _about(
            cohort,
            int(other),
            "warning",
            "site-shared",
            f"site {site} is named by dataset {rows['dataset'].loc[other]} here and by "
            f"{rows['dataset'].loc[first]} at {cohort.where(int(first))}, and counts as one scanner; where it is not, "
            f"write other names, such as {rows['dataset'].loc[other]}-{site}",
        )
    for level, code, text in about_confounding(cohort):
        yield _overall(cohort, level, code, text)


def _formulas(cohort: Cohort) -> Iterator[Finding]:
    """Names that a spreadsheet would take for a formula; they cannot be escaped without changing who is who."""
    table = cohort.table
    columns = [str(name) for name in table.columns if str(name).startswith(FORMULA)]
    ids = table["participant_id"].tolist()
    cells = [
        (row, name)
        for name in table.columns
        if table[name].dtype == object and not str(name).startswith("image") and name not in ("manifest", "mask")
        for row, cell in enumerate(table[name].tolist())
        if isinstance(cell, str) and cell.startswith(FORMULA) and not _NUMBER.fullmatch(cell)
        if name != "subject" or cell != ids[row]  # which was made of the id
    ]
    if not columns and not cells:
        return
    parts = [f"{count(len(columns), 'column name')} (such as {ascii_if_odd(columns[0])})"] if columns else []
    if cells:
        row, name = cells[0]
        parts.append(
            f"{count(len(cells), 'cell')} (such as {name} {ascii_if_odd(table[name].iloc[row])} at {cohort.where(row)})"
        )
    text = (
        f"a spreadsheet would take {' and '.join(parts)} for a formula, which goes unchanged into features.csv and "
        "predictions.csv; rename it, or import these files as text instead of opening them"
    )
    yield replace(
        _overall(cohort, "warning", "formula", text), row=int(table["row"].iloc[cells[0][0]]) if cells else None
    )
