"""What tables say of every image: by person and visit, and nothing where rows of one person contradict each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from medssl.data.sources.match import met_people, say_unmatched
from medssl.data.sources.tables import listed
from medssl.data.sources.visits import Named, Unmet, rows_of_visits, without_rows
from medssl.errors import count
from medssl.tables.people import bare, session_key

_FOR_LIFE = ("sex", "dataset", "subject", "family")
"""Columns that hold for every visit: a visit without a row takes them from the person's others. All but sex say who
somebody is, so that one person with and without them would become two."""


def merge_persons(
    images: pd.DataFrame,
    persons: pd.DataFrame | None,
    notes: list[str],
    sessions: Named = (),
    source: str = "the participants table",
) -> pd.DataFrame:
    """Images with the columns of the participants table, joined by id (with or without "sub-") and session.

    Ids that lost their leading zeros in a spreadsheet, or stand in other capitals, are found where they can mean one
    participant only. Errors: ManifestError where none of a person's sessions in the table meets one in the folder.
    """
    if persons is None:
        notes.append("no participants table was found: the manifest has no age, sex or site")
        return images
    labels = list(dict.fromkeys(str(label) for label in images["participant_id"]))
    whose = met_people([str(label) for label in persons["participant_id"]], labels, notes)
    extra, found = rows_joined(images, persons, whose, notes, sessions, source)
    lone = [str(label) for label, known in zip(images["participant_id"], found, strict=True) if not known]
    unseen = [str(label) for label, who in zip(persons["participant_id"], whose, strict=True) if not who]
    say_unmatched(lone, list(dict.fromkeys(unseen)), notes)
    return pd.concat([images, extra], axis=1)


@dataclass
class _Said:
    """What is to be said of the joining."""

    visits: list[str] = field(default_factory=list)
    contradictions: dict[str, None] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    alike: list[str] = field(default_factory=list)
    columns: dict[str, None] = field(default_factory=dict)


def rows_joined(
    images: pd.DataFrame,
    persons: pd.DataFrame,
    whose: Sequence[str],
    notes: list[str],
    sessions: Named = (),
    source: str = "the participants table",
) -> tuple[pd.DataFrame, list[bool]]:
    """The table's columns for every image, and whether the table knows its person.

    whose: the bare label of the person of each row, "" for nobody. Errors: see ``merge_persons``.
    """
    named = "session" in persons
    visits_R = [str(v).strip() for v in persons["session"]] if named else [""] * len(persons)
    rows_of: dict[str, list[int]] = {}
    for row, label in enumerate(whose):
        if label:
            rows_of.setdefault(label, []).append(row)
    images_of: dict[str, list[int]] = {}
    for at, label in enumerate(images["participant_id"]):
        images_of.setdefault(bare(label, "sub"), []).append(at)
    visits_I = [bare(v, "ses") for v in images["session"]]
    extra = persons.drop(columns=["participant_id", "session"], errors="ignore").astype(object)
    at_I = [-1] * len(images)
    many: dict[int, tuple[list[int], str]] = {}
    lives: dict[int, tuple[list[int], str]] = {}
    said, unmet = _Said(), Unmet(str(persons.attrs.get("file", source)))
    for label, places in images_of.items():
        rows = rows_of.get(label, [])
        if not rows:
            continue
        person = str(images["participant_id"].iloc[places[0]])
        if len(rows) > 1 or visits_R[rows[0]]:
            lives |= dict.fromkeys(places, (rows, person))
        chosen = _chosen(person, rows, visits_R, [visits_I[at] for at in places], sessions, said, unmet)
        for at, ones in zip(places, chosen, strict=True):
            at_I[at] = ones[0] if len(ones) == 1 else -1
            if len(ones) > 1:
                many[at] = (ones, person)
    unmet.refuse()
    given = {str(name): extra[name].tolist() for name in extra.columns}
    cells = {name: [values[row] if row >= 0 else None for row in at_I] for name, values in given.items()}
    for at, (ones, person) in many.items():
        _combine(cells, at, ones, given, person, visits_R, visits_I[at], said)
    for at, (ones, person) in lives.items():
        _for_life(cells, at, ones, given, person, said)
    _say(said, source, notes)
    columns = {}
    for name, values in cells.items():
        column = pd.Series(values, index=images.index, dtype=object)
        columns[name] = column.astype(float) if name == "age" else column.fillna("")
    return pd.DataFrame(columns, index=images.index), [
        bool(rows_of.get(bare(label, "sub"))) for label in images["participant_id"]
    ]


def _chosen(
    person: str,
    rows: Sequence[int],
    visits_R: Sequence[str],
    visits: Sequence[str],
    sessions: Named,
    said: _Said,
    unmet: Unmet,
) -> list[list[int]]:
    """The rows of the table that speak of each image of a person."""
    if len(rows) == 1 and not visits_R[rows[0]]:
        if len({session_key(visit) for visit in visits if visit}) > 1:
            said.alike.append(person)
        return [list(rows)] * len(visits)
    table = [visits_R[row] for row in rows]
    always = [row for row, visit in zip(rows, table, strict=True) if not visit]
    folder = list(dict.fromkeys(visits))
    try:
        met = rows_of_visits(folder, table, sessions)
    except ValueError as error:
        unmet.unclear.append((person, str(error)))
        return [[] for _ in visits]
    allowed = without_rows(sessions)
    named = [visit for visit in folder if visit and session_key(visit) not in allowed]
    if named and not always and not any(met[visit] for visit in folder if visit):
        unmet.add(person, table, named)
    out = []
    for visit in visits:
        ones = [rows[k] for k in met[visit]] if visit else list(rows)
        if visit and not ones and not always:
            said.visits.append(f"{person} ses-{visit}")
        out.append(ones or always)
    return out


def _agreed(values: Sequence[Any]) -> tuple[Any, list[str]]:
    """The one value of some cells, None where there is none; and the different ones as text where there are several."""
    different = list(dict.fromkeys(value for value in values if value != "" and value == value))
    if len(different) > 1:
        return None, [f"{value:g}" if isinstance(value, float) else str(value) for value in different]
    return (different[0] if different else None), []


def _combine(
    cells: dict[str, list[Any]],
    at: int,
    rows: Sequence[int],
    given: dict[str, list[Any]],
    person: str,
    visits_R: Sequence[str],
    visit: str,
    said: _Said,
) -> None:
    """Fill an image's cells with the values on which several rows agree."""
    over_visits = len({session_key(visits_R[row]) for row in rows}) > 1
    where = f"{person} ses-{visit}" if visit else person
    odd = []
    for name in cells:
        value, different = _agreed([given[name][row] for row in rows])
        cells[name][at] = value
        if different and name != "sex":
            odd.append(f"{name} {' and '.join(different)}")
            if over_visits:
                said.columns[name] = None
    if odd and over_visits:
        said.undecided.append(person)
    elif odd:
        said.contradictions |= dict.fromkeys(f"{where} {words}" for words in odd)
    elif not over_visits:
        said.repeated.append(where)


