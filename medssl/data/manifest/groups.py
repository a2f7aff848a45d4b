"""People and families in a cohort: which column names families, how many there are, and none on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from medssl.checks import nearest
from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.copies import copies, file_key
from medssl.errors import ManifestError, UserError, count
from medssl.tables.people import (
    GROUP,
    families_of,
    family_cells,
    family_name,
    group_column,
    groups_of,
    is_group,
    sizes_of,
    torn,
)  # fmt: skip


def with_family(table: pd.DataFrame, column: str, known: Sequence[str], source: str) -> pd.DataFrame:
    """The rows of a manifest with ``column`` as their family.

    known: the columns that the file itself has. source: what messages call it. Errors: UserError for an unknown
    column, for one without any value, and where the manifest has other families already.
    """
    if column not in known:
        raise UserError(f"{source} has no column '{column}' for --group; {nearest(column, known)}")
    if is_group(column):  # which the rows have already, whatever it is called
        column = group_column(table.columns) or column
    wanted = [family_name(value) for value in table[column].tolist()]
    if not any(wanted):
        raise UserError(f"the column '{column}' of {source} is empty, so --group keeps nobody together; name another")
    there = group_column(table.columns)
    own = family_cells(table)
    if any(own) and own != wanted:
        k = next(k for k, pair in enumerate(zip(own, wanted, strict=True)) if pair[0] != pair[1])
        raise UserError(
            f"{source} row {table['row'].iloc[k]} ({table['participant_id'].iloc[k]}): {there} is '{own[k]}' but "
            f"{column} is '{wanted[k]}', and --group would replace the one by the other; leave --group out, or rename "
            f"the column {there}"
        )
    return table.drop(columns=[there] if there is not None and there != column else []).assign(**{GROUP: table[column]})


def refuse_leaks(cohort: Cohort) -> None:
    """Raise ManifestError where one person, one file, or one family stands on both sides of the split.

    A file counts as one through links of either kind; copies are found by ``medssl.data.loading.leaks``.
    """
    table = cohort.table[cohort.table["split"] != ""]
    for column, what in (("subject", "person"), ("image", "file")):
        inside = table["split"] == "train"
        both = sorted((set(table.loc[inside, column]) & set(table.loc[~inside, column])) - {""})
        if both:
            row = int(table.index[table[column] == both[0]][0])
            raise ManifestError(
                f"{cohort.where(row)}: the same {what} stands in train and in a test split ({len(both)} such); keep "
                f"each {what} on one side (`medssl cohort split` does)"
            )
    split = cohort.table["split"].to_numpy()
    found = torn(
        groups_of(cohort.table),
        families_of(cohort.table),
        split == "train",
        np.isin(split, ["internal_test", "external_test"]),
    )
    if found is not None:
        sides = (f"train ({cohort.where(found.one)})", f"{split[found.other]} ({cohort.where(found.other)})")
        raise ManifestError(
            f"{found.linked(*sides)} ({found.rows} such test rows); keep each family on one side (`medssl cohort "
            "split` does), or fill the column dataset where they are different families"
        )
    train, test = np.flatnonzero(split == "train"), held_out_rows(cohort)
    if len(train) and len(test):
        cells = cohort.table["image"].tolist()
        marks, others = ([file_key(cells[row]) for row in rows.tolist()] for rows in (train, test))
        refuse_twins(cohort, train, marks, test, others, "scan is the same file as that")


def held_out_rows(cohort: Cohort) -> np.ndarray:
    """Rows of the test splits."""
    split = cohort.table["split"].to_numpy()
    return np.flatnonzero((split != "") & (split != "train"))


def refuse_twins(
    cohort: Cohort, train: np.ndarray, marks: Sequence[str], test: np.ndarray, test_marks: Sequence[str], what: str
) -> None:
    """Raise ManifestError where a test row and a training row have one mark. what: ends in "as that"."""
    pairs = copies(test_marks, marks)
    if pairs:
        other, one = int(test[pairs[0][0]]), int(train[pairs[0][1]])
        raise ManifestError(
            f"{cohort.where(other)}: its {what} of {cohort.where(one)}, but one is in "
            f"{cohort.table['split'].iloc[other]} and the other in train ({len(pairs)} such test rows); drop one of "
            "the two, or put both into one split"
        )


def group_notes(table: pd.DataFrame) -> list[str]:
    """How many groups of more than one person there are; nothing where no row names a family."""
    column = group_column(table.columns)
    groups, people = groups_of(table), table["subject"].astype(str)
    sizes = sizes_of(people.tolist(), groups.tolist())
    if column is None or not sizes:
        return []
    most, total = max(sizes.values()), people.nunique()
    notes = [
        f"{count(len(sizes), 'group')} of more than one person ({column}) {'hold' if len(sizes) > 1 else 'holds'} "
        f"{sum(sizes.values())} of {total} people, and each stays on one side; the largest has {most}"
    ]
    if is_large(most, total):
        notes.append(
            f"one group holds {most} of {total} people, so the parts cannot have the sizes asked for; where {column} "
            "names something else than relatives, rename the column"
        )
    return notes


def is_large(people: int, total: int) -> bool:
    """Whether a group is larger than families are: more than ten people and a fifth of all."""
    return people > max(10, 0.2 * total)


def about_families(cohort: Cohort) -> Iterator[tuple[int, str, str, str]]:
    """Row, level, code and sentence for every family in two parts of the split, and for a group too large for one."""
    table = cohort.table
    groups, families, split = groups_of(table), families_of(table), table["split"].to_numpy()
    sizes, people = sizes_of(table["subject"].tolist(), groups.tolist()), table["subject"].nunique()
    if not (families != "").any():
        return
    used = np.flatnonzero(split != "")
    for at in pd.Series(groups[used]).groupby(groups[used], sort=False).indices.values():
        rows = used[at]
        parts = list(dict.fromkeys(split[rows]))
        if len(parts) < 2 or table["subject"].iloc[rows].nunique() < 2:
            continue
        first = "train" if "train" in parts else parts[0]
        found = torn(groups[rows], families[rows], split[rows] == first, split[rows] != first)
        assert found is not None
        one, other = int(rows[found.one]), int(rows[found.other])
        linked = found.linked(f"{first} ({cohort.where(one)})", f"{split[other]} here")
        text = f"{linked}; keep a family in one split, or fill the column dataset where they are different families"
        yield other, "error" if first == "train" else "warning", "family-across-splits", text
    group, most = sizes.most_common(1)[0] if sizes else ("", 0)
    if is_large(most, people):
        row = int(np.flatnonzero((groups == group) & (families != ""))[0])
        yield (
            row,
            "warning",
            "family-large",
            (
                f"family {families[row]}, with others that share people with it, holds {most} of {people} people and "
                "stays on one side of every split; where the column names something else than relatives, rename it"
            ),
        )
