"""Harmonisation inside a fold: fitted on its train rows and nothing else, applied alike to train and test rows.

Age is a covariate of the fit, so that its effect is told apart from the sites'. It is no input of what is applied:
the correction of a row that knows its true age writes a part of that age into the features (in ComBat, wherever a
site's spread differs from 1), and the probe would read the answer. Every row, train rows too, is therefore corrected
as if it had the mean covariates of the training rows: one map of features and site for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from medssl.errors import UserError, count
from medssl.evaluation.rows import Rows, text_column
from medssl.harmonize.base import Harmonizer, rows_digest


@dataclass(frozen=True, eq=False)
class Harmonized:
    """values: (N, F) corrected features. label: for a cell of a table. how: for a record. notes: for the reader."""

    values: NDArray[np.float64]
    label: str
    how: str
    notes: tuple[str, ...]


def harmonized(harmonizer: Harmonizer, features_NF: NDArray[np.float64], rows: Rows, meta: pd.DataFrame) -> Harmonized:
    """Fit on the train rows with a site (and an age, where train rows have ages), correct all rows with a split.

    harmonizer: not fitted, or fitted on exactly these rows; UserError for one that has seen others (test rows would
    shape the correction that they are judged by). meta: a column "sex" is kept as well, where no train row lacks it.
    Rows of sites that training has not seen follow ``harmonizer.unseen``.
    """
    sited = rows.train & (rows.site != "")
    if not hasattr(harmonizer, "fitted_on_"):
        fit, covariates, notes = _covariates(sited, rows, meta)
        known = {name: values[fit] for name, values in covariates.items()}
        harmonizer = clone(harmonizer).fit(features_NF[fit], site=rows.site[fit], covariates=known)
    else:
        fit, notes = sited & (rows.aged | ("age" not in harmonizer.design_.levels)), []
        if harmonizer.fitted_on_ != rows_digest(features_NF[fit], rows.site[fit]):
            raise UserError(
                f"this {type(harmonizer).__name__} was fitted on other rows than the {int(fit.sum())} training rows of "
                "the fold that it is to be scored on, so test rows may have shaped it; give one that is not fitted"
            )
    used = np.flatnonzero(rows.split != "")
    values = features_NF.copy()
    values[used] = harmonizer.transform(features_NF[used], rows.site[used])
    kept = ", ".join(harmonizer.design_.levels) or "no covariate"
    how = f"{harmonizer.title}, unseen sites: {harmonizer.unseen}"
    notes.insert(0, f"features were harmonised: {how}; fitted on {count(int(fit.sum()), 'train row')}, keeping {kept}")
    notes += harmonizer.notes_
    if harmonizer.constant_.size:
        constant = count(harmonizer.constant_.size, "feature is constant in training and stays as it is",
                         "features are constant in training and stay as they are")  # fmt: skip
        notes.append(constant)
    return Harmonized(
        values, f"{harmonizer.title} (unseen: {harmonizer.unseen})", f"{how}; keeping {kept}", tuple(notes)
    )


def _covariates(
    sited: NDArray[np.bool_], rows: Rows, meta: pd.DataFrame
) -> tuple[NDArray[np.bool_], dict[str, NDArray[Any]], list[str]]:
    """Rows of the fit, its covariates (N,), and what was left out."""
    covariates: dict[str, NDArray[Any]] = {}
    notes: list[str] = []
    fit = sited
    if (sited & rows.aged).any():
        covariates["age"] = rows.age
        fit = sited & rows.aged
        if missing := int((sited & ~rows.aged).sum()):
            rows_of = count(missing, "train row has", "train rows have")
            notes.append(f"{rows_of} no age and took no part in the fit of the harmonisation")
    if not fit.any():
        raise UserError("no train row has a site, so there is no site effect to take out; fill the column site")
    sex = text_column(meta, "sex")
    if missing := int((sex[fit] == "").sum()):
        if missing < fit.sum():
            rows_of = count(missing, "train row has", "train rows have")
            notes.append(f"{rows_of} no sex, so the harmonisation does not keep it")
    elif all(len(set(sex[fit & (rows.site == site)])) == 1 for site in set(rows.site[fit])):
        if len(set(sex[fit])) > 1:
            notes.append("every train site holds one sex only, so the harmonisation cannot keep sex")
    else:
        covariates["sex"] = sex
    return fit, covariates, notes
