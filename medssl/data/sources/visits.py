"""Which rows of a table speak of which visit of a person: sessions in their many spellings."""

from __future__ import annotations

from collections.abc import Sequence

from medssl.errors import ManifestError
from medssl.tables.people import bare, session_key

Named = Sequence[tuple[str, str]]
"""(session in the table, session of the folder) as the user says them; "none" where the table has no row of a visit."""
NONE = "none"


def rows_of_visits(folder: Sequence[str], table: Sequence[str], named: Named = ()) -> dict[str, list[int]]:
    """For every session of the folder the rows (positions in ``table``) that name it, of one person.

    folder: labels without "ses-", "" where there is none. table: labels as they are written there. The same spelling
    wins; else 1, 01 and ses-1 meet, and so on (see ``session_key``). Errors: ValueError with the two sessions that one
    spelling of the table may mean.
    """
    theirs = {session_key(a): bare(b, "ses") for a, b in named if a.lower() != NONE}
    rows = [theirs.get(session_key(label), bare(label, "ses")) if label else "" for label in table]
    met = {visit: [k for k, label in enumerate(rows) if label == visit] for visit in folder if visit}
    for k, label in enumerate(rows):
        if not label or label in met:
            continue
        near = [visit for visit in met if session_key(visit) == session_key(label)]
        free = [visit for visit in near if not any(rows[other] == visit for other in met[visit])]
        if len(free) > 1:
            raise ValueError(f"session {table[k]} of the table may be {' or '.join(f'ses-{visit}' for visit in free)}")
        for visit in free:
            met[visit].append(k)
    return met


def without_rows(named: Named) -> set[str]:
    """Sessions of the folder (as compared) of which the user says that the table has no row."""
    return {session_key(b) for a, b in named if a.lower() == NONE}


class Unmet:
    """People none of whose sessions in the table meets one of theirs in the folder."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.people: list[tuple[str, list[str], list[str]]] = []
        self.unclear: list[tuple[str, str]] = []

    def add(self, person: str, table: Sequence[str], folder: Sequence[str]) -> None:
        """Take note of a person, with the sessions in the table and those in the folder."""
        self.people.append((person, list(dict.fromkeys(table)), list(dict.fromkeys(folder))))

    def refuse(self) -> None:
        """Raise ManifestError for the first such people, with both spellings and the remedy."""
        if self.unclear:
            person, reason = self.unclear[0]
            raise ManifestError(
                f"{self.source} ({person}): {reason}; say which with --session THEIRS=FOLDERS, or spell it alike"
            )
        if not self.people:
            return
        person, table, folder = self.people[0]
        pairs: dict[tuple[str, str], int] = {}
        for _, theirs, visits in self.people:
            for pair in zip(theirs, visits, strict=False):
                pairs[pair] = pairs.get(pair, 0) + 1
        likely = max(pairs, key=lambda pair: pairs[pair])
        ours = ", ".join("ses-" + bare(visit, "ses") for visit in folder[:6])
        others = f" (and so of {len(self.people) - 1} more)" if len(self.people) > 1 else ""
        raise ManifestError(
            f"{self.source}: no session of {person} in the table ({', '.join(table[:6])}) meets one in the folder "
            f"({ours}){others}; say which is which with "
            f"--session THEIRS=FOLDERS, such as --session {likely[0]}=ses-{likely[1]} (repeatable; --session "
            f"{NONE}=ses-{likely[1]} where the table has no row of that visit)"
        )
