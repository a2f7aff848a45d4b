"""Who chooses: manifests of the train rows, with people and whole sites of them held out, and of the test rows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.folds import split_cohort
from medssl.data.manifest.groups import refuse_leaks
from medssl.data.manifest.twins import with_copies
from medssl.errors import ManifestError, UserError
from medssl.evaluation.rows import INTERNAL, Rows, read_rows
from medssl.experiments.study.plan import Study
from medssl.files import write_atomic
from medssl.recipe.model import load_recipe


def hold_out(cohort: Cohort, study: Study, out: Path) -> None:
    """Write OUT/train.csv, the cohort's train rows divided anew, and OUT/test.csv where the study reports test rows.

    In train.csv people (families and holders of one scan as a whole) of the same sites are internal_test and whole
    sites external_test; rows of the cohort's own test splits are not in it, so nothing that reads it can be chosen by
    them. Same cohort and options, same files. Raises UserError where the score cannot be computed on what is held out,
    and, where test rows are reported, for a person, a file or a family on both sides.
    """
    rows = cohort.rows("train")
    if not len(rows):
        names = ", ".join(str(path) for path in cohort.paths)
        raise ManifestError(
            f"{names}: no row has split 'train', so there is nothing to choose on; fill the column split"
        )
    if study.test:
        refuse_leaks(cohort)  # said now, not after the last trial
    table = cohort.table.iloc[rows].reset_index(drop=True)
    columns = load_recipe(study.recipe, study.changes).data.columns
    options = study.validation
    split = split_cohort(
        with_copies(cohort.subset(rows), columns),
        external_sites=None if options.sites else [],
        external_fraction=options.sites,
        internal_fraction=options.people,
        seed=options.seed,
    )
    made = table.assign(split=split)
    _refuse_without(read_rows(made), study)
    _write(made, out / "train.csv")
    if study.test:
        test = cohort.table[cohort.table["split"].isin(["internal_test", "external_test"])]
        if test.empty:
            raise UserError("the study reports test rows (test: true), but the cohort has none; set test: false")
        _write(test, out / "test.csv")


def _write(table: pd.DataFrame, path: Path) -> None:
    text = table.drop(columns=["manifest", "row"]).to_csv(index=False, lineterminator="\n")
    if not path.is_file() or path.read_bytes() != text.encode("utf-8"):
        write_atomic(path, text)


def _refuse_without(rows: Rows, study: Study) -> None:
    """UserError where the held-out part has no rows that the score counts."""
    score = study.score
    counts = {
        "people of known sites with an age (validation.people)": (
            rows.internal & rows.aged,
            score.endswith(INTERNAL[:8]),
        ),
        "whole sites with ages (validation.sites, and at least two train sites)": (
            rows.external & rows.aged,
            score.endswith("external") or score == "challenge",
        ),
        "people of at least two known sites (validation.people)": (
            rows.site_scored,
            score in ("site_bacc", "challenge"),
        ),
    }
    for what, (mask, needed) in counts.items():
        if needed and not mask.any():
            raise UserError(
                f"the score '{score}' needs {what}, and the part held out of the train rows has none; hold out more, "
                "or choose another score, such as mae_internal"
            )
