"""Splits that keep a person, a family, and whole sites on one side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from medssl.data.manifest.groups import group_notes
from medssl.errors import UserError
from medssl.errors import count as counted
from medssl.tables.people import groups_of, is_group, kept_together

TRAIN, INTERNAL, EXTERNAL = "train", "internal_test", "external_test"


def subject_folds(
    subjects: np.ndarray | Sequence[object],
    strata: np.ndarray | Sequence[object] | None = None,
    n: int = 5,
    seed: int = 0,
    groups: np.ndarray | Sequence[object] | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """n pairs (rows to fit on, rows held out), int64 and sorted; no subject is on both sides of a pair.

    subjects: (rows,) any labels. groups: (rows,) families, "" where none; one with all its people counts as a single
    subject (see :func:`medssl.tables.people.kept_together`). strata: (rows,) numbers (ages; NaN is a group of its own)
    or labels; subjects are put in their order, at random among equals, and each n neighbours go to n different folds,
    so that every fold covers the whole range. The first row of a subject gives its stratum. Same arguments, same folds.
    Raises UserError where n < 2, the seed is negative or there are fewer than n subjects.
    """
    _check_seed(seed)
    codes, count, first = _codes(subjects if groups is None else kept_together(list(subjects), list(groups)))
    if n < 2:
        raise UserError(f"folds must be 2 or more, not {n}")
    if count < n:
        raise UserError(f"{n} folds need at least {n} subjects, there are {count}; use fewer folds")
    rng = np.random.default_rng((seed, 0x666F6C64))
    order = _spread(first, strata, rng)
    fold = np.empty(count, dtype=np.int64)
    for start in range(0, count, n):
        block = order[start : start + n]
        fold[block] = rng.permutation(n)[: len(block)]
    for held in range(n):
        out = fold[codes] == held
        yield np.flatnonzero(~out), np.flatnonzero(out)


def split_cohort(
    table: pd.DataFrame,
    external_sites: Sequence[str] | None = None,
    external_fraction: float = 0.2,
    internal_fraction: float = 0.2,
    seed: int = 0,
) -> pd.Series:
    """The split of each row: whole sites external_test, then internal_test by subject, the rest train.

    table: columns participant_id or subject, site, family and age where known (years). People of one family,
    families that share a person, and people with one scan (scan_digest), count as one subject. external_sites: these;
    None draws sites at random until external_fraction of the subjects is reached as nearly as whole sites
    allow (at least one site, never all; none where there is a single site; [] means none). Rows without a
    site are never external. internal_fraction of the remaining subjects becomes internal_test, drawn evenly
    along site and age. A subject of an external site is external as a whole: its scans at other sites get
    the split "" and are used nowhere. Raises UserError for an unknown site, an impossible fraction or
    a negative seed.
    """
    _check_seed(seed)
    for name, value in (("external_fraction", external_fraction), ("internal_fraction", internal_fraction)):
        if not 0 <= value < 1:
            raise UserError(f"{name} must be at least 0 and below 1, not {value}")
    column = "subject" if "subject" in table.columns else "participant_id"
    if column not in table.columns:
        raise UserError("the table has no column participant_id, so persons cannot be kept on one side")
    codes, count, first = _codes(groups_of(table, copies=True))
    site = table["site"].fillna("").astype(str).to_numpy() if "site" in table.columns else np.full(len(table), "")
    age = table["age"].to_numpy(dtype=float) if "age" in table.columns else np.full(len(table), np.nan)
    rng = np.random.default_rng((seed, 0x73706C74))
    known = sorted({str(name) for name in site} - {""})
    if external_sites is None:
        external = _draw_sites(site, codes, known, external_fraction, rng)
    else:
        external = {str(name) for name in external_sites}
        unknown = sorted(external - set(known))
        if unknown:
            raise UserError(f"site '{unknown[0]}' is not in the table; its sites are {', '.join(known) or 'none'}")
        if external and external == set(known) and "" not in site:
            raise UserError("every site would be external and nothing left to train on; keep at least one site")
    abroad = np.isin(site, list(external))
    outside = np.zeros(count, dtype=bool)
    outside[codes[abroad]] = True
    inside = np.flatnonzero(~outside)
    if not len(inside):
        raise UserError(
            "every subject (or a relative) has a scan at an external site and nothing is left to train on; "
            "choose other external sites"
        )
    shuffled = rng.permutation(len(known) + 1)
    rank = dict(zip([*known, ""], shuffled, strict=True))
    by_site = np.array([rank[str(name)] for name in site[first]], dtype=float)
    order = np.lexsort((rng.random(count), np.nan_to_num(age[first], nan=np.inf), by_site))
    order = order[np.isin(order, inside)]
    wanted = min(round(internal_fraction * len(order)), len(order) - 1)
    edges = np.linspace(0, len(order), wanted + 1).round().astype(int)  # one subject of each stretch
    picks = edges[:-1] + (rng.random(wanted) * np.diff(edges)).astype(int)
    held = np.zeros(count, dtype=bool)
    held[order[picks]] = True
    split = np.where(held[codes], INTERNAL, TRAIN).astype(object)
    split[outside[codes]] = ""
    split[abroad] = EXTERNAL
    return pd.Series(split, index=table.index, name="split", dtype=object)


def split_notes(table: pd.DataFrame, external_fraction: float | None = None) -> list[str]:
    """What a reader of a split must know: a share far from the one asked for, too few sites to score sites by.

    table: columns split, subject and site. external_fraction: what was asked for, None where sites were named.
    """
    notes = group_notes(table)
    used = table[table["split"] != ""]
    abroad = used.loc[used["split"] == EXTERNAL, "subject"].nunique() / max(1, used["subject"].nunique())
    named = set(table["site"]) - {""}
    if external_fraction and len(named) < 2:
        only = f"one site ({min(named)})" if named else "no site"
        notes.append(f"the rows name {only}, so no site can be held out and unseen scanners cannot be scored")
    elif external_fraction and abs(abroad - external_fraction) > 0.1:
        notes.append(
            f"{100 * abroad:.0f} % of the subjects are at external sites ({100 * external_fraction:.0f} % asked for), "
            "since whole sites are held out; --external-sites names others, --external-fraction 0 holds out none"
        )
    sites = set(used.loc[used["split"] == TRAIN, "site"]) - {""}
    if len(sites) < 2:
        known = "one site" if sites else "no site"
        notes.append(f"the training rows have {known}, so how well the site can be read cannot be scored")
    return notes


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise UserError(f"seed must be 0 or more, not {seed}")


def _codes(subjects: np.ndarray | Sequence[object]) -> tuple[np.ndarray, int, np.ndarray]:
    """Row -> number of its subject, how many subjects, and the first row of each."""
    labels = np.asarray([str(label) for label in subjects])
    _, first, codes = np.unique(labels, return_index=True, return_inverse=True)
    return codes.reshape(-1).astype(np.int64), len(first), first


def _spread(first: np.ndarray, strata: np.ndarray | Sequence[object] | None, rng: np.random.Generator) -> np.ndarray:
    """Subjects in the order of their stratum, at random among equals, missing ones last."""
    tie = rng.random(len(first))
    if strata is None:
        return np.argsort(tie)
    values = np.asarray(strata)
    if values.dtype.kind not in "fiub":
        _, values = np.unique([str(value) for value in values], return_inverse=True)
    value = values.reshape(-1).astype(float)[first]
    return np.lexsort((tie, np.where(np.isnan(value), np.inf, value)))


def _draw_sites(
    site: np.ndarray, codes: np.ndarray, known: list[str], fraction: float, rng: np.random.Generator
) -> set[str]:
    """Sites in random order, each taken that still fits; the one that fits best where none does."""
    if len(known) < 2 or fraction == 0:
        return set()
    size = {name: len(np.unique(codes[site == name])) for name in known}
    target = fraction * len(np.unique(codes))
    taken: set[str] = set()
    have = 0
    for place in rng.permutation(len(known)):
        name = known[place]
        if len(taken) < len(known) - 1 and have + size[name] <= 1.1 * target:
            taken.add(name)
            have += size[name]
    return taken or {min(known, key=lambda name: (abs(size[name] - target), name))}


def challenge_folds(
    table: pd.DataFrame, n: int = 3, external_fraction: float = 0.10, internal_fraction: float = 0.09, seed: int = 0
) -> pd.DataFrame:
    """Columns fold0, fold1, ... as the OpenBHB challenge divides its training rows: about 81, 9 and 10 %.

    table: as in :func:`split_cohort`; a column split, where it holds anything, leaves only its train rows to be
    divided, the others stay empty. Each fold holds out whole sites (external_test; other sites in every fold as long
    as there are some that fit) and, of the other sites, people along site and age (internal_test). Fractions are of
    all people, a family counting as one (see :func:`split_cohort`). Errors: UserError for fewer than three sites,
    which leave nothing to tell apart.
    """
    _check_seed(seed)
    split = table["split"].fillna("").astype(str).str.strip().to_numpy() if "split" in table.columns else None
    inside = np.ones(len(table), dtype=bool)
    if split is not None and (split != "").any():
        inside = np.isin(np.char.lower(split.astype(str)), ["train", "training"])
    if "subject" not in table.columns and "participant_id" not in table.columns:
        raise UserError("the table has no column participant_id, so persons cannot be kept on one side")
    families = [name for name in table.columns if is_group(name)]
    table = table.assign(subject=groups_of(table, copies=True)).drop(
        columns=families
    )  # also linked by rows that are not divided
    rows = table.loc[inside].drop(columns=["split"], errors="ignore")
    site = rows["site"].fillna("").astype(str).to_numpy() if "site" in rows.columns else np.full(len(rows), "")
    known = sorted({str(name) for name in site} - {""})
    if len(known) < 3:
        raise UserError(
            f"{len(rows)} training rows name {counted(len(known), 'site')}, but a fold needs one site to leave out and "
            "two to tell apart; fill the column site, or score the split as it is without --folds"
        )
    codes, count, _ = _codes(rows["subject"].to_numpy())
    unused = list(known)
    out = pd.DataFrame(index=table.index)
    for k in range(n):
        rng = np.random.default_rng((seed, k, 0x62686220))
        fits = [name for name in unused if len(np.unique(codes[site == name])) <= 1.1 * external_fraction * count]
        choice = fits or unused or known
        external = set(choice) if len(choice) == 1 else _draw_sites(site, codes, choice, external_fraction, rng)
        unused = [name for name in unused if name not in external]
        share = len(np.unique(codes[np.isin(site, sorted(external))])) / count
        part = split_cohort(rows, sorted(external), internal_fraction=internal_fraction / (1.0 - share), seed=seed + k)
        cells = np.full(len(table), "", dtype=object)
        cells[inside] = part.to_numpy()
        out[f"fold{k}"] = cells
    return out
