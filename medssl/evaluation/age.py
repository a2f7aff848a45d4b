"""The age probe of the OpenBHB challenge: ridge regression on frozen features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from medssl.errors import UserError
from medssl.evaluation.large import fit_ridge

ALPHAS = 10.0 ** np.arange(-2, 3)
FOLDS = 5


@dataclass(frozen=True)
class AgeProbe:
    """A fitted probe. alpha: chosen penalty. folds: folds of the inner search, 0 where there was none."""

    model: Any
    alpha: float
    folds: int
    notes: tuple[str, ...]

    def predict(self, features_NF: ArrayLike) -> NDArray[np.float64]:
        """Ages in years, (N,)."""
        features = np.asarray(features_NF, dtype=np.float64)
        return np.asarray(self.model.predict(features), dtype=np.float64) if len(features) else np.empty(0)


def fit_age(
    features_NF: ArrayLike, age_N: ArrayLike, *, scale: bool = False, n_jobs: int = 1, large: bool = False
) -> AgeProbe:
    """``GridSearchCV(Ridge(), alpha in 10^{-2..2}, cv=5 without shuffling, scoring="r2")``, refitted on all rows.

    features_NF: as they are, no scaling; with ``scale`` a standard scaler is fitted inside every fold (not part
    of the challenge). age_N: years, all finite. Fewer than 10 rows: as many folds of two rows as possible; fewer
    than 4 rows: alpha 1 without a search; both are said in ``notes``. large: the same search in one pass, from the
    Gram matrices of the folds (see medssl.evaluation.large). Source: RAMP kit, problem.py.
    """
    features = np.asarray(features_NF, dtype=np.float64)
    age = np.asarray(age_N, dtype=np.float64)
    if not len(age) or len(age) != len(features) or not np.isfinite(age).all():
        raise UserError(
            f"the age probe got {len(features)} rows of features and {int(np.isfinite(age).sum())} ages; "
            "it needs one age per row and at least one row, so leave out rows without an age"
        )
    folds = min(FOLDS, len(age) // 2)
    notes: list[str] = []
    if folds < 2:
        notes.append(f"age probe: {len(age)} training rows are too few for a search, alpha is 1")
        model = _ridge(scale).set_params(ridge__alpha=1.0).fit(features, age)
        return AgeProbe(model, 1.0, 0, tuple(notes))
    if folds < FOLDS:
        notes.append(f"age probe: {folds} folds instead of {FOLDS}, since there are {len(age)} training rows")
    if large and folds == FOLDS:
        quick, alpha = fit_ridge(features, age, ALPHAS, folds, scale)
        return AgeProbe(quick, alpha, folds, tuple(notes))
    search = GridSearchCV(_ridge(scale), {"ridge__alpha": ALPHAS}, cv=folds, scoring="r2", n_jobs=n_jobs)
    with warnings.catch_warnings(), joblib.parallel_config(backend="threading"):
        warnings.simplefilter("ignore")
        search.fit(features, age)
    return AgeProbe(search.best_estimator_, float(search.best_params_["ridge__alpha"]), folds, tuple(notes))


def _ridge(scale: bool) -> Pipeline:
    """The model inside its fold: a scaler first where asked."""
    steps: list[tuple[str, Any]] = [("scale", StandardScaler())] if scale else []
    return Pipeline([*steps, ("ridge", Ridge())])
