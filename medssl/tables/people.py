"""Who a row is: ids and sessions in their many spellings, and which rows must stay together in any split."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medssl.errors import UserError
from medssl.tables.missing import cell_text

if TYPE_CHECKING:
    import pandas as pd

GROUP = "family"
"""The column whose rows stay together besides those of one person."""
COPY = "scan_digest"
"""The column of a features table whose rows show one image where they are equal
(see ``medssl.data.manifest.copies``)."""
_EXPONENT = re.compile(r"(\d+)(?:\.(\d+))?e\+?(\d{1,2})")
_BASELINE = frozenset(("baseline", "bl", "base", "m0", "month0", "screening", "sc", "v0", "t0", "y0"))
_SESSION = re.compile(r"([a-z]*?)[ _-]?0*(\d+)")
_LONG = {
    "month": "m",
    "months": "m",
    "visit": "v",
    "session": "",
    "year": "y",
    "years": "y",
    "timepoint": "t",
    "tp": "t",
}
_ENTITY = r"(?:^|[_/\\])({key}-[A-Za-z0-9+]+)"


def bare(label: object, key: str) -> str:
    """A BIDS label without its key: "sub-01" -> "01", in any capitals of the key."""
    text = str(label).strip()
    return text[len(key) + 1 :] if text.lower().startswith(f"{key}-") else text


def entity(path: str, key: str) -> str:
    """The last BIDS label of this key in a path, with its key ("sub-01"), "" where there is none.

    >>> entity("site-A/sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz", "ses"), entity("IXI012-HH.nii", "sub")
    ('ses-2', '')
    """
    found = re.findall(_ENTITY.format(key=key), path)
    return found[-1] if found else ""


def person_key(label: object) -> str:
    """An id as it is compared: without "sub-", small letters, one form of accents.

    >>> person_key("SUB-Ab1") == person_key("ab1"), person_key("01") == person_key("1")
    (True, False)
    """
    return unicodedata.normalize("NFC", bare(label, "sub")).casefold()


def spelling_key(name: object, key: str = "sub") -> str:
    """A name without what people spell differently: capitals, leading zeros, ".0", "sub-", blanks, forms of accents.

    A large number that a spreadsheet wrote with an exponent (1.2E+06) has the key of the number itself.

    Two names with one key may mean the same person (or site, or data set), but need not: 1 and 01 can be two people.
    What merely looks equal (full-width digits, zero-width characters) has one key too; accents themselves count.

    >>> len({spelling_key(name) for name in ("7", "007", "7.0", "sub-07", "SUB-7 ", "\uff17", "7\u200b")})
    1
    >>> spelling_key("A01") == spelling_key("a1"), spelling_key("10") == spelling_key("1"), spelling_key("0")
    (True, False, '0')
    >>> spelling_key("Lübeck") == spelling_key("Lu\u0308beck"), spelling_key("Lübeck") == spelling_key("Lubeck")
    (True, False)
    >>> spelling_key("1.2E+06"), spelling_key("1.25e1"), spelling_key("1e6")
    ('1200000', '1.25e1', '1000000')
    """
    text = str(name)
    if text.isascii() and text.isprintable():  # most names, and nothing below would change them otherwise
        text = " ".join(text.split()).lower()
    else:
        text = unicodedata.normalize("NFKC", text)
        text = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cc") or c.isspace())
        text = unicodedata.normalize("NFKC", " ".join(text.split()).casefold())
    text = re.sub(r"^(\d+)\.0+$", r"\1", bare(text, key) if key else text)
    if (number := _EXPONENT.fullmatch(text)) and len(digits := (number[2] or "").rstrip("0")) <= int(number[3]):
        text = f"{number[1]}{digits.ljust(int(number[3]), '0')}"
    return re.sub(r"(?<![\d.])0+(?=\d)", "", text)


def ascii_if_odd(name: str) -> str:
    """A name in quotes; with its code points where it holds what cannot be seen or told apart by eye.

    >>> ascii_if_odd("Oslo"), ascii_if_odd("Os\\u200blo")
    ("'Oslo'", "'Os\\\\u200blo'")
    """
    return f"'{name}'" if name.isascii() and name.isprintable() else ascii(name)


def id_and_session(label: object) -> tuple[str, str]:
    """A table's "sub-01_ses-02" as ("sub-01", "ses-02"); the session is "" where the id holds none."""
    text = str(label).strip()
    found = re.fullmatch(r"(.+?)[_ ](ses-[A-Za-z0-9+]+)", text, re.IGNORECASE)
    return (found.group(1), found.group(2)) if found else (text, "")


