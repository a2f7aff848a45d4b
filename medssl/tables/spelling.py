"""Names that may be one name in two spellings: ids of people, families, sites and data sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medssl.tables.missing import cell_text
from medssl.tables.people import ascii_if_odd, families_of, family_cells, spelling_key

if TYPE_CHECKING:
    import pandas as pd

SAME_OR_NOT = (
    "write one spelling where they are the same person, and fill the column dataset with different names (or the "
    "column subject) where they are not"
)
"""What to do about ids that may be one person's."""
FAMILY_OR_NOT = (
    "write one spelling where they are the same family, and names that differ in more than their spelling (or fill the "
    "column dataset with different names) where they are not"
)
"""What to do about families that may be one."""
_LISTED = 3


@dataclass(frozen=True)
class Alike:
    """Two rows whose names may be one. one, other: the rows, that of a training row first where they stand apart.

    names: how each spells it. apart: whether one is in train and the other in a test split.
    """

    one: int
    other: int
    names: tuple[str, str]
    apart: bool


def alike_people(
    ids: Sequence[str],
    datasets: Sequence[str],
    subjects: Sequence[str],
    train: npt.NDArray[np.bool_],
    test: npt.NDArray[np.bool_],
    sources: Sequence[str] | None = None,
) -> list[Alike]:
    """Pairs of rows, at most one for every spelling of an id, that count as two people and may be one.

    ids, datasets: (N,) as a manifest has them, "" where missing. subjects: (N,) who a row counts as; one that does not
    end in the id was given in the column ``subject``, and is compared in the id's place. train, test: (N,) masks.
    sources: (N,) names of the tables that rows of one id are told apart by, where neither names a data set.
    Different data sets that are both named tell people apart, whatever their ids.
    """
    people: dict[str, dict[str, dict[str, int]]] = {}  # key -> data set -> person and side -> first row
    names: list[tuple[str, str]] = []
    key_of = cache(spelling_key)
    sets = {name: spelling_key(name, "") for name in {*datasets}} | {"": ""}
    for row, (own, dataset, subject) in enumerate(zip(ids, datasets, subjects, strict=True)):
        given = subject not in ("", own) and not subject.endswith(f"/{own}")
        names.append((subject, "") if given else (own, dataset))
        if names[-1][0]:
            side = "train" if train[row] else "test" if test[row] else ""
            group = people.setdefault(f"{key_of(names[-1][0])}\x1f{given}", {})
            group.setdefault(sets[names[-1][1]], {}).setdefault(f"{subject}\x1f{side}", row)
    pairs: list[Alike] = []
    for group in people.values():
        several = [rows for rows in group.values() if len({name.partition("\x1f")[0] for name in rows}) > 1]
        if "" in group and len(group) > 1:  # a row without a data set can be of any
            several = [{f"{key}\x1f{name}": row for key, rows in group.items() for name, row in rows.items()}]
        for rows in several:
            found = _paired(list(rows.values()), names, sets, subjects, train, test, sources)
            pairs += [] if found is None else [found]
    return pairs


def alike_families(
    table: pd.DataFrame,
    train: npt.NDArray[np.bool_],
    test: npt.NDArray[np.bool_],
    sources: Sequence[str] | None = None,
) -> list[Alike]:
    """Pairs of rows, as of ``alike_people``, whose families count as two and may be one.

    table: N rows of a manifest or the meta data of a features table. The families of different data sets are told
    apart where both are named.
    """
    families = families_of(table).tolist()
    if not any(families):
        return []
    sets = [cell_text(v) for v in table["dataset"].tolist()] if "dataset" in table.columns else [""] * len(table)
    return alike_people(family_cells(table), sets, families, train, test, sources)


