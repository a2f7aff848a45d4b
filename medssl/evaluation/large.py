"""The probes for large cohorts: the same models, solved otherwise.

The exact probes fit anew for every penalty and fold, and the site probe's stochastic solver takes 150 passes over
the data each time: 48 s of one core at 500 scans of 512 features from 30 sites, and so hours at 100,000 (L-BFGS: 3 to
4 s; ``python -m benchmarks.speed --only embed``). Here ridge needs one pass (everything it asks is in the Gram matrices
of the folds, so its search and its result are those of the exact probe up to rounding), and logistic regression is
solved by L-BFGS, with a search of C on a part of the rows where they are many. Memory beyond the features is
O(F^2 + N K).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.model_selection import StratifiedKFold

from medssl.evaluation.metrics.classification import balanced_accuracy

LARGE = 20_000
"""Training rows from which ``scorecard`` takes ridge from Gram matrices."""
WIDEST = 4096
"""Features up to which it does: beyond, the Gram matrices are larger than the data."""
LONG = 5_000_000
"""Training rows x (features + 6) x sites, a pass of SAGA, from which it solves the site probe by L-BFGS."""
SEARCHED = 20_000
"""Rows up to which C is searched by all folds; beyond, by one held-out fifth of so many."""
MAX_ITER = 150
_CHUNK = 8192
Matrix = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Linear:
    """Scores ``(x - mean) @ coef_FK + intercept_K``; a column of age, or one of logits per class."""

    mean_F: Matrix
    coef_FK: Matrix
    intercept_K: Matrix

    def scores(self, features_NF: Matrix) -> NDArray[np.float64]:
        """(N, K) float64, chunk by chunk."""
        parts = [
            (features_NF[at : at + _CHUNK] - self.mean_F) @ self.coef_FK + self.intercept_K
            for at in range(0, len(features_NF), _CHUNK)
        ]
        return np.concatenate([*parts, np.empty((0, len(self.intercept_K)))])


class LargeRidge(Linear):
    """Predicts a number."""

    def predict(self, features_NF: Matrix) -> NDArray[np.float64]:
        """(N,)."""
        return self.scores(features_NF)[:, 0]


class LargeLogistic(Linear):
    """Predicts a class."""

    def predict(self, features_NF: Matrix) -> NDArray[np.int64]:
        """Most probable class (N,)."""
        return self.scores(features_NF).argmax(1)

    def predict_proba(self, features_NF: Matrix) -> NDArray[np.float64]:
        """(N, K)."""
        score_NK = self.scores(features_NF)
        share_NK = np.exp(score_NK - score_NK.max(1, keepdims=True))
        return np.asarray(share_NK / share_NK.sum(1, keepdims=True))


def fit_ridge(features_NF: Matrix, y_N: Matrix, alphas: Matrix, folds: int, scale: bool) -> tuple[LargeRidge, float]:
    """Ridge with the alpha of the best mean r2 over ``folds`` contiguous folds, as ``GridSearchCV`` chooses it.

    scale: standardise inside every fold.
    """
    rows = len(features_NF)
    ends = np.cumsum([rows // folds + (k < rows % folds) for k in range(folds)])
    parts = [np.arange(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    mean_F = np.asarray(features_NF.mean(0, dtype=np.float64))
    centre = float(y_N.mean())
    moments = [_moments(features_NF[part[0] : part[-1] + 1], y_N[part], mean_F, centre) for part in parts]
    whole = np.sum(moments, axis=0)
    score_KA = np.empty((folds, len(alphas)))
    for k, part in enumerate(parts):
        coef_FA, shift_A = _solved(whole - moments[k], alphas, scale)
        x_NF, true_N = features_NF[part[0] : part[-1] + 1], y_N[part] - centre
        error_NA = LargeRidge(mean_F, coef_FA, shift_A).scores(x_NF) - true_N[:, None]
        spread = float(((true_N - true_N.mean()) ** 2).sum()) or 1.0  # a fold of one age still ranks alphas
        score_KA[k] = 1.0 - (error_NA**2).sum(0) / spread
    best = int(score_KA.mean(0).argmax())
    coef_FA, shift_A = _solved(whole, alphas[best : best + 1], scale)
    return LargeRidge(mean_F, coef_FA, shift_A + centre), float(alphas[best])


def _moments(x_NF: Matrix, y_N: Matrix, mean_F: Matrix, centre: float) -> Matrix:
    """Z^T Z of Z = (x - mean, 1, y - centre), (F + 2, F + 2) float64: every sum that ridge regression needs."""
    width = x_NF.shape[1] + 2
    out = np.zeros((width, width))
    for at in range(0, len(x_NF), _CHUNK):
        z_NF = np.ones((len(x_NF[at : at + _CHUNK]), width))
        z_NF[:, :-2] = x_NF[at : at + _CHUNK] - mean_F
        z_NF[:, -1] = y_N[at : at + _CHUNK] - centre
        out += z_NF.T @ z_NF
    return out


def _solved(moment: Matrix, alphas: Matrix, scale: bool) -> tuple[Matrix, Matrix]:
    """Coefficients (F, A) and intercepts (A,) for every alpha, from one eigendecomposition."""
    rows = moment[-2, -2]
    sum_F, sum_y = moment[:-2, -2], moment[-1, -2]
    gram_FF = moment[:-2, :-2] - np.outer(sum_F, sum_F) / rows
    with_y_F = moment[:-2, -1] - sum_F * sum_y / rows
    sd_F = np.ones(len(sum_F))
    if scale:
        sd_F = np.sqrt(np.maximum(np.diag(gram_FF) / rows, 0.0))
        sd_F = np.where(sd_F > 1e-12 * max(float(sd_F.max()), 1e-300), sd_F, 1.0)
    value_F, vector_FF = np.linalg.eigh(gram_FF / np.outer(sd_F, sd_F))
    turned_F = vector_FF.T @ (with_y_F / sd_F)
    coef_FA = vector_FF @ (turned_F[:, None] / (np.maximum(value_F, 0.0)[:, None] + alphas[None, :]))
    coef_FA /= sd_F[:, None]
    return coef_FA, (sum_y - sum_F @ coef_FA) / rows


def fit_logistic(
    features_NF: Matrix, code_N: Matrix, penalties: Matrix, *, seed: int, scale: bool, folds: int
) -> tuple[LargeLogistic, float]:
    """Multinomial logistic regression by L-BFGS (float32 products) with the C of the best balanced accuracy.

    folds: C is searched over so many folds stratified by class, as ``GridSearchCV`` makes them, up to ``SEARCHED``
    rows; beyond, on a held-out fifth of so many rows drawn by ``seed``. In every fold each C starts from the solution
    of the one before, the final fit from that of its C. scale: standardise inside every fold.
    """
    classes, rows = int(code_N.max()) + 1, len(features_NF)
    if rows <= SEARCHED:
        # a fold's labels are all that the split looks at
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sites with fewer rows than folds: fit_site says so
            parts = list(StratifiedKFold(folds).split(code_N, code_N))
    else:
        drawn = np.random.default_rng(seed).permutation(rows)[:SEARCHED]
        parts = [(drawn[SEARCHED // 5 :], drawn[: SEARCHED // 5])]
    score_KC = np.empty((len(parts), len(penalties)))
    path: list[Matrix] = []
    for k, (kept, held) in enumerate(parts):
        mean_F, sd_F, x_NF = _standard(features_NF[kept], scale)
        known = held[np.isin(code_N[held], code_N[kept])]
        new_NF = ((features_NF[known] - mean_F) / sd_F).astype(np.float32)
        path = []
        for j, c in enumerate(penalties):
            start = path[-1] if path else np.zeros((len(mean_F) + 1, classes))
            path.append(softmax_regression(x_NF, code_N[kept], classes, float(c), start))
            score_KC[k, j] = balanced_accuracy(code_N[known], (new_NF @ path[-1][:-1] + path[-1][-1]).argmax(1))
    best = int(score_KC.mean(0).argmax())
    mean_F, sd_F, x_NF = _standard(features_NF, scale)
    weight = softmax_regression(x_NF, code_N, classes, float(penalties[best]), path[best])
    return LargeLogistic(mean_F, weight[:-1] / sd_F[:, None], weight[-1]), float(penalties[best])


def _standard(features_NF: Matrix, scale: bool) -> tuple[Matrix, Matrix, NDArray[np.float32]]:
    """Mean (F,), standard deviation (F,; ones without ``scale``) and the rows without them, float32 (N, F)."""
    mean_F = np.asarray(features_NF.mean(0, dtype=np.float64))
    x_NF = np.subtract(features_NF, mean_F, dtype=np.float32, casting="unsafe")
    sd_F = np.ones(len(mean_F))
    if scale:
        sd_F = np.sqrt(np.einsum("nf,nf->f", x_NF, x_NF, dtype=np.float64) / len(x_NF))
        sd_F = np.where(sd_F > 1e-12 * max(float(sd_F.max()), 1e-300), sd_F, 1.0)
        x_NF /= sd_F.astype(np.float32)
    return mean_F, sd_F, x_NF


def softmax_regression(x_NF: Matrix, code_N: Matrix, classes: int, c: float, start_FK: Matrix) -> Matrix:
    """Minimise ``C sum_n -log p(code_n | x_n) + |W|^2 / 2``; returns W above its intercepts, (F + 1, K) float64.

    As scikit-learn's LogisticRegression: intercepts are not penalised. start_FK: where to begin.
    """
    rows, shape = len(x_NF), start_FK.shape
    assert shape == (x_NF.shape[1] + 1, classes)

    def value(flat: Matrix) -> tuple[float, Matrix]:
        weight = flat.reshape(shape)
        w_FK, b_K = weight[:-1].astype(x_NF.dtype), weight[-1].astype(x_NF.dtype)
        slope = np.zeros(shape)
        total = 0.0
        for at in range(0, rows, _CHUNK):
            x, code = x_NF[at : at + _CHUNK], code_N[at : at + _CHUNK]
            s_NK = x @ w_FK + b_K
            s_NK -= s_NK.max(1, keepdims=True)
            picked = s_NK[np.arange(len(code)), code].astype(np.float64)
            np.exp(s_NK, out=s_NK)
            sum_N = s_NK.sum(1, dtype=np.float64)
            total += float((np.log(sum_N) - picked).sum())
            s_NK /= sum_N[:, None].astype(s_NK.dtype)
            s_NK[np.arange(len(code)), code] -= 1
            slope[:-1] += x.T @ s_NK
            slope[-1] += s_NK.sum(0, dtype=np.float64)
        slope[:-1] += weight[:-1] / c
        loss = total + float((weight[:-1] ** 2).sum()) / (2 * c)
        return loss / rows, slope.ravel() / rows

    found = minimize(
        value, start_FK.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": MAX_ITER, "gtol": 1e-4, "ftol": 1e-9}
    )
    return np.asarray(found.x.reshape(shape))
