"""People of a table and people of a folder: whose row is whose image, however the ids are spelled."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from medssl.data.sources.tables import FORMULA, listed
from medssl.errors import ManifestError, count
from medssl.tables.missing import is_missing
from medssl.tables.people import bare, id_and_session, person_key, session_key

_SHOWN = 5


def split_ids(persons: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The table with "sub-01_ses-02" in participant_id as participant sub-01 and session ses-02.

    Rows whose column session says another one are named and left out. Errors: ManifestError where all of them do.
    """
    if "participant_id" not in persons:
        return persons
    split = [id_and_session(label) for label in persons["participant_id"]]
    held = [str(label) for label, (_, visit) in zip(persons["participant_id"], split, strict=True) if visit]
    if not held:
        return persons
    given = persons["session"].tolist() if "session" in persons else [""] * len(persons)
    odd = [
        k
        for k, (there, (_, visit)) in enumerate(zip(given, split, strict=True))
        if there and visit and session_key(there) != session_key(visit)
    ]
    if odd:
        rows = listed([f"{persons['participant_id'].iloc[k]} with session {given[k]}" for k in odd])
        if len(odd) == len(held):
            raise ManifestError(
                f"the participants table's ids hold other sessions than its column session: {rows}; correct one of "
                "them, or name the column of sessions with --column session=THEIRS"
            )
        notes.append(
            f"{count(len(odd), 'row')} of the participants table not used, since the id holds another session than the "
            f"column session: {rows}"
        )
        kept = [k for k in range(len(persons)) if k not in set(odd)]
        return split_ids(persons.iloc[kept].reset_index(drop=True), notes)
    notes.append(f"{count(len(held), 'id')} of the participants table hold a session, which was read: {listed(held)}")
    sessions = [there or visit for there, (_, visit) in zip(given, split, strict=True)]
    return persons.assign(participant_id=[label for label, _ in split], session=sessions)


class People:
    """The people of a folder (labels, with or without "sub-"), to be met by an id as a table writes it."""

    def __init__(self, labels: Iterable[str], written: Iterable[str] = ()) -> None:
        """written: every id of the table, since one that meets somebody exactly keeps others from guessing them."""
        self.labels = {bare(label, "sub") for label in labels}
        exact = {bare(label, "sub") for label in written} & self.labels
        self._numbers: dict[int, set[str]] = {}
        self._keys: dict[str, set[str]] = {}
        for label in self.labels - exact:
            if (number := _number(label)) is not None:
                self._numbers.setdefault(number, set()).add(label)
            self._keys.setdefault(person_key(label), set()).add(label)

    def met(self, written: str) -> tuple[str, str]:
        """Whom an id means, "" for nobody, and how it was met: "", "number" or "capitals"."""
        label = bare(written, "sub")
        if label in self.labels:
            return label, ""
        number = _number(label)
        ways = [] if number is None else [("number", self._numbers.get(number, set()))]
        for way, found in [*ways, ("capitals", self._keys.get(person_key(label), set()))]:
            if len(found) == 1:
                return next(iter(found)), way
        return "", ""


def _number(label: str) -> int | None:
    """The number that an id is: 7 of 007, and of 7.0 as a spreadsheet writes it."""
    found = re.fullmatch(r"(\d+)(?:\.0+)?", label)
    return int(found.group(1)) if found else None


def met_people(written: Sequence[str], labels: Sequence[str], notes: list[str]) -> list[str]:
    """Whom each id of a table means among the people of a folder, "" for nobody; guesses are said in ``notes``.

    Two ids of the table that could only be guessed to be the same person are not met.
    """
    people = People(labels, written)
    found = [people.met(str(label)) for label in written]
    claims: dict[str, set[str]] = {}
    for label, (who, way) in zip(written, found, strict=True):
        if way:
            claims.setdefault(who, set()).add(bare(label, "sub"))
    found = [("", "") if way and len(claims[who]) > 1 else (who, way) for who, way in found]
    for way, words in (
        ("number", "lack the zeros in front and were matched by number"),
        ("capitals", "are written in other letters than in the folder and were matched"),
    ):
        guessed = [str(label) for label, (_, by) in zip(written, found, strict=True) if by == way]
        if guessed:
            notes.append(f"{len(guessed)} ids of the participants table {words}: {listed(guessed)}")
    return [who for who, _ in found]


def say_unmatched(lone: Sequence[str], unseen: Sequence[str], notes: list[str]) -> None:
    """Say which images have no row and which rows no image, with the nearest id of the other side where one is near."""
    people = list(dict.fromkeys(lone))
    if lone:
        of = f" of {count(len(people), 'person', 'people')}" if len(people) < len(lone) else ""
        have = "has" if len(lone) == 1 else "have"
        notes.append(
            f"{count(len(lone), 'image')}{of} {have} no row in the participants table, so no age, sex or site: "
            f"{listed(people)}{_nearest(people, unseen)}"
        )
    if unseen:
        notes.append(
            f"{len(unseen)} rows of the participants table have no image: {listed(unseen)}{_nearest(unseen, lone)}"
        )


def _nearest(these: Sequence[str], others: Sequence[str]) -> str:
    """ " (did you mean X for Y?)" for the first of these ids that have a near one on the other side."""
    keys: Mapping[str, str] = {person_key(other): str(other) for other in others}
    found = []
    for label in these[:_SHOWN]:
        key = person_key(label)
        near = [other for other in difflib.get_close_matches(key, keys, n=3, cutoff=0.6) if _alike(key, other)]
        near += [other for other in keys if not near and len(keys) < 2000 and _inside(key, other)][:1]
        if near:
            found.append(f"{keys[near[0]]} for {label}")
    return f" (did you mean {', '.join(found)}?)" if found else ""


def _alike(one: str, other: str) -> bool:
    """Whether two similar ids may be the same: by their numbers, so that 012 and 013 are two people."""
    a, b = ([int(n) for n in re.findall(r"\d+", key)] for key in (one, other))
    return a == b if a or b else difflib.SequenceMatcher(None, one, other).ratio() > 0.7


def _inside(one: str, other: str) -> bool:
    """Whether one id ends with the other, where that is long enough to mean something."""
    short, long = sorted((one.lstrip("0"), other.lstrip("0")), key=len)
    return len(short) > 1 and long.endswith(short)


def named_id(label: str) -> str:
    """A participant's id as a manifest can hold it: NA is read as missing there, and a spreadsheet runs =1+1.

    >>> named_id("NA"), named_id("=1+1"), named_id("007")
    ('sub-NA', 'sub-=1+1', '007')
    """
    return f"sub-{label}" if label and (is_missing(label) or label.startswith(FORMULA)) else label
