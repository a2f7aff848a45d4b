"""What participants tables say in many spellings, in the manifest's one: names of columns, sex, age, privacy."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from medssl.data.manifest.file import split_name
from medssl.data.sources.sidecar import Sidecar, read_sidecar
from medssl.data.sources.tables import COLUMNS, listed
from medssl.errors import ManifestError
from medssl.tables.ages import age_column, looks_like, read_ages
from medssl.tables.missing import is_missing, said_missing, without_missing

_SYNONYMS = {
    "gender": "sex",
    **dict.fromkeys(
        ("session_id", "ses", "visit", "visit_id", "visit_code", "viscode", "timepoint", "wave"), "session"
    ),
    "subject_id": "participant_id",
    "dx": "diagnosis",
}
_PRIVATE = re.compile(
    r"^(first|last|full|sur|family|given|patient|participant|subject)?[ _-]?name$|birth[ _-]?da(te|y)"
    r"|date[ _-]?of[ _-]?birth|^dob$|^(street|home)?[ _-]?address$|^(tele)?phone|^e-?mail|^post(al)?[ _-]?code$"
    r"|^zip([ _-]?code)?$|^(mrn|ssn|nhs)([ _-]?(number|id))?$"
    r"|^(vor|nach|familien|patienten|zu)name$|geb(urts)?[ _-]?(dat(um)?|tag)|^(strasse|straße|anschrift|adresse|plz)$"
    r"|^(pre|sur)?nom([ _-]de[ _-]famille)?$|^pr[ée]nom$|naissance|^(nombre|apellidos?)$|nacimiento|^(cog)?nome$"
    r"|nascita"
    r"|nascimento|^sobrenome$|^initials?$|^initialen$|birth[ _-]?(day|year)|^year[ _-]?of[ _-]?birth$|^yob$",
    re.IGNORECASE,
)
_SEX = {"m": "M", "male": "M", "man": "M", "f": "F", "female": "F", "woman": "F"}
_SEX |= dict.fromkeys(("hombre", "homme", "mann", "männlich", "maschio", "masculino", "masculin", "uomo"), "M")
_SEX |= dict.fromkeys(("mujer", "femme", "frau", "weiblich", "femmina", "femenino", "feminino", "donna"), "F")
_SEX |= dict.fromkeys(("o", "other", "u", "unknown"), "")
_ELSEWHERE = ("weight", "manifest", "row", "mask", "image")
_FOLDED = (*COLUMNS, "weight", "subject", "family")
"""Columns whose capitals do not count in a manifest."""


def tidy(
    table: pd.DataFrame,
    source: Path,
    notes: list[str],
    columns: Mapping[str, str] | None = None,
    sex: Mapping[str, str] | None = None,
    sidecar: Sidecar | None = None,
    judged: bool = False,
) -> pd.DataFrame:
    """The table with the manifest's column names, sex as M or F, age in years as float, private columns gone.

    columns: manifest name -> name in the table, for tables that use other words. Known other spellings
    (capitals, gender, session_id, subject_id, and of ages age_months, "Age (years)" and others) need none. sex: the
    table's code -> "M" or "F". A JSON file beside the table (participants.json) tells the unit of age, the levels of
    sex, and codes of missing values; ages in months, weeks or days become years. Columns whose names mean something
    else in a manifest (weight, mask, image_*, a split of other words, in any capitals), and second ones that differ in
    capitals only, are renamed. What was changed goes to ``notes``. sidecar: instead of the file beside the table.
    judged: whether codes of missing values were emptied before, so that those that are left are values.
    Raises ManifestError where a named column is absent.
    """
    sidecar = read_sidecar(source, notes) if sidecar is None else sidecar
    table, origin = _named(table, source, columns or {}, sidecar, notes)
    private = [name for name in table.columns if _PRIVATE.search(name) and name not in COLUMNS]
    if private:
        notes.append(f"left out for privacy: column {', '.join(private)} of {source.name}")
    table = table.drop(columns=private)
    table = _without_missing(table, source, origin, sidecar, notes, judged)
    if "participant_id" in table:
        table = table[table["participant_id"] != ""].reset_index(drop=True)
    others = _reserved(table)
    if others:
        changed = ", ".join(f"{origin[old]} is called {new}" for old, new in others.items())
        notes.append(f"these columns of {source.name} would mean something else in a manifest: {changed}")
        table = table.rename(columns=others)
    table = table.rename(columns={name: "subject" for name in table.columns if name.lower() == "subject"})
    if "sex" in table:
        table["sex"] = _spelled(table["sex"], source, notes, {**sidecar.levels(origin["sex"]), **dict(sex or {})})
    if "age" in table:
        table["age"] = _years(table, source, origin["age"], sidecar, notes)
    return table


def _reserved(table: pd.DataFrame) -> dict[str, str]:
    """New names of columns that a manifest would take for something else, or for one that is there already."""
    out: dict[str, str] = {}
    taken = {str(name) for name in table.columns}
    folded: set[str] = set()
    for name in sorted(map(str, table.columns), key=lambda name: name != name.lower()):
        lower = name.lower()
        twice = lower in folded
        folded |= {lower} if lower in _FOLDED else set()
        strange = lower in _ELSEWHERE or lower.startswith("image_")
        strange |= lower == "split" and any(word and split_name(word) is None for word in table[name])
        strange |= lower == "subject" and not _names_people(table, name)
        if twice or strange:
            new = "body_weight" if lower == "weight" and "body_weight" not in taken else f"given_{name}"
            while new in taken:
                new = f"given_{new}"
            out[name] = new
            taken.add(new)
    return {str(name): out[str(name)] for name in table.columns if str(name) in out}


def _names_people(table: pd.DataFrame, name: str) -> bool:
    """Whether a column can say whose scan a row is: "patient" for everybody, or a few words for many, cannot."""
    if "participant_id" not in table:
        return True
    filled = table[table[name] != ""]
    people, words = filled["participant_id"].nunique(), filled[name].nunique()
    return people < 2 or (words > 1 and 2 * words >= people)


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
    replaced = {name: _free(name, table) for name in columns if name in table.columns and name not in used}
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
        renamed |= {aged: "age"} | ({"age": _free("age", table)} if "age" in table.columns else {})
    named = table.rename(columns=renamed)
    before = {**{new: old for old, new in replaced.items()}, **columns}
    return named, {new: before.get(old, old) for old, new in zip(table.columns, map(str, named.columns), strict=True)}


def _free(name: str, table: pd.DataFrame) -> str:
    """given_NAME, or given_given_NAME and so on where the table has that."""
    new = f"given_{name}"
    while new in table.columns:
        new = f"given_{new}"
    return new


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
    table: pd.DataFrame, source: Path, origin: Mapping[str, str], sidecar: Sidecar, notes: list[str], judged: bool
) -> pd.DataFrame:
    """The table with "" for words and codes that mean "missing", also the JSON file's own; words only if judged."""
    counts: dict[str, Counter[str]] = {}
    cells: dict[str, list[str]] = {}
    for name in table.columns:
        own = sidecar.missing(origin[name])
        cells[name], counts[name] = without_missing(table[name].tolist(), "age" if judged else name, own)
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
    given = {str(code).strip().removesuffix(".0"): _sex_of(word) for code, word in levels.items()}
    folded = {code.lower(): sex for code, sex in given.items()}
    said = {
        text: given.get(text, folded.get(text.lower())) for text in found if text in given or text.lower() in folded
    }
    dark = None in said.values() or (None in given.values() and not any(given.values()))
    meaning = {code: sex for code, sex in said.items() if sex is not None}
    if not dark and not any(given.values()):  # the file says nothing of male and female
        meaning = _by_iso(found, source, notes)
    words = {text: _SEX[text.lower()] for text in found if text.lower() in _SEX}
    unclear = {text for text in found if text not in meaning and text not in words}
    if dark:  # what the others mean by themselves would be a guess, such as M of mujer
        unclear = found
    elif _letters_doubtful(found, unclear, given):
        unclear |= {text for text in found if len(text) == 1 and text.isalpha() and text not in meaning}
    if unclear:
        notes.append(
            f"sex of {source.name} has values that could mean either and are left empty: {listed(sorted(unclear))} "
            "(say what they mean with --sex CODE=M --sex CODE=F)"
        )
    read = {text: sex for text, sex in {**words, **meaning}.items() if text not in unclear}
    return [read.get(text, "") for text in texts]


def _letters_doubtful(found: set[str], unclear: set[str], given: Mapping[str, str | None]) -> bool:
    """Whether M or F may be of another language: beside H or W without the other one, or with such levels."""
    letters = {text.lower() for text in found if len(text) == 1 and text.isalpha()}
    foreign = any(
        len(code) == 1 and code.isalpha() and sex and _SEX.get(code.lower()) != sex for code, sex in given.items()
    )
    other = any(len(text) == 1 and text.isalpha() for text in unclear)
    return foreign or (other and not {"m", "f"} <= letters)


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
    first = re.match(r"[^\W\d_]+", text)
    return _SEX.get(first[0]) if first else None
