"""Quick looks during a training: an online probe of age and site, and a 2-D map that stays in place."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medssl.errors import UserError
from medssl.evaluation.metrics.classification import balanced_accuracy
from medssl.evaluation.metrics.regression import mae
from medssl.tables.missing import is_missing

ALPHAS = 10.0 ** np.arange(-1, 6)
MINIMUM = 4


def online_probe(
    features_NF: ArrayLike,
    age_N: ArrayLike | None,
    site_N: ArrayLike | None,
    subject_N: ArrayLike | None = None,
    holdout: float = 0.25,
    seed: int = 0,
) -> dict[str, float | None]:
    """Age error and site accuracy of linear probes on held-out people; None where labels do not allow it.

    features_NF: of training scans. age_N: years, NaN missing. site_N: codes (NaN or negative missing) or text
    ("" missing). subject_N: whose scan a row is, or of which family (None: every row another person); it is on one
    side only. holdout: share of people held out, chosen by ``seed`` alone. Returns age_mae (ridge, penalty by the exact
    leave-one-out error, features standardised on the fitted rows), age_chance (MAE of the fitted rows' median on
    the same rows), site_bacc (logistic regression, C = 1) and site_chance (1 / fitted sites). Rows whose
    features are not finite are left out. Quick by design: scores of record come from ``scorecard``.
    """
    features = np.asarray(features_NF, dtype=np.float64)
    rows = len(features)
    if not 0.0 < holdout < 1.0:
        raise UserError(f"holdout is {holdout}; the share of people held out must lie between 0 and 1")
    age = np.full(rows, np.nan) if age_N is None else np.asarray(age_N, dtype=np.float64)
    site = _codes(site_N, rows)
    subject = np.arange(rows) if subject_N is None else np.asarray(subject_N)
    if features.ndim != 2 or not len(age) == len(site) == len(subject) == rows:
        raise UserError(
            f"features have shape {features.shape} but there are {len(age)} ages, {len(site)} sites and "
            f"{len(subject)} subjects; all need one entry per row"
        )
    held = _held_out(subject, holdout, seed)
    usable = np.isfinite(features).all(axis=1)
    out: dict[str, float | None] = dict.fromkeys(("age_mae", "age_chance", "site_bacc", "site_chance"))
    fit, test = usable & ~held & np.isfinite(age), usable & held & np.isfinite(age)
    if fit.sum() >= MINIMUM and test.any():
        ridge = make_pipeline(StandardScaler(), RidgeCV(alphas=ALPHAS)).fit(features[fit], age[fit])
        out["age_mae"] = mae(age[test], ridge.predict(features[test]))
        out["age_chance"] = mae(age[test], np.full(int(test.sum()), np.median(age[fit])))
    fit = usable & ~held & (site >= 0)
    known = np.unique(site[fit])
    test = usable & held & np.isin(site, known)
    if len(known) > 1 and test.any():
        logistic = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=100, tol=1e-3))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logistic.fit(features[fit], site[fit])
        out["site_bacc"] = balanced_accuracy(site[test], logistic.predict(features[test]))
        out["site_chance"] = 1.0 / len(known)
    return out


def map2d(features_NF: ArrayLike, previous_N2: ArrayLike | None = None) -> NDArray[np.float64]:
    """First two principal components, (N, 2) float64, turned to lie on the map of before.

    Without a previous map the signs are fixed: the largest loading of each axis is positive. With one (the same
    rows), the orthogonal matrix that brings the new map closest to it is applied (orthogonal Procrustes), so
    that points do not jump between epochs; distances inside the map do not change. Rows whose features are not
    finite get NaN.
    """
    features = np.asarray(features_NF, dtype=np.float64)
    if features.ndim != 2:
        raise UserError(f"features have shape {features.shape}; a map needs a matrix (rows, features)")
    out = np.full((len(features), 2), np.nan)
    good = np.isfinite(features).all(axis=1)
    if not good.any():
        return out
    centred = features[good] - features[good].mean(axis=0)
    out[good] = centred @ _two_axes(centred)
    if previous_N2 is None:
        return out
    previous = np.asarray(previous_N2, dtype=np.float64)
    if previous.shape != out.shape:
        raise UserError(
            f"the previous map has shape {previous.shape}, the new one {out.shape}; they need the same rows"
        )
    both = good & np.isfinite(previous).all(axis=1)
    if both.any():
        left, _, right = np.linalg.svd((out[both]).T @ (previous[both] - previous[both].mean(axis=0)))
        out[good] = out[good] @ (left @ right)
    return out


def _two_axes(centred_NF: NDArray[np.float64]) -> NDArray[np.float64]:
    """Loadings (F, 2) of the first two principal components; zeros where the data have fewer."""
    rows, width = centred_NF.shape
    axes = np.zeros((width, 2))
    if width <= rows:
        loadings = np.linalg.eigh(centred_NF.T @ centred_NF)[1][:, ::-1][:, :2]
    else:
        scores = np.linalg.eigh(centred_NF @ centred_NF.T)[1][:, ::-1][:, :2]
        loadings = centred_NF.T @ scores
        length = np.linalg.norm(loadings, axis=0)
        loadings = np.where(
            length > 1e-12 * max(length.max(initial=0.0), 1e-300), loadings / np.maximum(length, 1e-300), 0
        )
    for k in range(loadings.shape[1]):
        largest = loadings[np.abs(loadings[:, k]).argmax(), k]
        axes[:, k] = loadings[:, k] * (-1.0 if largest < 0 else 1.0)
    return axes


def _held_out(subject_N: NDArray[Any], holdout: float, seed: int) -> NDArray[np.bool_]:
    """Mask of the held-out rows: people in random order until the share of people is reached (at least one)."""
    people, code_N = np.unique(subject_N, return_inverse=True)
    count = min(max(1, round(holdout * len(people))), len(people))
    chosen = np.zeros(len(people), dtype=bool)
    chosen[np.random.default_rng(seed).permutation(len(people))[:count]] = True
    return chosen[code_N]


def _codes(site_N: ArrayLike | None, rows: int) -> NDArray[np.int64]:
    """Integer codes of sites, -1 where missing."""
    if site_N is None:
        return np.full(rows, -1, dtype=np.int64)
    site = np.asarray(site_N)
    if site.dtype.kind in "fiub":
        known = np.isfinite(site) & (site >= 0)
        return np.where(known, np.where(known, site, 0), -1).astype(np.int64)
    names = np.array(["" if is_missing(v) else str(v) for v in site.tolist()], dtype=str)
    code = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return np.where(names == "", -1, code)
