"""What participants tables say in many spellings, in the manifest's one: names of columns, sex, age, privacy."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from medssl.data.cohorts.tables import COLUMNS, listed
from medssl.data.manifest_file import split_name
from medssl.errors import ManifestError

_SYNONYMS = {
    "gender": "sex",
    "session_id": "session",
    "age_years": "age",
    "age_at_scan": "age",
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
    (capitals, gender, session_id, age_at_scan, subject_id) need none. sex: the table's code -> "M" or "F".
    Columns whose names mean something else in a manifest (weight, image_*, a split of other words) are renamed.
    What was changed goes to ``notes``. Raises ManifestError where a named column is absent.
    """
    table = _named(table, source, columns or {})
    private = [name for name in table.columns if _PRIVATE.search(name) and name not in COLUMNS]
    if private:
        notes.append(f"left out for privacy: column {', '.join(private)} of {source.name}")
    table = table.drop(columns=[*private, *(["image"] if "image" in table else [])])
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
        table["sex"] = spell_sex(table["sex"], source, notes, sex)
    if "age" in table:
        ages = [_years(text) for text in table["age"]]
        odd = [text for text, age in zip(table["age"], ages, strict=True) if text and math.isnan(age)]
        if odd:
            notes.append(f"{len(odd)} ages of {source.name} are not numbers and are left empty: {listed(odd)}")
        table["age"] = ages
    return table


def _named(table: pd.DataFrame, source: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """The table with the manifest's column names, by the user's words first, then by known spellings."""
    for theirs in columns.values():
        if theirs not in table.columns:
            raise ManifestError(f"{source}: has no column '{theirs}'; its columns are {', '.join(table.columns)}")
    used = set(columns.values())
    replaced = {name: f"given_{name}" for name in columns if name in table.columns and name not in used}
    given, table = table, table.drop(columns=sorted(used)).rename(columns=replaced)
    table = table.assign(**{name: given[theirs] for name, theirs in columns.items()})
    renamed: dict[str, str] = {}
    taken = {*columns, *(name for name in table.columns if name in COLUMNS)}
    for column in table.columns:
        lower = column.lower()
        name = lower if lower in COLUMNS else _SYNONYMS.get(lower, "")
        if name and name not in taken and column not in columns:
            renamed[column] = name
            taken.add(name)
    return table.rename(columns=renamed)


def spell_sex(
    values: Iterable[str], source: Path, notes: list[str], codes: Mapping[str, str] | None = None
) -> list[str]:
    """M and F for m, male, f, female (any capitals); 1 and 2 (male, female) where both and no other code occur.

    codes: what the table's words mean; else the Levels of a JSON file of the same name decide. Values that remain
    unclear are left empty, with a note.
    """
    texts = [value.strip().removesuffix(".0") for value in values]
    found = set(texts) - {""}
    known = dict(codes or _sidecar_levels(source, ("sex", "gender")))
    meaning = known if known and found <= set(known) else {}
    if not meaning and found == {"1", "2"}:
        notes.append(f"sex of {source.name} was read as 1 = male, 2 = female")
        meaning = {"1": "M", "2": "F"}
    unclear = sorted(word for word in found if word not in meaning and word.lower() not in _SEX)
    if unclear:
        notes.append(
            f"sex of {source.name} has values that could mean either and are left empty: {listed(unclear)} "
            "(say what they mean with --sex CODE=M --sex CODE=F)"
        )
    return [meaning.get(text, _SEX.get(text.lower(), "")) for text in texts]


def _sidecar_levels(source: Path, names: Sequence[str]) -> dict[str, str]:
    """Code -> M or F as declared in the JSON file beside a BIDS table; {} where it says nothing usable."""
    try:
        sidecar = json.loads(source.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = {str(key).lower(): value for key, value in sidecar.items()} if isinstance(sidecar, dict) else {}
    for name in names:
        entry = entries.get(name)
        levels = entry.get("Levels") if isinstance(entry, dict) else None
        if isinstance(levels, dict):
            spelled = {str(code): _SEX.get(str(word).strip().lower(), "") for code, word in levels.items()}
            return {code: sex for code, sex in spelled.items() if sex}
    return {}


def _years(text: str) -> float:
    """Age in years; "89+" (BIDS' cap) is 89; a decimal comma is a decimal point; other text is NaN."""
    try:
        years = float(text.removesuffix("+").replace(",", "."))
    except ValueError:
        return float("nan")
    return years if math.isfinite(years) else float("nan")
