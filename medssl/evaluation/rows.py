"""What the meta data of a feature table say to a scorecard: which rows fit the probes, which judge them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medssl.errors import UserError, count
from medssl.tables.age_use import RULE, impossible, other_unit
from medssl.tables.ages import read_ages
from medssl.tables.missing import cell_text, without_missing
from medssl.tables.people import families_of, groups_of, torn
from medssl.tables.spelling import alike_families, alike_people, said_of_families, said_of_names, said_of_people

INTERNAL, EXTERNAL = "internal_test", "external_test"
SPLITS = {
    "": "",
    "train": "train",
    "training": "train",
    **dict.fromkeys((INTERNAL, "internal", "val", "validation", "test", "internal_val"), INTERNAL),
    **dict.fromkeys((EXTERNAL, "external", "external_val"), EXTERNAL),
}


@dataclass(frozen=True, eq=False)
class Rows:
    """The N rows of a table. Text arrays hold "" where missing; age is in years, NaN where missing.

    subject: who a row is. group: what the bootstrap resamples and a split keeps whole: the subject, or where rows name
    families one label for all people of a family. train, internal, external: masks (N,). sites: sorted sites of the
    training rows. notes: what was left out.
    unseen_scored: internal rows of a site without training rows count as misses in the site score (as in the
    challenge) instead of being left out.
    """

    participant: NDArray[np.object_]
    session: NDArray[np.object_]
    subject: NDArray[np.object_]
    group: NDArray[np.object_]
    site: NDArray[np.object_]
    split: NDArray[np.object_]
    age: NDArray[np.float64]
    train: NDArray[np.bool_]
    internal: NDArray[np.bool_]
    external: NDArray[np.bool_]
    sites: tuple[str, ...]
    notes: tuple[str, ...]
    unseen_scored: bool = False

    @property
    def test(self) -> NDArray[np.bool_]:
        """Internal and external test rows."""
        return self.internal | self.external

    @property
    def aged(self) -> NDArray[np.bool_]:
        """Rows with an age."""
        return np.isfinite(self.age)

    @property
    def site_scored(self) -> NDArray[np.bool_]:
        """Internal test rows of a site that the probe has seen; none where training has fewer than two sites.

        With ``unseen_scored``: internal test rows of a known site, also of one that the probe has not seen.
        """
        if len(self.sites) < 2:
            return np.zeros(len(self.age), dtype=bool)
        if self.unseen_scored:
            return np.asarray(self.internal & (self.site != ""), dtype=bool)
        return self.internal & np.isin(self.site.astype(str), np.array(self.sites, dtype=str))

    def where(self, row: int) -> str:
        """Row for a message: its line in a file with a header, and who it is."""
        return where(row, self.participant)

    def count(self) -> dict[str, int]:
        """Numbers of scans, people and sites per part, and of what is missing."""
        out: dict[str, int] = {}
        for name, mask in (("train", self.train), (INTERNAL, self.internal), (EXTERNAL, self.external)):
            out[name] = int(mask.sum())
            out[f"subjects_{name}"] = len(set(self.subject[mask]))
            out[f"sites_{name}"] = len(set(self.site[mask]) - {""})
            out[f"age_missing_{name}"] = int((mask & ~self.aged).sum())
        out["site_scored"] = int(self.site_scored.sum())
        out["unassigned"] = int((self.split == "").sum())
        return out


def read_rows(meta: pd.DataFrame, *, unseen_scored: bool = False) -> Rows:
    """Read splits, ages, sites and people; UserError without a split, without test rows, or with a leak.

    unseen_scored: see ``Rows``.
    """
    participant = text_column(meta, "participant_id")
    split = _splits(text_column(meta, "split"), participant)
    train, internal, external = split == "train", split == INTERNAL, split == EXTERNAL
    site, (age, said) = text_column(meta, "site"), _ages(meta, participant)
    subject, anonymous = _subjects(meta, participant)
    _no_leak(subject, split, participant)
    people = meta.assign(subject=subject)
    group = groups_of(people)
    _no_torn_family(group, families_of(people), split, participant)
    sites = tuple(sorted(set(site[train]) - {""}))
    notes = _spellings(meta, participant, subject, site, split) + said + _notes(split, site, age, sites, unseen_scored)
    if anonymous:
        notes.append(f"{count(anonymous, 'row has', 'rows have')} no participant_id; each is taken as another person")
    session = text_column(meta, "session")
    return Rows(
        participant,
        session,
        subject,
        group,
        site,
        split,
        age,
        train,
        internal,
        external,
        sites,
        tuple(notes),
        unseen_scored,
    )


def _spellings(
    meta: pd.DataFrame,
    participant: NDArray[np.object_],
    subject: NDArray[np.object_],
    site: NDArray[np.object_],
    split: NDArray[np.object_],
) -> list[str]:
    """Notes on ids, families, sites and data sets that may be one in two spellings."""
    dataset = text_column(meta, "dataset").tolist()
    test = np.isin(split.astype(str), [INTERNAL, EXTERNAL])
    pairs = alike_people(participant.tolist(), dataset, subject.tolist(), split == "train", test)
    families = alike_families(meta, split == "train", test)
    places, homes = (
        [where(row, participant) for p in found for row in (p.one, p.other)] for found in (pairs, families)
    )
    said = [said_of_people(pairs, places), said_of_families(families, homes)]
    said += [said_of_names(site.tolist(), "site"), said_of_names(dataset, "dataset")]
    return [words for words in said if words]


def people(meta: pd.DataFrame) -> NDArray[np.object_]:
    """Who every row is, (N,) text: subject, or else dataset and participant_id, or else the row alone."""
    return _subjects(meta, text_column(meta, "participant_id"))[0]


def where(row: int, participant: NDArray[np.object_]) -> str:
    """``row 7 (sub-07)``, counted as lines of a file whose header is row 1."""
    who = participant[row]
    return f"row {row + 2} ({who})" if who else f"row {row + 2}"


def _splits(given: NDArray[np.object_], participant: NDArray[np.object_]) -> NDArray[np.object_]:
    """Splits by their one name; UserError for an unknown one and where a part is absent."""
    split = np.empty(len(given), dtype=object)
    for i, name in enumerate(given):
        if name.lower() not in SPLITS:
            raise UserError(f"{where(i, participant)}: split is {name!r}; use train, internal_test or external_test")
        split[i] = SPLITS[name.lower()]
    remedy = "run `medssl cohort split` on the manifest and embed again"
    if not (split != "").any():
        raise UserError(f"no row has a split, so nothing says what to train the probes on; {remedy}")
    if not (split == "train").any():
        raise UserError(f"no row has split train, so there is nothing to fit the probes on; {remedy}")
    if not np.isin(split.astype(str), [INTERNAL, EXTERNAL]).any():
        raise UserError(f"every row with a split is train, so there is nothing to score; {remedy}")
    return split


def _subjects(meta: pd.DataFrame, participant: NDArray[np.object_]) -> tuple[NDArray[np.object_], int]:
    """Who a row is: subject, or else dataset and participant_id, or else the row; and how many of the last."""
    subject, dataset = text_column(meta, "subject"), text_column(meta, "dataset")
    anonymous = 0
    for i in range(len(subject)):
        if subject[i]:
            continue
        if participant[i]:
            subject[i] = f"{dataset[i]}/{participant[i]}" if dataset[i] else participant[i]
        else:
            subject[i] = f"row {i + 2} without an id"
            anonymous += 1
    return subject, anonymous


def _no_leak(subject: NDArray[np.object_], split: NDArray[np.object_], participant: NDArray[np.object_]) -> None:
    first: dict[str, int] = {}
    for row in np.flatnonzero(split == "train"):
        first.setdefault(subject[row], int(row))
    leaks = [int(i) for i in np.flatnonzero(split != "train") if split[i] and subject[i] in first]
    if leaks:
        i = leaks[0]
        more = f" (and {len(leaks) - 1} more test rows)" if len(leaks) > 1 else ""
        raise UserError(
            f"subject {subject[i]} is in train ({where(first[subject[i]], participant)}) and in {split[i]} "
            f"({where(i, participant)}){more}: a person must be on one side of the split; "
            "run `medssl cohort split` again or correct the split column"
        )


def _no_torn_family(
    group: NDArray[np.object_],
    family: NDArray[np.object_],
    split: NDArray[np.object_],
    participant: NDArray[np.object_],
) -> None:
    found = torn(group, family, split == "train", np.isin(split.astype(str), [INTERNAL, EXTERNAL]))
    if found is None:
        return
    sides = (f"train ({where(found.one, participant)})", f"{split[found.other]} ({where(found.other, participant)})")
    more = f" (and {found.rows - 1} more test rows)" if found.rows > 1 else ""
    raise UserError(
        f"{found.linked(*sides)}{more}: a family must be on one side of the split; run `medssl cohort split` again, "
        "correct the columns split or family, or fill the column dataset where they are different families"
    )


def _notes(
    split: NDArray[np.object_],
    site: NDArray[np.object_],
    age: NDArray[np.float64],
    sites: tuple[str, ...],
    unseen_scored: bool,
) -> list[str]:
    """What a reader of the scores must know of the cohort."""
    train, internal, external = split == "train", split == INTERNAL, split == EXTERNAL
    notes = []
    if not internal.any():
        notes.append("no internal_test rows: internal scores, the site score and the challenge score are empty")
    if not external.any():
        notes.append("no external_test rows: external scores and the challenge score are empty")
    if (split == "").any():
        notes.append(f"{count(int((split == '').sum()), 'row without a split is', 'rows without a split are')} ignored")
    for name, mask in (("train", train), (INTERNAL, internal), (EXTERNAL, external)):
        if missing := int((mask & ~np.isfinite(age)).sum()):
            have = "has no age and is" if missing == 1 else "have no age and are"
            notes.append(f"{missing} of {int(mask.sum())} {name} rows {have} left out of the age scores")
    if not (train & np.isfinite(age)).any():
        notes.append("no training row has an age: the age scores are empty")
    if len(sites) < 2:
        known = "one site" if sites else "no site"
        notes.append(f"training rows name {known}: the site score and the challenge score are empty")
        return notes
    seen = set(sites)
    if missing := int((train & (site == "")).sum()):
        rows = count(missing, "train row has no site and is", "train rows have no site and are")
        notes.append(f"{rows} left out of the site probe")
    unseen = sum(bool(s) and s not in seen for s in site[internal])
    unknown = int((internal & (site == "")).sum())
    if unseen_scored and unseen:
        rows = count(unseen, "internal_test row is of a site", "internal_test rows are of sites")
        notes.append(f"{rows} without training rows: the site score counts misses")
    if dropped := unknown + (0 if unseen_scored else unseen):
        which = "no" if unseen_scored else "no or an unseen"
        notes.append(
            f"{count(dropped, 'internal_test row', 'internal_test rows')} of {which} site "
            f"{'is' if dropped == 1 else 'are'} left out of the site score"
        )
    present = len({s for s in site[internal] if s in seen})
    if 0 < present < len(sites):
        notes.append(
            f"internal_test holds {present} of the {len(sites)} training sites: site_bacc is their mean recall"
        )
    if both := sorted(seen & set(site[external])):
        notes.append(
            f"external_test rows of {count(len(both), 'site')} also in train (first: {both[0]}) are not unseen"
        )
    return notes


def text_column(meta: pd.DataFrame, name: str) -> NDArray[np.object_]:
    """A column as text, "" where missing (words and codes, see ``medssl.tables.missing``) or absent; 3.0 reads as 3."""
    out = np.full(len(meta), "", dtype=object)
    if name in meta.columns:
        out[:] = without_missing([cell_text(value) for value in meta[name].tolist()], name)[0]
    return out


def _ages(meta: pd.DataFrame, participant: NDArray[np.object_]) -> tuple[NDArray[np.float64], list[str]]:
    """Ages in years, NaN where missing or impossible, and what is to be said of them; refused in another unit."""
    if "age" not in meta.columns:
        return np.full(len(meta), np.nan), []
    dataset = text_column(meta, "dataset").tolist()
    read = read_ages(meta["age"].tolist(), "the table", groups=dataset)
    age, notes = read.years.copy(), list(read.notes)
    if wrong := other_unit(age, dataset):
        raise UserError(wrong)
    odd = impossible(age)
    if odd.size:
        notes.append(
            f"{count(odd.size, 'age')} {'are' if odd.size > 1 else 'is'} left out: age {age[odd[0]]:g} of "
            f"{where(int(odd[0]), participant)} {RULE}; correct the table"
        )
    age[odd] = np.nan
    return age, notes
