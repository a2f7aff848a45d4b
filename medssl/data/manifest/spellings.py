"""Ids, families, sites and data sets of a cohort that may be one in two spellings, as findings and as notes."""

from __future__ import annotations

from collections.abc import Iterator

from medssl.data.manifest.cohort import Cohort
from medssl.tables.spelling import alike_families, alike_people, said_of_families, said_of_names, said_of_people

_NAMED = ("site", "dataset")


def about_spelling(cohort: Cohort) -> Iterator[tuple[int | None, str, str]]:
    """Line in the manifest, code and sentence: ids that may be one person's, families, sites and data sets that may
    be one.

    The line is None of sites and data sets. One sentence for each kind, with how many there are and the first ones.
    """
    table = cohort.table
    split = table["split"].to_numpy()
    test = (split != "") & (split != "train")
    ids, datasets, subjects = (table[name].tolist() for name in ("participant_id", "dataset", "subject"))
    names = dict(zip(table["manifest"].unique().tolist(), (str(path) for path in cohort.paths), strict=True))
    sources = [names[name] for name in table["manifest"].tolist()]
    several = sources if len(names) > 1 else None
    people = alike_people(ids, datasets, subjects, split == "train", test, several)
    families = alike_families(table, split == "train", test, several)
    for code, pairs, say in (("id", people, said_of_people), ("family", families, said_of_families)):
        if pairs:
            where = [cohort.where(row) for pair in pairs for row in (pair.one, pair.other)]
            first = next((pair for pair in pairs if pair.apart), pairs[0])
            yield int(table["row"].iloc[first.other]), f"{code}-spelling", say(pairs, where)
    for column in _NAMED:
        if words := said_of_names(table[column].tolist(), column):
            yield None, f"{column}-spelling", words


def spelling_notes(cohort: Cohort) -> list[str]:
    """The sentences of ``about_spelling``, for whoever trains on the cohort."""
    return [words for _, _, words in about_spelling(cohort)]