def _paired(
    rows: list[int],
    names: list[tuple[str, str]],
    sets: Mapping[str, str],
    subjects: Sequence[str],
    train: npt.NDArray[np.bool_],
    test: npt.NDArray[np.bool_],
    sources: Sequence[str] | None,
) -> Alike | None:
    """The first pair of two people among rows with one key, one that stands on both sides where there is any."""
    best: Alike | None = None
    for k, other in enumerate(rows):
        for one in rows[:k]:
            near, far = (sets[names[row][1]] for row in (one, other))
            if subjects[one] == subjects[other] or (near and far and near != far):
                continue
            apart = bool((train[one] and test[other]) or (test[one] and train[other]))
            if best is not None and not apart:
                continue
            first, second = (other, one) if apart and train[other] else (one, other)
            shown = [_shown(names[row], near != far) for row in (first, second)]
            if shown[0] == shown[1] and sources is not None:
                shown = [f"{name} of {sources[row]}" for name, row in zip(shown, (first, second), strict=True)]
            best = Alike(first, second, (shown[0], shown[1]), apart)
            if apart:
                return best
    return best


def _shown(name: tuple[str, str], with_dataset: bool) -> str:
    """A name in quotes, with its data set where that alone differs."""
    own, dataset = name
    return ascii_if_odd(own) + ((f" of {dataset}" if dataset else " without a dataset") if with_dataset else "")


def alike_names(names: Sequence[str], key: str = "site") -> list[tuple[str, ...]]:
    """Names of sites or data sets that differ in spelling alone, the most frequent spelling first.

    >>> alike_names(["Oslo", "oslo ", "1", "1.0", "1", "Rome", ""])
    [('Oslo', 'oslo '), ('1', '1.0')]
    """
    counts = Counter(name for name in names if name)
    groups: dict[str, list[str]] = {}
    for name in counts:
        groups.setdefault(spelling_key(name, key), []).append(name)
    found = [sorted(group, key=lambda name: -counts[name]) for group in groups.values() if len(group) > 1]
    return [tuple(group) for group in found]


def said_of_names(names: Sequence[str], what: str) -> str:
    """A sentence on sites (or data sets) that differ in spelling alone; "" where there are none.

    >>> said_of_names(["Oslo", "Oslo", "oslo"], "site")
    "2 names of a site differ in spelling alone ('Oslo', 2 rows, and 'oslo', 1 row) and count as different; write one"
    """
    found = alike_names(names, what)
    if not found:
        return ""
    counts = Counter(names)
    parts = [" and ".join(f"{ascii_if_odd(n)}, {_rows(counts[n])}," for n in group) for group in found[:_LISTED]]
    more = f"; and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    total = sum(len(group) for group in found)
    shown = "; ".join(part.removesuffix(",") for part in parts) + more
    return f"{total} names of a {what} differ in spelling alone ({shown}) and count as different; write one"


def said_of_people(pairs: Sequence[Alike], where: Sequence[str]) -> str:
    """A sentence on ids that may be one person's; "" where there are none.

    where: (len(pairs) * 2,) what messages call both rows of every pair.
    """
    return _said_of_pairs(pairs, where, ("ids", "person", SAME_OR_NOT))


def said_of_families(pairs: Sequence[Alike], where: Sequence[str]) -> str:
    """A sentence on families that may be one, as ``said_of_people`` writes it; "" where there are none."""
    return _said_of_pairs(pairs, where, ("families", "family", FAMILY_OR_NOT))


def _said_of_pairs(pairs: Sequence[Alike], where: Sequence[str], words: tuple[str, str, str]) -> str:
    """A sentence on pairs of rows. words: what the names are, what two of them may be, the remedy."""
    names, whole, tail = words
    if not pairs:
        return ""
    leaks = [k for k, pair in enumerate(pairs) if pair.apart]
    order = [*leaks, *(k for k in range(len(pairs)) if k not in set(leaks))][:_LISTED]
    shown = "; ".join(
        f"{pairs[k].names[0]} at {where[2 * k]} and {pairs[k].names[1]} at {where[2 * k + 1]}" for k in order
    )
    more = f"; and {len(pairs) - _LISTED} more" if len(pairs) > _LISTED else ""
    many = f"{len(pairs)} pairs of {names} may each be" if len(pairs) > 1 else f"two {names} may be"
    both = "these stand" if len(leaks) == len(pairs) else f"{len(leaks)} of these stand"
    apart = f", and {both} in train and in a test split, a leak if they are one {whole}" if leaks else ""
    return f"{many} one {whole} in two spellings ({shown}{more}){apart}; {tail}"


def _rows(n: int) -> str:
    return f"{n} row{'s' if n > 1 else ''}"
