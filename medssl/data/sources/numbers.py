"""Which number of a file's name is its person: judged over all files that are named alike."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

NOISE = re.compile(
    r"(?<![A-Za-z0-9])(T[12]w?|[\d.]+mm|\d(\.\d)?T|(run|ses|acq|echo|rec|space|desc|res)-[A-Za-z0-9]+)(?![A-Za-z0-9])"
)
"""What describes an image: no number in it is anybody's."""
_NOT_PEOPLE = re.compile(
    r"(ses|session|visit|v|run|echo|acq|rec|month|months|m|week|day|year|y|tp|timepoint|time|wave|followup|fu|part|inv)",
    re.IGNORECASE,
)
_WEAK = re.compile(
    r"(scan|study|site|cent(er|re)|group|grp|batch|img|image|anat|series|version|scanner|release|cohort|arm|project)",
    re.IGNORECASE,
)
_PEOPLE = re.compile(r"(sub|subj|subject|participant|patient|pat|person|id|pid|control|case)", re.IGNORECASE)
_LONG = 4
"""An id of so many digits is no number of a visit, a run or a study."""


@dataclass(frozen=True)
class Whose:
    """label: the id that a name holds, "" for none. between: the ids of which it could be either.

    exact: whether the name holds it as the table writes it, not 03 for 3.
    """

    label: str = ""
    between: tuple[str, ...] = ()
    exact: bool = True


def longest_id(text: str, ids: Mapping[str, str]) -> str:
    """The value of the longest id that stands in one text by itself, not inside a longer number or word; see
    ``ids_in``."""
    return ids_in([text], ids)[0].label


def ids_in(texts: Sequence[str], ids: Mapping[str, str]) -> list[Whose]:
    """Whose each text (path without its suffix) is.

    Ids with letters or signs come first, the longest of them; sub-1 is not found in sub-10, 012 is found in IXI012.
    Plain numbers are not looked for in descriptions such as T1w or 4mm; a number with zeros in front (012) also finds
    the id without them (12). Where names hold several numbers, the place that tells files named alike apart decides
    for all of them (see ``_place``). The pieces of a text are looked up, so that the time does not grow with the ids.
    """
    out = [Whose(_word_in(text, ids)) for text in texts]
    alike: dict[str, list[int]] = {}
    for at, text in enumerate(texts):
        if not out[at].label:
            alike.setdefault(re.sub(r"\d+", "#", NOISE.sub(" ", text).replace("#", " ")), []).append(at)
    for pattern, places in alike.items():
        rows = [re.findall(r"\d+", NOISE.sub(" ", texts[at])) for at in places]
        for at, whose in zip(places, _of_pattern(pattern, rows, ids), strict=True):
            out[at] = whose
    return out


def _word_in(text: str, ids: Mapping[str, str]) -> str:
    """The value of the longest id in a text that is more than a number, by the name before its folders; "" if none."""
    folders, _, name = text.rpartition("/")
    for part in (name, folders):
        found = max((piece for piece in _pieces(part) if piece in ids and not piece.isdigit()), key=len, default="")
        if found:
            return ids[found]
    return ""


def _pieces(text: str) -> Iterator[str]:
    """Every run of whole numbers, whole words and signs in the text, from left to right."""
    parts = re.findall(r"\d+|[^\W\d_]+|.", text, flags=re.DOTALL)
    for start in range(len(parts)):
        for stop in range(start + 1, len(parts) + 1):
            yield "".join(parts[start:stop])


def _meets(number: str, ids: Mapping[str, str]) -> str:
    """The id that a number is, as it stands or without zeros in front."""
    return ids.get(number) or (ids.get(number.lstrip("0"), "") if len(number) > 1 else "")


def _of_pattern(pattern: str, rows: Sequence[Sequence[str]], ids: Mapping[str, str]) -> list[Whose]:
    """Whose the files of one naming pattern are. rows: the numbers of each name, as many as the pattern has places."""
    columns = [[_meets(row[k], ids) for row in rows] for k in range(pattern.count("#"))]
    usable = _usable(pattern, columns)
    if not usable:
        return [Whose()] * len(rows)
    place = _place(usable, columns, rows)
    if place is not None:
        return [Whose(label, (), row[place] in ids) for label, row in zip(columns[place], rows, strict=True)]
    out = []
    for at in range(len(rows)):
        found = tuple(dict.fromkeys(columns[k][at] for k in usable if columns[k][at]))
        whole = len(found) == 1 and all(columns[k][at] for k in usable)
        exact = any(rows[at][k] in ids for k in usable)
        out.append(Whose(found[0], (), exact) if whole else Whose("", found))
    return out


def _usable(pattern: str, columns: Sequence[Sequence[str]]) -> list[int]:
    """Places whose numbers meet ids and are no visits or runs; those that are called a person's alone, if any are."""
    before = re.split("#", pattern)[:-1]
    words = [re.search(r"([A-Za-z]*)[ _-]?$", text).group(1) for text in before]  # type: ignore[union-attr]
    met = [k for k, column in enumerate(columns) if any(column)]
    called = [k for k in met if _PEOPLE.fullmatch(words[k])]
    if called:
        return called
    strong = [k for k in met if not _NOT_PEOPLE.fullmatch(words[k]) or (k == 0 and len(before[0]) == 1)]
    return [k for k in strong if not _WEAK.fullmatch(words[k])] or (strong if len(columns) == 1 else [])


def _place(usable: Sequence[int], columns: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> int | None:
    """The one place that can name people; None where that stays open.

    Of several, the one with long ids; else those that differ between files; of these the one that gives every file
    that it meets a person of its own, where it meets no fewer files than the others.
    """
    long = [
        k for k in usable if all(len(row[k].lstrip("0")) >= _LONG for row, c in zip(rows, columns[k], strict=True) if c)
    ]
    left = long if len(long) == 1 else list(usable)
    varying = [k for k in range(len(columns)) if len({row[k] for row in rows}) > 1]
    if len(rows) > 1 and varying and left != long:
        left = [k for k in left if k in varying]
    if len(left) == 1:
        return left[0]
    met = {k: [label for label in columns[k] if label] for k in left}
    own = [k for k in left if len(set(met[k])) == len(met[k]) > 1]
    if len(own) == 1 and all(len(met[own[0]]) >= len(met[k]) for k in left):
        return own[0]
    return None