def session_key(label: object) -> str:
    """A session as it is compared, so that 1, 01 and ses-1, M6, M006 and ses-m06, bl and baseline meet.

    >>> session_key("ses-M06") == session_key("m6"), session_key("ses-01") == session_key("1")
    (True, True)
    >>> session_key("1.0")
    '1'
    >>> session_key("BL") == session_key("ses-baseline"), session_key("M12") == session_key("12")
    (True, False)
    """
    text = re.sub(r"(?<=\d)\.0+$", "", bare(cell_text(label), "ses").casefold())
    if text in _BASELINE or re.fullmatch(r"(m|months?|v|visit|t|tp|timepoint|y|years?)[ _-]?0+", text):
        return "baseline"
    found = _SESSION.fullmatch(text)
    if found is None:
        return text
    letters = _LONG.get(found.group(1), found.group(1))
    return f"{letters}{found.group(2)}"


def is_group(name: object) -> bool:
    """Whether a column is called ``family``, in whatever capitals or characters that look the same.

    >>> is_group("FAMILY"), is_group("family\u200b"), is_group("family_history")
    (True, True, False)
    """
    return spelling_key(name, "") == GROUP


def group_column(names: Iterable[object]) -> str | None:
    """The column of families among these: ``family``, or else the first one that is called so in another spelling.

    Where there are several, the families of a row stand in any of them (``family_cells``).

    >>> group_column(["age", "Family"]), group_column(["family_history"])
    ('Family', None)
    """
    found = [str(name) for name in names if is_group(name)]
    return GROUP if GROUP in found else found[0] if found else None


def family_cells(table: pd.DataFrame) -> list[str]:
    """The family of every row (N,) as ``family_name``, "" where none, of whatever columns are called so.

    A cell that is empty in one of several such columns is taken from another. Errors: UserError where two columns
    name two families of one row.
    """
    cells = [""] * len(table)
    first = ""
    for column in [name for name in table.columns if is_group(name)]:
        named = [family_name(value) for value in table[column].tolist()]
        for k, (old, new) in enumerate(zip(cells, named, strict=True)):
            if old and new and old != new:
                raise UserError(
                    f"the columns {first} and {ascii_if_odd(str(column))} name two families of {_who(table, k)}, "
                    f"{ascii_if_odd(old)} and {ascii_if_odd(new)}; leave one of the columns out, or give it a name "
                    "that is not family"
                )
        cells = [old or new for old, new in zip(cells, named, strict=True)]
        first = first or ascii_if_odd(str(column))
    return cells


def _who(table: pd.DataFrame, k: int) -> str:
    """What a message calls a row: its line in the file where the table has it, and who it is."""
    line = f"row {int(table['row'].iloc[k]) if 'row' in table.columns else k + 2}"
    return f"{line} ({table['participant_id'].iloc[k]})" if "participant_id" in table.columns else line


def family_name(value: object) -> str:
    """A family as it is compared: "" where missing, also by a code such as -9; 12.0 is 12, but 012 is another one.

    >>> family_name(12.0), family_name("12.0"), family_name("-9"), family_name("012"), family_name("n/a")
    ('12', '12', '', '012', '')
    """
    text = re.sub(r"^(-?\d+)\.0+$", r"\1", cell_text(value))
    return "" if re.fullmatch(r"-9+", text) else text


