"""The site probe of the OpenBHB challenge: logistic regression asks how much of the scanner is left."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from medssl.errors import UserError, count
from medssl.evaluation.large import SEARCHED, fit_logistic

PENALTIES = 10.0 ** np.arange(-2, 3)
FOLDS = 5
MAX_ITER = 150
WIDE = 2048


@dataclass(frozen=True)
class SiteProbe:
    """A fitted probe. c: chosen inverse penalty. folds: of the inner search, 0 where there was none.

    basis_FR: orthonormal basis of the training rows where there are many more features than rows, else None.
    """

    model: Any
    levels: tuple[str, ...]
    c: float
    folds: int
    notes: tuple[str, ...]
    basis_FR: NDArray[np.float64] | None = None

    def predict(self, features_NF: ArrayLike) -> NDArray[np.object_]:
        """Most probable training site of every row, (N,) text."""
        features = self._turned(features_NF)
        if not len(features):
            return np.empty(0, dtype=object)
        return np.array(self.levels, dtype=object)[np.asarray(self.model.predict(features), dtype=int)]

    def probabilities(self, features_NF: ArrayLike) -> NDArray[np.float64]:
        """Probability of every training site, (N, len(levels)), in the order of ``levels``."""
        features = self._turned(features_NF)
        if not len(features):
            return np.empty((0, len(self.levels)))
        return np.asarray(self.model.predict_proba(features), dtype=np.float64)

    def _turned(self, features_NF: ArrayLike) -> NDArray[np.float64]:
        features = np.asarray(features_NF, dtype=np.float64)
        return features if self.basis_FR is None else features @ self.basis_FR


def fit_site(
    features_NF: ArrayLike,
    site_N: ArrayLike,
    *,
    seed: int = 0,
    scale: bool = False,
    n_jobs: int = 1,
    rotate: bool = True,
    large: bool = False,
) -> SiteProbe:
    """``GridSearchCV(LogisticRegression(saga, max_iter=150), C in 10^{-2..2}, cv=5, balanced accuracy)``.

    features_NF: as they are; with ``scale`` a standard scaler is fitted inside every fold (not part of the
    challenge). site_N: text, one per row, at least two sites. seed: of the stochastic solver.
    Voxels (more than 2048 features, and more than rows) are first written in an orthonormal basis of the rows'
    span: penalty, gradients and steps of the solver do not change under a rotation, so the path is the same and
    the fit many times faster; only the solver's stopping rule looks at single coefficients (rotate=False leaves
    the features as they are). Folds are as many as the largest
    site has rows, at most 5; no search (C = 1) where fewer than two sites have two rows. Both are
    said in ``notes``. large: the same regression and folds solved by L-BFGS (beyond 20,000 rows C by one held-out
    fifth of so many, see medssl.evaluation.large), which is not the challenge's protocol and is noted.
    """
    features = np.asarray(features_NF, dtype=np.float64)
    levels, code_N = np.unique(np.asarray(site_N).astype(str), return_inverse=True)
    if len(levels) < 2 or len(code_N) != len(features):
        raise UserError(
            f"the site probe got {count(len(features), 'row')} and {count(len(levels), 'site')}; it needs one site per "
            "row and at least two sites"
        )
    basis = None
    if rotate and not scale and features.shape[1] > max(WIDE, len(features)):
        basis = np.linalg.qr(features.T)[0]
        features = features @ basis
    names = tuple(str(level) for level in levels)
    size_K = np.bincount(code_N)
    notes: list[str] = []
    if (size_K >= 2).sum() < 2:
        notes.append("site probe: fewer than two sites have two training rows, so C is 1 without a search")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _logistic(seed, scale).fit(features, code_N)
        return SiteProbe(model, names, 1.0, 0, tuple(notes), basis)
    folds = int(min(FOLDS, size_K.max()))
    if folds < FOLDS:
        notes.append(f"site probe: {count(folds, 'fold')} instead of {FOLDS}, since no site has more training rows")
    elif size_K.min() < folds:
        small = int((size_K < folds).sum())
        have = "has" if small == 1 else "have"
        notes.append(f"site probe: {small} of {len(levels)} sites {have} fewer than {folds} training rows")
    if large:
        many = len(features) > SEARCHED
        how = f" and C is chosen on a held-out fifth of {SEARCHED} rows" if many else ""
        notes.append(
            f"site probe: for {len(features)} training rows of {features.shape[1]} features from {len(levels)} sites "
            f"logistic regression is solved by L-BFGS{how}, not by 150 passes of SAGA as in the challenge"
        )
        quick, c = fit_logistic(features, code_N, PENALTIES, seed=seed, scale=scale, folds=folds)
        return SiteProbe(quick, names, c, 1 if many else folds, tuple(notes), basis)
    search = GridSearchCV(
        _logistic(seed, scale),
        {"logistic__C": PENALTIES},
        cv=folds,
        scoring="balanced_accuracy",
        n_jobs=n_jobs,
    )
    with warnings.catch_warnings(), joblib.parallel_config(backend="threading"):
        warnings.simplefilter("ignore")
        search.fit(features, code_N)
    return SiteProbe(
        search.best_estimator_, names, float(search.best_params_["logistic__C"]), folds, tuple(notes), basis
    )


def _logistic(seed: int, scale: bool) -> Pipeline:
    steps: list[tuple[str, Any]] = [("scale", StandardScaler())] if scale else []
    model = LogisticRegression(solver="saga", max_iter=MAX_ITER, random_state=seed)
    return Pipeline([*steps, ("logistic", model)])
