"""Scores of one set of predictions on the test rows, with bootstrap draws that pair with those of another set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medssl.evaluation.caution import FEW_SITES
from medssl.evaluation.metrics import bootstrap, regression
from medssl.evaluation.metrics.challenge import EXPONENT, challenge
from medssl.evaluation.metrics.classification import balanced_accuracy
from medssl.evaluation.rows import Rows

METRICS = (
    "mae_internal",
    "mae_external",
    "rmse_internal",
    "rmse_external",
    "r2_internal",
    "r2_external",
    "site_bacc",
    "challenge",
)
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a probe says of the test rows. age: (N,) years, NaN where none. site: (N,) text, "" where none."""

    age: FloatArray
    site: NDArray[np.object_]
    notes: tuple[str, ...] = ()
    alpha: float | None = None
    c: float | None = None


@dataclass(frozen=True, eq=False)
class Verdict:
    """metric: value or None. draws: bootstrap by people; site_draws: by whole external sites (resamples,), none
    of fewer than ``FEW_SITES``.

    People of one family are drawn together.
    """

    metric: dict[str, float | None]
    draws: dict[str, FloatArray] = field(default_factory=dict)
    site_draws: dict[str, FloatArray] = field(default_factory=dict)

    def intervals(self) -> dict[str, list[float] | None]:
        """95 % percentile interval of every metric that has a value, people drawn with replacement."""
        return {name: as_list(bootstrap.interval(self.draws[name])) if name in self.draws else None for name in METRICS}


def judge(rows: Rows, prediction: Prediction, *, seed: int, resamples: int) -> Verdict:
    """Score a prediction; the draws of two predictions of the same rows and seed are paired."""
    metric: dict[str, float | None] = dict.fromkeys(METRICS)
    draws: dict[str, FloatArray] = {}
    site_draws: dict[str, FloatArray] = {}
    for code, (part, mask) in enumerate((("internal", rows.internal), ("external", rows.external))):
        on = np.flatnonzero(mask & rows.aged & np.isfinite(prediction.age))
        if not on.size:
            continue
        true, predicted = rows.age[on], prediction.age[on]
        values = {"mae": regression.mae, "rmse": regression.rmse, "r2": regression.r2}
        for name, measure in values.items():
            value = measure(true, predicted)
            metric[f"{name}_{part}"] = value if np.isfinite(value) else None
        drawn = bootstrap.regression_draws(
            true, predicted, rows.group[on].astype(str), resamples=resamples, seed=(seed, code)
        )
        draws |= {f"{name}_{part}": drawn[name] for name in values if metric[f"{name}_{part}"] is not None}
        sites = rows.site[on].astype(str)
        if part == "external" and (sites != "").all() and len(set(sites)) >= FEW_SITES:
            drawn = bootstrap.regression_draws(true, predicted, sites, resamples=resamples, seed=(seed, 2))
            site_draws = {f"{name}_external": drawn[name] for name in values}
    _judge_site(rows, prediction, metric, draws, seed=seed, resamples=resamples)
    return Verdict(metric, draws, site_draws)


def _judge_site(
    rows: Rows,
    prediction: Prediction,
    metric: dict[str, float | None],
    draws: dict[str, FloatArray],
    *,
    seed: int,
    resamples: int,
) -> None:
    """Add the site score and, where there is an external error, the challenge score."""
    on = np.flatnonzero(rows.site_scored & (prediction.site != ""))
    if not on.size:
        return
    true, predicted = rows.site[on].astype(str), prediction.site[on].astype(str)
    bacc = balanced_accuracy(true, predicted)
    metric["site_bacc"] = bacc
    draws["site_bacc"] = bootstrap.balanced_accuracy_draws(
        true, predicted, rows.group[on].astype(str), resamples=resamples, seed=(seed, 3)
    )
    error = metric["mae_external"]
    if error is not None:
        metric["challenge"] = challenge(bacc, error)
        draws["challenge"] = draws["site_bacc"] ** EXPONENT * draws["mae_external"]


def difference(one: Verdict, other: Verdict) -> dict[str, dict[str, object]]:
    """Metric -> ``{"difference": one - other, "ci": by people, "ci_sites": by whole external sites}``, paired."""
    out: dict[str, dict[str, object]] = {}
    for name in METRICS:
        a, b = one.metric[name], other.metric[name]
        if a is None or b is None:
            out[name] = {"difference": None, "ci": None, "ci_sites": None}
            continue
        by_site = None
        if name in one.site_draws and name in other.site_draws:
            by_site = as_list(bootstrap.interval(one.site_draws[name] - other.site_draws[name]))
        ci = as_list(bootstrap.interval(one.draws[name] - other.draws[name]))
        out[name] = {"difference": a - b, "ci": ci, "ci_sites": by_site}
    return out


def as_list(pair: tuple[float, float] | None) -> list[float] | None:
    """An interval as JSON has it."""
    return None if pair is None else [pair[0], pair[1]]


def resampling(parts: Sequence[Rows]) -> str | None:
    """What intervals over the test rows of these parts resample, where that is not people; they share their N rows."""
    tested = np.any([rows.test for rows in parts], axis=0)
    people, groups = (len(set(labels[tested].tolist())) for labels in (parts[0].subject, parts[0].group))
    if people == groups:
        return None
    return (
        f"intervals resample {groups} families of {people} people (somebody without relatives counts as one): "
        "a family is drawn as a whole"
    )