def kept_together(subjects: Sequence[object], groups: Sequence[object] | None = None) -> npt.NDArray[np.object_]:
    """A label (N,) for every row such that rows of one person, or of one group (family), share it.

    subjects: (N,) whose scan a row is. groups: (N,) families, "" where none. Where a person belongs to two families,
    or families share a person, all of them stay together. Without any group the labels are the subjects themselves,
    so that splits of cohorts without families stay as they are.
    """
    people = np.array([str(s) for s in subjects], dtype=object)
    if groups is None:
        return people
    families = [family_name(g) for g in groups]
    if not any(families):
        return people
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for person, family in zip(people.tolist(), families, strict=True):
        if family:
            parent[root(f"p\x1f{person}")] = root(f"f\x1f{family}")
    name: dict[str, str] = {}
    for person in people.tolist():  # the first person of a group names it
        name.setdefault(root(f"p\x1f{person}"), person)
    return np.array([name[root(f"p\x1f{person}")] for person in people.tolist()], dtype=object)


def families_of(table: pd.DataFrame) -> npt.NDArray[np.object_]:
    """The family of every row (N,), as "DATASET/FAMILY" where the row names its data set, "" where none.

    Families of different data sets with the same name are different families. Errors: those of ``family_cells``.
    """
    out = np.full(len(table), "", dtype=object)
    if group_column(table.columns) is None:
        return out
    sets = [cell_text(v) for v in table["dataset"].tolist()] if "dataset" in table.columns else [""] * len(table)
    out[:] = [(f"{d}/{f}" if d else f) if f else "" for d, f in zip(sets, family_cells(table), strict=True)]
    return out


def groups_of(table: pd.DataFrame, copies: bool = False) -> npt.NDArray[np.object_]:
    """``kept_together`` of a manifest or the meta data of a features table: by subject (or else id) and family.

    copies: people of whom the column ``COPY``, where there is one, says that they have the same scan are one, too.
    """
    column = "subject" if "subject" in table.columns else "participant_id"
    groups = kept_together(table[column].tolist(), families_of(table).tolist())
    return kept_together(groups.tolist(), table[COPY].tolist()) if copies and COPY in table.columns else groups


def sizes_of(subjects: Sequence[object], groups: Sequence[object]) -> Counter[str]:
    """How many people every group of more than one person has."""
    people = Counter(group for group, _ in set(zip(map(str, groups), map(str, subjects), strict=True)))
    return Counter({group: n for group, n in people.items() if n > 1})


@dataclass(frozen=True)
class Torn:
    """A group with rows on both sides: one row of each. family: what they share, "" where others link them.

    rows: how many rows of the other side belong to groups of the one.
    """

    one: int
    other: int
    family: str
    rows: int

    def linked(self, one: str, other: str) -> str:
        """The beginning of a sentence: who stands where. one, other: the rows with their sides."""
        if self.family:
            return f"family {self.family} is in {one} and in {other}"
        return f"through people who belong to two families, one group is in {one} and in {other}"


def torn(
    groups: npt.NDArray[np.object_],
    families: npt.NDArray[np.object_],
    one: npt.NDArray[np.bool_],
    other: npt.NDArray[np.bool_],
) -> Torn | None:
    """The first group with rows in both masks, one that shares a family by name where there is any; None without.

    groups: of ``groups_of``. families: of ``families_of``.
    """
    inside: dict[str, int] = {}
    named: dict[str, int] = {}
    for row in np.flatnonzero(one).tolist():
        inside.setdefault(groups[row], row)
        named.setdefault(families[row], row)
    named.pop("", None)
    leaks = [row for row in np.flatnonzero(other).tolist() if groups[row] in inside]
    if not leaks:
        return None
    for row in leaks:
        if families[row] in named:
            return Torn(named[families[row]], row, families[row], len(leaks))
    return Torn(inside[groups[leaks[0]]], leaks[0], "", len(leaks))
