"""What participants tables say in many spellings, in the manifest's one: names of columns, sex, age, privacy."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from medssl.data.cohorts.sidecar import Sidecar, read_sidecar
from medssl.data.cohorts.tables import COLUMNS, listed
from medssl.data.manifest_file import split_name
from medssl.errors import ManifestError
from medssl.tables.ages import age_column, looks_like, read_ages
from medssl.tables.missing import is_missing, said_missing, without_missing

_SYNONYMS = {
    "gender": "sex",
    "session_id": "session",
    "subject_id": "participant_id",
}
_PRIVATE = re.compile(
    r"^(first|last|full|sur|family|given|patient|participant|subject)?[ _-]?name$|birth[ _-]?da(te|y)"
    r"|date[ _-]?of[ _-]?birth|^dob$|^(street|home)?[ _-]?address$|^(tele)?phone|^e-?mail|^post(al)?[ _-]?code$"
    r"|^zip([ _-]?code)?$|^(mrn|ssn|nhs)([ _-]?(number|id))?$",
    re.IGNORECASE,
)
_SEX = {"m": "M", "male": "M", "man": "M", "f": "F", "female": "F", "woman": "F"}
_SEX |= dict.fromkeys(("o", "other", "u", "unknown"), "")


def tidy(
    table: pd.DataFrame,
    source: Path,
    notes: list[str],
    columns: Mapping[str, str] | None = None,
    sex: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """The table with the manifest's column names, sex as M or F, age in years as float, private columns gone.

    columns: manifest name -> name in the table, for tables that use other words. Known other spellings
    (capitals, gender, session_id, subject_id, and of ages age_months, "Age (years)" and others) need none. sex: the
    table's code -> "M" or "F". A JSON file beside the table (participants.json) tells the unit of age, the levels of
    sex, and codes of missing values; ages in months, weeks or days become years. Columns whose names mean something
    else in a manifest (weight, image_*, a split of other words) are renamed. What was changed goes to ``notes``.
    Raises ManifestError where a named column is absent.
    """
    sidecar = read_sidecar(source, notes)
    table, origin = _named(table, source, columns or {}, sidecar, notes)
    private = [name for name in table.columns if _PRIVATE.search(name) and name not in COLUMNS]
    if private:
        notes.append(f"left out for privacy: column {', '.join(private)} of {source.name}")
    table = table.drop(columns=[*private, *(["image"] if "image" in table else [])])
    table = _without_missing(table, source, origin, sidecar, notes)
    if "participant_id" in table:
        table = table[table["participant_id"] != ""].reset_index(drop=True)
    others = {name: f"given_{name}" for name in table.columns if name.startswith("image_")}
    if "weight" in table:
        others["weight"] = "body_weight"
    if "split" in table and any(word and split_name(word) is None for word in table["split"]):
        others["split"] = "given_split"
    if others:
        changed = ", ".join(f"{old} is called {new}" for old, new in others.items())
        notes.append(f"these columns of {source.name} would mean something else in a manifest: {changed}")
        table = table.rename(columns=others)
    if "sex" in table:
        table["sex"] = _spelled(table["sex"], source, notes, dict(sex or {}) or sidecar.levels(origin["sex"]))
    if "age" in table:
        table["age"] = _years(table, source, origin["age"], sidecar, notes)
    return table


def _named(
    table: pd.DataFrame, source: Path, columns: Mapping[str, str], sidecar: Sidecar, notes: list[str]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table with the manifest's column names, by the user's words first, then by known spellings.

    Also what each column is called in the file.
    """
    for theirs in columns.values():
        if theirs not in table.columns:
            raise ManifestError(f"{source}: has no column '{theirs}'; its columns are {', '.join(table.columns)}")
    used = set(columns.values())
    replaced = {name: f"given_{name}" for name in columns if name in table.columns and name not in used}
    given, table = table, table.drop(columns=sorted(used)).rename(columns=replaced)
    table = table.assign(**{name: given[theirs] for name, theirs in columns.items()})
    renamed: dict[str, str] = {}
    taken = {*columns, *(name for name in table.columns if name in COLUMNS and name != "age")}
    aged = "" if "age" in columns else _age_column(table, source, sidecar, notes)
    for column in table.columns:
        lower = column.lower()
        name = lower if lower in COLUMNS else _SYNONYMS.get(lower, "")
        if name == "age":
            name = ""
        if name and name not in taken and column not in columns:
            renamed[column] = name
            taken.add(name)
    if aged and aged != "age":
        renamed |= {aged: "age"} | ({"age": "given_age"} if "age" in table.columns else {})
    named = table.rename(columns=renamed)
    before = {**{new: old for old, new in replaced.items()}, **columns}
    return named, {new: before.get(old, old) for old, new in zip(table.columns, map(str, named.columns), strict=True)}


