"""The probes of the OpenBHB challenge on arrays, as its kit fits and reads them: no scaling, no PCA, no fallback.

One fold: ridge (age) and logistic regression (site) are searched with five inner folds on the training rows and
refitted on all of them; probabilities of sites are scattered over every site of the cohort and the largest one is
the answer. Where the rows do not suffice for this the fold is refused; ``medssl score`` is the lenient sister.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medssl.errors import UserError
from medssl.evaluation.age import FOLDS, AgeProbe, fit_age
from medssl.evaluation.intervals import Prediction
from medssl.evaluation.rows import Rows
from medssl.evaluation.site import MAX_ITER, SiteProbe, fit_site

MAX_FEATURES = 10_000
"""Wider features are refused by the challenge."""


@dataclass(frozen=True)
class ChallengeProbes:
    """Both probes of one fold. sites: all S sites of the cohort, those without training rows too."""

    age: AgeProbe
    site: SiteProbe
    sites: tuple[str, ...]
    notes: tuple[str, ...]

    def predict_age(self, features_NF: ArrayLike) -> NDArray[np.float64]:
        """Ages in years, (N,); not clipped."""
        return self.age.predict(features_NF)

    def site_probabilities(self, features_NF: ArrayLike) -> NDArray[np.float64]:
        """Probabilities of all sites, (N, S) in the order of ``sites``; 0 for a site without training rows."""
        known_NK = self.site.probabilities(features_NF)
        all_NS = np.zeros((len(known_NK), len(self.sites)))
        all_NS[:, [int(level) for level in self.site.levels]] = known_NK
        return all_NS

    def predict_site(self, features_NF: ArrayLike) -> NDArray[np.object_]:
        """Most probable site of every row, (N,) text; the first in the order of ``sites`` where two are equal."""
        return np.array(self.sites, dtype=object)[np.argmax(self.site_probabilities(features_NF), axis=1)]


def in_order(sites: Iterable[str]) -> tuple[str, ...]:
    """Distinct sites without the missing one, whole numbers first and by size (the challenge's columns 0 to 63).

    >>> in_order(["10", "9", "", "Leiden", "9"])
    ('9', '10', 'Leiden')
    """
    names = {str(name) for name in sites} - {""}
    return tuple(sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)))


def fit_probes(
    features_NF: ArrayLike,
    age_N: ArrayLike,
    site_N: ArrayLike,
    *,
    sites: Sequence[str] | None = None,
    seed: int = 0,
    n_jobs: int = 1,
    rotate: bool = False,
) -> ChallengeProbes:
    """Fit both probes on the N training rows of a fold, in their order (the inner folds of age are not shuffled).

    features_NF: any width, as they are. age_N: years, NaN where unknown; site_N: text, "" where unknown: such rows
    are left out of that probe, which the challenge never needs. sites: all sites of the cohort (default: those of
    site_N). seed: of saga, which is unseeded in the challenge. rotate: see ``fit_site`` (for reference rows that are
    wider than the challenge admits). Errors: UserError where cv=5 is impossible. Source: RAMP kit, problem.py,
    AgeEstimator and SiteEstimator; the kit fits in the type of the submitted features, here always in float64.
    """
    features = np.asarray(features_NF, dtype=np.float64)
    age = np.asarray(age_N, dtype=np.float64)
    site = np.asarray(site_N, dtype=object)
    columns = in_order(site if sites is None else sites)
    aged, sited = np.isfinite(age), site != ""
    _enough(age[aged], site[sited])
    number = {name: i for i, name in enumerate(columns)}
    codes = [f"{number[name]:06d}" for name in site[sited]]  # text whose order is that of the columns
    ridge = fit_age(features[aged], age[aged], n_jobs=n_jobs)
    logistic = fit_site(features[sited], codes, seed=seed, n_jobs=n_jobs, rotate=rotate)
    notes = [*ridge.notes, *logistic.notes]
    if int(np.max(logistic.model[-1].n_iter_)) >= MAX_ITER:
        notes.append(f"site probe: the solver stopped at its limit of {MAX_ITER} iterations, as it does in the kit")
    return ChallengeProbes(ridge, logistic, columns, tuple(notes))


def _enough(age_N: NDArray[np.float64], site_N: NDArray[np.object_]) -> None:
    """UserError where the inner search cannot run as the challenge runs it."""
    if len(age_N) < 2 * FOLDS:
        raise UserError(
            f"{len(age_N)} training rows have an age, but cv={FOLDS} with r2 needs {2 * FOLDS} (two in every inner "
            "fold); add rows, or use `medssl score`, which reduces the inner folds"
        )
    names, size_K = np.unique(site_N.astype(str), return_counts=True)
    if len(names) < 2:
        known = f"one site ({names[0]})" if len(names) else "no site"
        raise UserError(f"the training rows name {known}, but the site probe needs at least 2; fill the column site")
    if size_K.max() < FOLDS or (size_K >= 2).sum() < 2:
        raise UserError(
            f"the largest of {len(names)} sites has {size_K.max()} training rows and {int((size_K >= 2).sum())} sites "
            f"have two or more, but cv={FOLDS} stratified by site needs a site of {FOLDS} rows and two sites of 2; "
            "add rows, or use `medssl score`, which reduces the inner folds"
        )


def predict_fold(
    rows: Rows,
    features_NF: NDArray[np.float64],
    asked_N: NDArray[np.bool_],
    *,
    sites: Sequence[str],
    usable_N: NDArray[np.bool_] | None = None,
    seed: int = 0,
    n_jobs: int = 1,
    rotate: bool = False,
) -> Prediction:
    """Fit on the train rows of a fold and answer for the rows of ``asked_N``; nothing of them reaches the fit.

    rows: the N rows of a table with the fold's training mask. usable_N: rows whose features mean something.
    """
    usable = np.ones(len(rows.age), dtype=bool) if usable_N is None else usable_N
    fit, asked = rows.train & usable, asked_N & usable
    probes = fit_probes(
        features_NF[fit], rows.age[fit], rows.site[fit], sites=sites, seed=seed, n_jobs=n_jobs, rotate=rotate
    )
    age = np.full(len(rows.age), np.nan)
    site = np.full(len(rows.age), "", dtype=object)
    age[asked] = probes.predict_age(features_NF[asked])
    site[asked] = probes.predict_site(features_NF[asked])
    return Prediction(age, site, probes.notes, probes.age.alpha, probes.site.c)
