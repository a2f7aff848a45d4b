"""Bootstrap by groups: people (or whole sites) are drawn with replacement, the fitted probe stays as it is.

Every score used here is a function of sums over rows, so a draw needs only how often each group was taken.
The same groups, count and seed give the same draws: differences of two predictors are paired by that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medssl.errors import UserError

FloatArray = NDArray[np.float64]
Seed = int | tuple[int, ...]
_CELLS = 1 << 22


def resampled_sums(columns_NC: ArrayLike, group_N: ArrayLike, *, resamples: int, seed: Seed) -> FloatArray:
    """Sums of every column over ``resamples`` bootstrap samples of groups, (resamples, C).

    columns_NC: one row per scan. group_N: label of the group that is drawn as a whole (person or site); as
    many groups are drawn as there are. Memory stays bounded for any number of groups.
    """
    columns = np.asarray(columns_NC, dtype=np.float64)
    names, code_N = np.unique(np.asarray(group_N), return_inverse=True)
    if columns.ndim != 2 or len(columns) != len(code_N):
        raise UserError(f"{len(code_N)} group labels for columns of shape {columns.shape}; one label per row is needed")
    if resamples < 0:
        raise UserError(f"resamples is {resamples}; give 0 for no intervals, or a number such as 2000")
    groups = len(names)
    totals_GC = np.zeros((groups, columns.shape[1]))
    np.add.at(totals_GC, code_N, columns)
    out_RC = np.empty((resamples, columns.shape[1]))
    if not groups:
        out_RC[:] = 0.0
        return out_RC
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS // groups)
    share_G = np.full(groups, 1.0 / groups)
    for start in range(0, resamples, step):
        stop = min(resamples, start + step)
        out_RC[start:stop] = rng.multinomial(groups, share_G, size=stop - start) @ totals_GC
    return out_RC


def interval(draws_R: ArrayLike, *, level: float = 0.95) -> tuple[float, float] | None:
    """Percentile interval of bootstrap draws, the undefined ones left out; None where none is defined.

    >>> interval([0.0, 1.0, 2.0, 3.0, 4.0], level=0.5)
    (1.0, 3.0)
    """
    draws = np.asarray(draws_R, dtype=np.float64)
    draws = draws[np.isfinite(draws)]
    if not draws.size:
        return None
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return float(low), float(high)


def regression_draws(
    true_N: ArrayLike, predicted_N: ArrayLike, group_N: ArrayLike, *, resamples: int, seed: Seed
) -> dict[str, FloatArray]:
    """Draws of ``mae``, ``rmse`` and ``r2`` (NaN where undefined), each (resamples,)."""
    true = np.asarray(true_N, dtype=np.float64)
    error = np.asarray(predicted_N, dtype=np.float64) - true
    centred = true - true.mean() if true.size else true
    columns = np.stack([np.ones_like(true), np.abs(error), error**2, centred, centred**2], axis=1)
    n, absolute, squared, first, second = resampled_sums(columns, group_N, resamples=resamples, seed=seed).T
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = second - first**2 / n
        spread = np.where(spread > 1e-9 * np.maximum(second, 1e-300), spread, np.nan)
        return {"mae": absolute / n, "rmse": np.sqrt(squared / n), "r2": 1.0 - squared / spread}


def balanced_accuracy_draws(
    true_N: ArrayLike, predicted_N: ArrayLike, group_N: ArrayLike, *, resamples: int, seed: Seed
) -> FloatArray:
    """Draws of the balanced accuracy, (resamples,): mean recall over the classes.

    A class that a draw misses keeps the recall it has in all rows: left out, it would raise the accuracy of chance
    in draws without the small classes.
    """
    true, predicted = np.asarray(true_N), np.asarray(predicted_N)
    classes, code_N = np.unique(true, return_inverse=True)
    member_NK = code_N[:, None] == np.arange(len(classes))[None, :]
    hit_NK = member_NK & (true == predicted)[:, None]
    columns = np.concatenate([member_NK, hit_NK], axis=1).astype(np.float64)
    sums_RC = resampled_sums(columns, group_N, resamples=resamples, seed=seed)
    size_RK, hits_RK = sums_RC[:, : len(classes)], sums_RC[:, len(classes) :]
    if not len(classes):
        return np.full(resamples, np.nan)
    whole_K = hit_NK.sum(axis=0) / member_NK.sum(axis=0)
    return np.where(size_RK > 0, hits_RK / np.maximum(size_RK, 1.0), whole_K).mean(axis=1)
