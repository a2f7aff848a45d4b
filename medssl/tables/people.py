"""Who a row is: ids and sessions in their many spellings, and which rows must stay together in any split."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medssl.tables.missing import cell_text

if TYPE_CHECKING:
    import pandas as pd

GROUP = "family"
"""The column whose rows stay together besides those of one person."""
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
    if text in _BASELINE or re.fullmatch(r"(m|month|months)[ _-]?0+", text):
        return "baseline"
    found = _SESSION.fullmatch(text)
    if found is None:
        return text
    letters = _LONG.get(found.group(1), found.group(1))
    return f"{letters}{found.group(2)}"


def kept_together(subjects: Sequence[object], groups: Sequence[object] | None = None) -> npt.NDArray[np.object_]:
    """A label (N,) for every row such that rows of one person, or of one group (family), share it.

    subjects: (N,) whose scan a row is. groups: (N,) families, "" where none. Where a person belongs to two families,
    or families share a person, all of them stay together. Without any group the labels are the subjects themselves,
    so that splits of cohorts without families stay as they are.
    """
    people = np.array([str(s) for s in subjects], dtype=object)
    if groups is None:
        return people
    families = [cell_text(g) for g in groups]
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


def groups_of(table: pd.DataFrame) -> npt.NDArray[np.object_]:
    """``kept_together`` of a manifest or the meta data of a features table: by subject (or else id) and ``family``.

    Families of different data sets with the same name are different families.
    """
    column = "subject" if "subject" in table.columns else "participant_id"
    subjects = table[column].tolist()
    if GROUP not in table.columns:
        return kept_together(subjects)
    families = [cell_text(v) for v in table[GROUP].tolist()]
    sets = [cell_text(v) for v in table["dataset"].tolist()] if "dataset" in table.columns else [""] * len(families)
    return kept_together(subjects, [f"{d}/{f}" if f else "" for d, f in zip(sets, families, strict=True)])