def _for_life(
    cells: dict[str, list[Any]], at: int, rows: Sequence[int], given: dict[str, list[Any]], person: str, said: _Said
) -> None:
    """What holds for every visit: taken from the person's other rows where they agree; no sex where they do not."""
    for name in _FOR_LIFE:
        if name not in cells:
            continue
        value, different = _agreed([given[name][row] for row in rows])
        if different and name == "sex":
            cells[name][at] = None
            said.contradictions[f"{person} sex {' and '.join(different)}"] = None
        elif value is not None:
            cells[name][at] = value


def _say(said: _Said, source: str, notes: list[str]) -> None:
    if said.contradictions:
        notes.append(
            f"rows of one person in {source} contradict each other, and these values were left empty: "
            f"{listed(list(said.contradictions))}"
        )
    if said.repeated:
        repeated = list(dict.fromkeys(said.repeated))
        notes.append(f"{len(repeated)} ids have several rows in {source}, which agree: {listed(repeated)}")
    if said.visits:
        notes.append(
            f"{count(len(said.visits), 'visit')} without a row in {source}, where the person has rows of other visits: "
            f"no age and no other value but sex was taken from those: {listed(said.visits)}"
        )
    if said.alike:
        notes.append(
            f"{count(len(said.alike), 'person', 'people')} with several visits have one row without a session in "
            f"{source}: its age and other values stand at every visit, where no sessions.tsv says more: "
            f"{listed(said.alike)}"
        )
    if said.undecided:
        people = list(dict.fromkeys(said.undecided))
        notes.append(
            f"the images of {count(len(people), 'person', 'people')} name no session, where {source} has rows of "
            f"several: values that differ were left empty ({', '.join(said.columns)}): {listed(people)}"
        )