def _age_column(table: pd.DataFrame, source: Path, sidecar: Sidecar, notes: list[str]) -> str:
    """The column that holds the age, "" where none does: filled, in years, called age, the first; said if several."""
    units = {str(name): unit for name in table.columns if (unit := age_column(str(name))) is not None}
    if not units:
        return ""
    filled = {name: not all(is_missing(cell) for cell in table[name].tolist()) for name in units}
    told = {name: sidecar.unit(name, []) or unit for name, unit in units.items()}
    order = sorted(units, key=lambda name: (not filled[name], told[name] != "years", name.lower() != "age"))
    if len(order) > 1:
        notes.append(f"age of {source.name} was taken from column {order[0]}, not from {listed(order[1:])}")
    return order[0]


def _without_missing(
    table: pd.DataFrame, source: Path, origin: Mapping[str, str], sidecar: Sidecar, notes: list[str]
) -> pd.DataFrame:
    """The table with "" for words and codes that mean "missing", also the JSON file's own."""
    counts: dict[str, Counter[str]] = {}
    cells: dict[str, list[str]] = {}
    for name in table.columns:
        own = sidecar.missing(origin[name])
        cells[name], counts[name] = without_missing(table[name].tolist(), name, own)
    notes += said_missing(source.name, counts)
    return table.assign(**cells).astype(object)


def _years(table: pd.DataFrame, source: Path, column: str, sidecar: Sidecar, notes: list[str]) -> list[float]:
    """Ages in years, by the unit that the JSON file or the column's name says."""
    named = age_column(column) or "years"
    told = sidecar.unit(column, notes)
    unit = told or named
    groups = table["dataset"].tolist() if "dataset" in table else None
    read = read_ages(table["age"].tolist(), source.name, unit, groups)
    notes += read.notes
    by = f"as {sidecar.name} says" if told else f"as the name of its column {column} says"
    if told and age_column(column) and named not in ("years", told):
        notes.append(f"{column} of {source.name} is in {told} by {sidecar.name}, which counts more than its name")
    if unit != "years":
        notes.append(f"age of {source.name} is in {unit}, {by}, and was converted to years")
    elif looks := looks_like(read.years):
        low, high = np.nanmin(read.years), np.nanmax(read.years)
        although = f", although {sidecar.name} says years" if told else ""
        notes.append(
            f"the ages of {source.name} ({low:g} to {high:g}) look like {looks}{although}; they stay as they are: "
            f"correct the table, or write the unit into {source.stem}.json"
        )
    return [float(age) for age in read.years]


def spell_sex(
    values: Iterable[str], source: Path, notes: list[str], codes: Mapping[str, str] | None = None
) -> list[str]:
    """M and F for m, male, f, female (any capitals); codes by their levels, or else 1 and 2 as in ISO 5218.

    codes: what the table's words mean; else the Levels of a JSON file of the same name decide. Without them 1 is male
    and 2 female where both occur (0 not known, 9 not applicable), which is said. Values that remain unclear, such as
    0 and 1, are left empty, with a note.
    """
    sidecar = read_sidecar(source, [])
    levels = sidecar.levels("sex") or sidecar.levels("gender")
    return _spelled(values, source, notes, dict(codes or {}) or levels)


def _spelled(values: Iterable[str], source: Path, notes: list[str], levels: Mapping[str, str]) -> list[str]:
    """Sexes as M, F or "". levels: code -> word."""
    texts = [str(value).strip().removesuffix(".0") for value in values]
    texts = ["" if is_missing(text) else text for text in texts]
    found = set(texts) - {""}
    words = {str(code).strip().removesuffix(".0"): _sex_of(word) for code, word in levels.items()}
    meaning = {code: sex for code, sex in words.items() if sex is not None}
    if not any(meaning.values()):  # the file says nothing of male and female
        meaning = _by_iso(found, source, notes)
    unclear = sorted(word for word in found if word not in meaning and word.lower() not in _SEX)
    if unclear:
        notes.append(
            f"sex of {source.name} has values that could mean either and are left empty: {listed(unclear)} "
            "(say what they mean with --sex CODE=M --sex CODE=F)"
        )
    return [meaning.get(text, _SEX.get(text.lower(), "")) for text in texts]


def _by_iso(found: set[str], source: Path, notes: list[str]) -> dict[str, str]:
    """The codes of ISO 5218 where 1 and 2 both occur and nothing else but 0 and 9; said."""
    if not {"1", "2"} <= found <= {"0", "1", "2", "9"}:
        return {"9": ""} if "9" in found and found <= {"0", "1", "2", "9"} else {}
    more = (", 0 = not known" if "0" in found else "") + (", 9 = not applicable" if "9" in found else "")
    notes.append(f"sex of {source.name} was read as 1 = male, 2 = female{more}" + (" (ISO 5218)" if more else ""))
    return {"1": "M", "2": "F", "0": "", "9": ""}


def _sex_of(word: object) -> str | None:
    """M, F or "" (another, not known) for the meaning of a code; None where it says neither."""
    text = str(word).strip().lower()
    if is_missing(text) or text in ("not specified", "intersex", "prefer not to say"):
        return ""
    first = re.match(r"[a-z]+", text)
    return _SEX.get(first[0]) if first else None
