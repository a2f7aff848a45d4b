"""The people of a training: the rows of its manifests, their labels and what must be said of them; no scan is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from medssl.data.loading.batches import EpochBatches
from medssl.data.loading.contents import Began
from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.columns import Columns
from medssl.data.manifest.groups import refuse_leaks
from medssl.data.manifest.spellings import spelling_notes
from medssl.data.synthetic.mark import synthetic_rows
from medssl.errors import ManifestError, UserError, count
from medssl.recipe.ages import usable_ages
from medssl.recipe.model import Recipe
from medssl.tables.people import COPY
from medssl.training.hardware.device import processes
from medssl.types import Facts

_NOT_LABELS = frozenset({"participant_id", "session", "split", "weight", "manifest", "row", "subject", "unlike", COPY})
_CODES = ("sex", "site", "dataset", "diagnosis", "subject")


@dataclass(frozen=True)
class TrainingCohort:
    """A cohort as a training uses it; impossible ages are emptied.

    digest: of the manifests as they are. rows: of the training. facts: what methods are built on, with an empty shape.
    meta: columns that batches carry, (scans,) each. columns: of a table of measures, fitted on the training rows; None
    where scans are read. balance: codes of all rows that every batch holds alike, -1 where there is none. notes:
    sentences for the user. leaks: those on people and families that may be one under two names.
    """

    cohort: Cohort
    digest: str
    rows: np.ndarray
    facts: Facts
    meta: dict[str, Tensor]
    columns: Columns | None
    balance: np.ndarray | None
    notes: tuple[str, ...]
    leaks: tuple[str, ...]


def read_cohort(recipe: Recipe, began: Began | None = None) -> TrainingCohort:
    """Read the manifests of a recipe. began: the run that is continued, whose manifests must be those of before.

    Errors: ManifestError for an empty training split, people on both sides of it, and impossible ages that the method
    reads; UserError for batches that the rows do not fill and a column that does not balance.
    """
    cohort = Cohort.read(recipe.data.sources, images=recipe.data.columns is None)
    if began is not None:
        began.same_manifest(cohort.digest, cohort.paths)
    rows = cohort.rows("train")
    if not len(rows):
        raise ManifestError(f"{names_of(cohort)}: no row has split 'train'; mark training scans in the column split")
    number, accumulate = processes(recipe.trainer), recipe.trainer.accumulate
    EpochBatches(rows, recipe.data.batch_size, recipe.trainer.seed, processes=number, accumulate=accumulate)
    balance = _balance(cohort, rows, recipe)
    refuse_leaks(cohort)
    table, age_notes = usable_ages(cohort, rows, recipe)
    columns = None if recipe.data.columns is None else Columns.fit(cohort, rows, recipe.data.columns)
    notes = [*cohort.notes, *age_notes]
    if columns is not None and columns.filled:
        notes.append(f"{count(columns.filled, 'empty cell')} of the training rows become the mean of their column")
    aged = cohort if table is cohort.table else replace(cohort, table=table)
    labels, meta, coded = _columns(aged, rows)
    facts = Facts(len(cohort.table), rows, recipe.data.batch_size * number, (), labels, coded)
    return TrainingCohort(
        aged, cohort.digest, rows, facts, meta, columns, balance, tuple(notes), tuple(spelling_notes(cohort))
    )


def names_of(cohort: Cohort) -> str:
    """The manifests of a cohort, for a sentence."""
    return ", ".join(str(p) for p in cohort.paths)


def training_facts(cohort: Cohort, rows: np.ndarray) -> dict[str, Any]:
    """Who was trained on, for run.json and the encoder's card: numbers of people, ages, sexes and sites."""
    part = cohort.table.iloc[rows]
    sites = sorted(s for s in part["site"].unique() if s)
    per_site = [
        {"site": site, "n": len(group), "age": _span(group["age"])} for site, group in part.groupby("site") if site
    ]
    return {
        "scans": len(rows),
        "rows_in_manifests": len(cohort.table),
        "subjects": int(part["subject"].nunique()),
        "sites": sites,
        "per_site": per_site,
        "age": _span(part["age"]),
        "sex": {str(k): int(v) for k, v in part["sex"].value_counts().items() if k},
        "datasets": {str(k): int(v) for k, v in part["dataset"].value_counts().items()},
        "synthetic": synthetic_rows(part["dataset"], cohort.paths),
        "manifests": [str(p) for p in cohort.paths],
    }


def _span(ages: pd.Series) -> list[float] | None:
    """Least, median and greatest age; None where no age is known."""
    known = ages.dropna()
    return [float(known.min()), float(known.median()), float(known.max())] if len(known) else None


def _balance(cohort: Cohort, rows: np.ndarray, recipe: Recipe) -> np.ndarray | None:
    """Codes of the column that data.balance names; UserError where it balances nothing or weights stand against it."""
    name = recipe.data.balance
    if name is None:
        return None
    codes = np.nan_to_num(cohort.labels(name), nan=-1.0)
    if len(set(codes[rows])) < 2:
        raise ManifestError(f"{names_of(cohort)}: every training row has the same '{name}'; leave out data.balance")
    if np.ptp(cohort.table["weight"].to_numpy(float)[rows]) > 0:
        raise UserError("data.balance and the column weight both say how often a scan is drawn; leave one of them out")
    return codes


def _columns(cohort: Cohort, rows: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, Tensor], frozenset[str]]:
    """Labels of the training rows (NaN elsewhere), the columns that batches carry, and which of them hold names."""
    labels, meta, names = {}, {}, set()
    inside = np.zeros(len(cohort.table), bool)
    inside[rows] = True
    for name in cohort.table.columns:
        if (name in _NOT_LABELS and name != "subject") or str(name).startswith("image"):
            continue
        values = cohort.labels(name)
        coded = name in _CODES or not pd.api.types.is_numeric_dtype(cohort.table[name])
        if coded:
            names.add(str(name))
            meta[name] = torch.from_numpy(np.where(np.isnan(values), -1, values).astype(np.int64))
        else:
            meta[name] = torch.from_numpy(values.astype(np.float32))
        if name != "subject":
            labels[name] = np.where(inside, values, np.nan)
    return labels, meta, frozenset(names)
