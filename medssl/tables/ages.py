"""Ages in years, from the spellings in which tables hold them; which ages are possible, and what units look like."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.tables.missing import CODES, cell_text

OLDEST = 120.0
"""No age [years] above this, or below 0, is possible."""
ADULT = 15.0
"""Where nobody else is younger, an age of exactly 0 stands for a missing one."""
_REACH = 1.5
PER_YEAR = {"years": 1.0, "months": 12.0, "weeks": 365.25 / 7, "days": 365.25}
"""How many of a unit make a year."""
_UNITS = {
    **dict.fromkeys(("y", "yr", "yrs", "year", "years", "yo", "a"), "years"),
    **dict.fromkeys(("m", "mo", "mos", "mon", "month", "months"), "months"),
    **dict.fromkeys(("w", "wk", "wks", "week", "weeks"), "weeks"),
    **dict.fromkeys(("d", "day", "days"), "days"),
}
_CELL = re.compile(
    r"(?P<cap>>=?|≥)?\s*(?P<number>[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?)\s*(?P<unit>[A-Za-z]+\.?)?\s*(?P<more>\+)?"
)
_NAME = re.compile(
    r"age(?:[ _.-]*(?:at)?[ _.-]*(?:scan|mri|visit|session|imaging|acquisition|acq|baseline|assessment))?"
    r"(?:(?:[ _.-]*in[ _.-]*|[ _.-]+|[ _.-]*(?=[(\[]|[A-Za-z]{3}))[(\[]?(?P<unit>[A-Za-z]+)[)\]]?)?",
    re.IGNORECASE,
)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ages:
    """years: (N,) float64, NaN where missing. notes: sentences on what was read otherwise than as a plain number."""

    years: Floats
    notes: tuple[str, ...] = ()


def unit_named(text: object) -> str | None:
    """The unit that a word of a sidecar or a column's name means ("Months", "yr"); None for another word."""
    return _UNITS.get(str(text).strip().lower().rstrip("."))


def age_column(name: str) -> str | None:
    """The unit of a column of ages by its name ("years" where the name says none), None where it is none.

    >>> age_column("AGE_AT_SCAN"), age_column("age_months"), age_column("Age (years)"), age_column("stage")
    ('years', 'months', 'years', None)
    """
    found = _NAME.fullmatch(name.strip())
    if found is None:
        return None
    return "years" if found["unit"] is None else unit_named(found["unit"])


