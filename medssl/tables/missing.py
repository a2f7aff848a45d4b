"""The one vocabulary of missing values: words, and codes such as -999 where no value of the column can be that."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

WORDS = frozenset(
    ("", "n/a", "#n/a", "n.a.", "na", "nan", "<na>", "none", "null", "nil", ".", "-", "--", "?", "unknown", "unk")
) | frozenset(("not available", "not applicable", "not known", "not recorded", "not reported", "missing"))
"""Words, in lower case, that stand for a missing value in any column."""
CODES = (-9.0, -99.0, -999.0, -9999.0, 999.0)
"""Numbers that stand for a missing value where no other value of the column comes near them."""
WORDS_ONLY = ("participant_id", "session", "subject", "family", "image", "mask", "weight", "age")
"""Columns where no code counts: 999 may be somebody's number, a weight of -9 is a mistake, ages know their range."""
_PLAIN = frozenset(("", "n/a", "nan", "<na>"))
_FAR = 2.0


def is_missing(value: object) -> bool:
    """Whether a cell is empty, NaN, or a word for "missing", in any capitals.

    >>> is_missing("N/A"), is_missing(" . "), is_missing(float("nan")), is_missing("0")
    (True, True, True, False)
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return str(value).strip().lower() in WORDS


def cell_text(value: object) -> str:
    """A cell as text: "" where missing, whole numbers without ".0", no blanks around it.

    >>> cell_text(3.0), cell_text(" 007 "), cell_text("n/a"), cell_text(None)
    ('3', '007', '', '')
    """
    if is_missing(value):
        return ""
    if isinstance(value, Real) and not isinstance(value, Integral) and float(value).is_integer():
        value = int(float(value))
    return str(value).strip()


def codes_among(numbers: Iterable[float], low: float | None = None, high: float | None = None) -> frozenset[float]:
    """Which of ``CODES`` mean "missing" in a column that holds these numbers.

    low, high: the possible range, where it is known (ages); then every code outside it counts. Without one the other
    values tell: a negative code counts where none of them is negative, 999 where none is above half of it.

    >>> sorted(codes_among([101.0, 87.0, 999.0, -9.0]))
    [-9.0, 999.0]
    >>> sorted(codes_among([-12.0, 700.0, 999.0, -9.0]))
    []
    """
    found = {float(n) for n in numbers if math.isfinite(n)}
    codes, others = found & set(CODES), found - set(CODES)
    if low is not None or high is not None:
        below, above = -math.inf if low is None else low, math.inf if high is None else high
        return frozenset(code for code in codes if not below <= code <= above)
    least, most = min(others, default=0.0), max(others, default=math.inf)
    return frozenset(c for c in codes if (c < 0 and least >= 0) or (c > 0 and abs(most) * _FAR <= c))


def without_missing(cells: Sequence[str], column: str = "", own: Iterable[str] = ()) -> tuple[list[str], Counter[str]]:
    """The cells of a column with "" where missing, and how often each spelling was emptied (plain ones uncounted).

    column: its name in a manifest; in columns of people's ids, families and files only words count. own: the column's
    own codes (of a JSON sidecar). Codes count as ``codes_among`` says where every filled cell is a number; in a column
    of words the negative ones count. Ages are read by ``medssl.tables.ages``, which knows their range.

    >>> without_missing(["1", "-9", " NA ", "2"], "iq")
    (['1', '', '', '2'], Counter({'-9': 1, 'NA': 1}))
    """
    stripped = [str(cell).strip() for cell in cells]
    different = set(stripped)
    missing = {cell for cell in different if cell.lower() in WORDS}
    texts = {str(code).strip() for code in own}
    values = {number for text in texts if (number := _number(text)) is not None}
    missing |= {cell for cell in different if cell in texts or _number(cell) in values}
    if column not in WORDS_ONLY and not column.startswith("image_"):
        numbers = {cell: number for cell in different - missing if (number := _number(cell)) is not None}
        if len(numbers) == len(different - missing):
            codes = codes_among(numbers.values())
        else:
            codes = frozenset(code for code in CODES if code < 0)
        missing |= {cell for cell, number in numbers.items() if number in codes}
    counts = Counter(cell for cell in stripped if cell in missing and cell.lower() not in _PLAIN)
    return [("" if cell in missing else cell) for cell in stripped], counts


def said_missing(source: str, counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """One sentence on the spellings that were read as missing, by column; none where there was nothing to say.

    >>> said_missing("a.csv", {"site": {"-9": 2}})
    ['2 cells of a.csv were read as missing: site "-9" (2)']
    """
    parts = [f'{name} "{word}" ({n})' for name, words in counts.items() for word, n in words.items()]
    total = sum(n for words in counts.values() for n in words.values())
    if not total:
        return []
    shown = ", ".join(parts[:8]) + (f" and {len(parts) - 8} more" if len(parts) > 8 else "")
    names = [name for name, words in counts.items() if any(w.lower() in ("na", "none", "unknown") for w in words)]
    kept = [name for name in names if name in ("site", "dataset", "diagnosis")]
    rename = f"; where NA or none is a name there, write another one, such as {kept[0]}-NA" if kept else ""
    many = f"{total} cells of {source} were" if total != 1 else f"1 cell of {source} was"
    return [f"{many} read as missing: {shown}{rename}"]


def sidecar_codes(entry: Any) -> list[str]:
    """The codes that a column's entry in a JSON sidecar calls missing.

    Read from Levels whose meaning is a word for "missing" ({"9": "not available"}), and from the keys
    MissingValue, MissingValues, NoDataValue and NA (a value or a list).
    """
    if not isinstance(entry, Mapping):
        return []
    levels = entry.get("Levels")
    found = [str(code) for code, word in levels.items() if _means_missing(word)] if isinstance(levels, Mapping) else []
    for key in entry:
        if str(key).lower().replace("_", "") in ("missingvalue", "missingvalues", "nodatavalue", "na", "missing"):
            value = entry[key]
            found += [
                str(v) for v in (value if isinstance(value, list) else [value]) if isinstance(v, (str, int, float))
            ]
    return list(dict.fromkeys(found))


def _means_missing(word: Any) -> bool:
    text = str(word).strip().lower()
    if text in ("none", "nil", "-"):  # "none" of a symptom or a drug is an answer
        return False
    return bool(text) and (text in WORDS or text in ("no data", "refused", "not collected", "missing value"))


def _number(cell: str) -> float | None:
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
