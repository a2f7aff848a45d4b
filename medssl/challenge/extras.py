"""What the challenge does not report, to be read beside it: intervals, age within a site, every site left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from medssl.evaluation.age import fit_age
from medssl.evaluation.intervals import Prediction, as_list
from medssl.evaluation.metrics.bootstrap import interval, resampled_sums
from medssl.evaluation.metrics.challenge import EXPONENT
from medssl.evaluation.metrics.regression import mae
from medssl.evaluation.rows import Rows

LEAST = 10
"""Rows that a site needs to count in the correlation within sites."""
FloatArray = NDArray[np.float64]


def within_site(
    age_N: FloatArray, predicted_N: FloatArray, site_N: NDArray[np.object_], least: int = LEAST
) -> tuple[float | None, int]:
    """Mean over sites of Pearson's r of predicted and true age, and the number of sites in it.

    A site counts where it is known, has ``least`` rows with both ages, and neither is constant in it; every such
    site weighs the same. Knowing the scanner alone gives nothing here. (None, 0) where no site counts.

    >>> age = np.array([20.0, 30.0, 40.0, 50.0])
    >>> within_site(age, -age, np.array(["a"] * 4, dtype=object), least=4)
    (-1.0, 1)
    """
    found = []
    known = np.isfinite(age_N) & np.isfinite(predicted_N)
    for name in sorted({str(s) for s in site_N} - {""}):
        at = known & (site_N == name)
        true, said = age_N[at], predicted_N[at]
        if len(true) >= max(least, 2) and _varies(true) and _varies(said):
            found.append(float(np.corrcoef(true, said)[0, 1]))
    return (round(float(np.mean(found)), 12), len(found)) if found else (None, 0)


def _varies(values: FloatArray) -> bool:
    """More than the rounding of a constant."""
    return float(np.ptp(values)) > 1e-9 * max(1.0, float(np.abs(values).max()))


def fold_intervals(
    parts: Sequence[Rows], predictions: Sequence[Prediction], *, resamples: int, seed: int
) -> dict[str, list[float] | None]:
    """95 % percentile intervals of the means over folds, people drawn with replacement, probes as they are.

    parts, predictions: one per fold, of the same N rows. People of one family are drawn together, and whoever is
    drawn is drawn in every fold at once, so folds that share people are not taken for independent. A site that a draw
    misses keeps its recall, or chance would be too high in draws without the small sites. Keys mae_internal,
    mae_external, site_bacc, challenge.
    """
    judged = np.any([rows.test for rows in parts], axis=0)
    columns: list[FloatArray] = []
    classes = []
    for rows, said in zip(parts, predictions, strict=True):
        for mask in (rows.internal, rows.external):
            on = mask & rows.aged & np.isfinite(said.age)
            columns += [on.astype(float), np.where(on, np.abs(said.age - rows.age), 0.0)]
        scored = rows.site_scored & (said.site != "")
        names = sorted({str(s) for s in rows.site[scored]})
        classes.append(len(names))
        member = [scored & (rows.site == name) for name in names]
        columns += [m.astype(float) for m in member] + [(m & (said.site == rows.site)).astype(float) for m in member]
    table_NC = np.stack(columns, axis=1)[judged]
    who = parts[0].group[judged].astype(str)
    sums_RC = resampled_sums(table_NC, who, resamples=resamples, seed=(seed, 7))
    draws: dict[str, list[FloatArray]] = {"mae_internal": [], "mae_external": [], "site_bacc": [], "challenge": []}
    start = 0
    with np.errstate(divide="ignore", invalid="ignore"):
        for k in classes:
            n_int, e_int, n_ext, e_ext = sums_RC[:, start : start + 4].T
            size, hits = sums_RC[:, start + 4 : start + 4 + k], sums_RC[:, start + 4 + k : start + 4 + 2 * k]
            known_K = table_NC[:, start + 4 + k : start + 4 + 2 * k].sum(0) / table_NC[
                :, start + 4 : start + 4 + k
            ].sum(0)
            start += 4 + 2 * k
            recall = np.where(size > 0, hits / np.maximum(size, 1.0), known_K)
            bacc = recall.sum(1) / k if k else np.full(resamples, np.nan)
            draws["mae_internal"].append(e_int / n_int)
            draws["mae_external"].append(e_ext / n_ext)
            draws["site_bacc"].append(bacc)
            draws["challenge"].append(bacc**EXPONENT * (e_ext / n_ext))
    return {name: as_list(interval(np.mean(each, axis=0))) for name, each in draws.items()}


def left_out_sites(rows: Sequence[Rows]) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Rows with age and site that any fold uses, and their sites: what leave-site-out goes over."""
    used = np.any([r.train | r.test for r in rows], axis=0) & rows[0].aged & (rows[0].site != "")
    return used, tuple(sorted({str(s) for s in rows[0].site[used]}))


def leave_site_out(
    features_NF: FloatArray | None, rows: Rows, used_N: NDArray[np.bool_], sites: Sequence[str], n_jobs: int = 1
) -> Iterator[FloatArray]:
    """For every site in turn, ages (N,) of its rows by a probe that has seen neither the site nor its people.

    Their families are not seen either. The ridge search of the challenge is fitted anew each time on the other rows of
    ``used_N``; features None says the median age of the other rows. NaN outside the site.
    """
    for name in sites:
        at = used_N & (rows.site == name)
        fit = used_N & ~at & ~np.isin(rows.group.astype(str), rows.group[at].astype(str))
        age = np.full(len(rows.age), np.nan)
        if fit.any():
            if features_NF is None:
                age[at] = np.median(rows.age[fit])
            else:
                age[at] = fit_age(features_NF[fit], rows.age[fit], n_jobs=n_jobs).predict(features_NF[at])
        yield age


def left_out_errors(said: Sequence[FloatArray], rows: Rows) -> dict[str, float | int | None]:
    """MAE over all rows and its mean over sites, from the ages of :func:`leave_site_out`."""
    per_site = [mae(rows.age[on], age[on]) for age in said if (on := np.isfinite(age)).any()]
    pooled = [np.abs(age - rows.age)[np.isfinite(age)] for age in said]
    errors = np.concatenate(pooled) if pooled else np.empty(0)
    if not errors.size:
        return {"mae": None, "mae_mean_of_sites": None, "rows": 0, "sites": 0}
    return {
        "mae": float(errors.mean()),
        "mae_mean_of_sites": float(np.mean(per_site)),
        "rows": int(errors.size),
        "sites": len(per_site),
    }