def possible(years: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which ages are known and between 0 and 120 years."""
    ages = np.asarray(years, dtype=np.float64)
    return np.asarray((ages >= 0) & (ages <= OLDEST))


def read_ages(
    cells: Sequence[object], source: str, unit: str = "years", groups: Sequence[object] | None = None
) -> Ages:
    """Ages of cells, one per row, in years.

    Read: numbers, decimal commas, a unit behind the number (35Y, 006M, "6 months"), caps (89+, >89: 89). Emptied:
    missing values, codes such as -999, ages of exactly 0 where nobody else of the group is under 15, and words and
    ranges (18-38). Each kind that is not a plain number or an empty cell is said in ``notes``, with how many there are.
    Impossible ages that are no code (240, -3) stay: ``medssl cohort check`` says what they look like, and what uses
    ages refuses or leaves them out (see ``possible``). source: what notes call the table. unit: of plain numbers.
    groups: (N,) data sets, each judged by itself for zeros.
    """
    years = np.full(len(cells), np.nan)
    kinds: dict[str, list[str]] = {"unit": [], "comma": [], "cap": [], "odd": [], "code": []}
    plain = np.zeros(len(cells), dtype=bool)
    for k, cell in enumerate(cells):
        if isinstance(cell, (int, float, np.number)) and not isinstance(cell, bool):
            years[k], plain[k] = float(cell), True
            continue
        text = cell_text(cell)
        if text:
            years[k], plain[k] = _read(text, kinds)
    years[~np.isfinite(years)] = np.nan
    codes = plain & np.isin(years, CODES) & ~_plausible(years, plain, unit)
    kinds["code"] = [f"{code:g}" for code in years[codes]]
    years[codes] = np.nan
    years[plain] /= PER_YEAR[unit]
    zeros = _zeros_among_adults(years, groups)
    years[zeros] = np.nan
    return Ages(years, tuple(_notes(source, kinds, int(zeros.sum()))))


def _plausible(numbers: Floats, plain: npt.NDArray[np.bool_], unit: str) -> npt.NDArray[np.bool_]:
    """Which numbers of a unit are ages that somebody of this column may have, though they may be codes elsewhere.

    In years the range decides. 999 months or days are an age: it counts as a code where it is twice what any other is,
    or younger than 15 years where nobody else is.
    """
    ages = numbers / PER_YEAR[unit]
    fine = possible(ages)
    others = ages[plain & np.isfinite(ages) & ~np.isin(numbers, CODES)]
    if unit == "years" or not len(others):
        return fine
    lone = (ages >= 2 * others.max()) | ((ages < ADULT) & (others.min() >= ADULT))
    return np.asarray(fine & ~lone)


def _read(text: str, kinds: dict[str, list[str]]) -> tuple[float, bool]:
    """An age in years and False, or a plain number in the column's own unit and True; NaN where it is neither."""
    found = _CELL.fullmatch(text)
    unit = None if found is None or found["unit"] is None else unit_named(found["unit"])
    if found is None or (found["unit"] is not None and unit is None):
        kinds["odd"].append(text)
        return math.nan, False
    number = float(found["number"].replace(",", "."))
    if found["cap"] or found["more"]:
        kinds["cap"].append(text)
    if "," in text:
        kinds["comma"].append(text)
    if unit is None:
        return number, True
    kinds["unit"].append(text)
    return number / PER_YEAR[unit], False


def _zeros_among_adults(years: Floats, groups: Sequence[object] | None) -> npt.NDArray[np.bool_]:
    """Rows whose age is exactly 0 while nobody else of their group is under 15."""
    out = np.zeros(len(years), dtype=bool)
    zero = years == 0
    if not zero.any():
        return out
    names = np.full(len(years), "") if groups is None else np.array([str(g) for g in groups], dtype=str)
    for name in set(names[zero].tolist()):
        inside = names == name
        others = years[inside & ~zero & np.isfinite(years)]
        if len(others) and others.min() >= ADULT:
            out |= inside & zero
    return out


def _notes(source: str, kinds: dict[str, list[str]], zeros: int) -> list[str]:
    """Sentences on what was read and what was left empty."""

    def some(kind: str) -> str:
        different = list(dict.fromkeys(kinds[kind]))
        return "; ".join(different[:5]) + (f" and {len(different) - 5} more" if len(different) > 5 else "")

    def many(n: int) -> str:
        return f"{n} age{'s' if n != 1 else ''} of {source} {'were' if n != 1 else 'was'}"

    notes = []
    if kinds["unit"]:
        notes.append(f"{many(len(kinds['unit']))} read by the unit in the cell: {some('unit')}")
    if kinds["comma"]:
        notes.append(f"{many(len(kinds['comma']))} read with a decimal comma: {some('comma')}")
    if kinds["cap"]:
        notes.append(f"{many(len(kinds['cap']))} capped and read as the cap: {some('cap')}")
    if kinds["odd"]:
        notes.append(f"{many(len(kinds['odd']))} left empty, being ranges or no numbers: {some('odd')}")
    if kinds["code"]:
        notes.append(f"{many(len(kinds['code']))} left empty, being codes of missing values: {some('code')}")
    if zeros:
        notes.append(f"{many(zeros)} left empty, being 0 where nobody else is under {ADULT:g}")
    return notes


def looks_like(years: npt.ArrayLike) -> str:
    """What ages that cannot all be years are likely to be: "months", "days", "years of birth", "" for years.

    Judged where the ages above 120 are no stray typing errors: at least two and a twentieth of those known, and, where
    they are fewer than half, within reach of the others (half as much again as the greatest of them).
    """
    ages = np.asarray(years, dtype=np.float64)
    ages = ages[np.isfinite(ages) & ~np.isin(ages, CODES)]
    above = int((ages > OLDEST).sum())
    if above < max(2, 0.05 * len(ages)) or (ages < 0).any():
        return ""
    if above < len(ages) / 2 and ages[ages > OLDEST].min() > _REACH * ages[ages <= OLDEST].max():
        return ""
    if ((ages >= 1900) & (ages <= 2100) & (ages == np.round(ages))).mean() > 0.95:
        return "years of birth"
    top = float(ages.max())
    return "months" if top <= 12 * OLDEST else "days" if top <= 366 * OLDEST else ""
