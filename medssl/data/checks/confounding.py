"""How much of an age, a diagnosis or a sex is known from the site alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from medssl.tables.ages import possible

if TYPE_CHECKING:
    from medssl.data.manifest.cohort import Cohort

CONFOUNDED = 0.14
"""Share of variance that Cohen (1988) calls a large effect."""
LARGE = 0.5
"""Cohen's w that counts as a large effect (1988); of a table with k columns or rows, V is w / sqrt(k - 1)."""


def about_confounding(cohort: Cohort) -> Iterator[tuple[str, str, str]]:
    """Level, code and sentence on how far age, diagnosis and sex go with the site: a warning from a large effect on."""
    numbers = confounding(cohort)
    if numbers:
        strong = numbers["epsilon_squared"] >= CONFOUNDED
        text = (
            f"site explains {100 * numbers['eta_squared']:.0f} % of the variance of age (eta squared "
            f"{numbers['eta_squared']:.2f}, {numbers['epsilon_squared']:.2f} corrected for {numbers['sites']} sites); "
            f"guessing the median age of the site errs by {numbers['mae_site_median']:.1f} years, the median of all "
            f"by {numbers['mae_median']:.1f}"
        )
        text += ": age and scanner are confounded, so judge age scores beside the site median" if strong else ""
        yield "warning" if strong else "info", "age-site", text
    for column in ("diagnosis", "sex"):
        found = association(cohort, column)
        if not found:
            continue
        strong = found["corrected"] >= found["large"]
        (low, least), (high, most) = found["least"], found["most"]
        text = (
            f"{column} and site: Cramer's V {found['cramers_v']:.2f}, {found['corrected']:.2f} corrected for "
            f"{found['sites']} sites (0: none, {found['large']:.2f}: a large effect, 1: the site says all); the share "
            f"of '{found['name']}' runs from {100 * least:.0f} % (site {low}) to {100 * most:.0f} % (site {high})"
        )
        if strong:
            text += f": {column} and scanner are confounded, so what features seem to know of {column} may be the "
            text += "scanner; score within each site that has both"
        yield "warning" if strong else "info", f"{column}-site", text


def confounding(cohort: Cohort) -> dict[str, Any]:
    """How much of age is known from the site alone; {} with fewer than two sites or no spread of age.

    One age per subject and site, impossible ages left out. eta_squared: between-site share of the sum of squares;
    epsilon_squared: the same corrected for the number of sites (1 - (1 - eta^2)(n - 1)/(n - sites)).
    mae_site_median, mae_median [years]: mean absolute error of the median age of the site, of everybody,
    each without the subject itself (a site of one falls back on everybody).
    """
    table = cohort.table
    known = table[(table["site"] != "") & possible(table["age"].to_numpy(dtype=float))]
    known = known.drop_duplicates(["subject", "site"])
    age = known["age"].to_numpy(dtype=float)
    groups = known.reset_index(drop=True).groupby("site").indices
    total = float(((age - age.mean()) ** 2).sum()) if len(age) else 0.0
    if len(groups) < 2 or total == 0 or len(age) <= len(groups):
        return {}
    between = sum(len(rows) * float(age[rows].mean() - age.mean()) ** 2 for rows in groups.values())
    eta = between / total
    overall = medians_without_self(age)
    by_site = overall.copy()
    for rows in groups.values():
        if len(rows) > 1:
            by_site[rows] = medians_without_self(age[rows])
    return {
        "subjects": len(age),
        "sites": len(groups),
        "eta_squared": eta,
        "epsilon_squared": max(0.0, 1 - (1 - eta) * (len(age) - 1) / (len(age) - len(groups))),
        "mae_site_median": float(np.abs(age - by_site).mean()),
        "mae_median": float(np.abs(age - overall).mean()),
    }


def medians_without_self(values: np.ndarray) -> np.ndarray:
    """For each of n >= 2 values the median of the others, in O(n log n)."""
    order = np.argsort(values, kind="stable")
    ordered, rank = values[order], np.arange(len(values))
    low, high = (len(values) - 2) // 2, (len(values) - 1) // 2
    out = np.empty(len(values))
    out[order] = (ordered[low + (low >= rank)] + ordered[high + (high >= rank)]) / 2
    return out


def association(cohort: Cohort, column: str) -> dict[str, Any]:
    """How far a column of names (sex, diagnosis) goes with the site; {} with fewer than two sites or two names.

    One name per subject and site. cramers_v: Cramer's V of the table of sites and names (Cramer 1946), 0 where every
    site has the same shares and 1 where the site says all; corrected: without its bias (Bergsma, J. Korean Stat. Soc.
    2013;42:323). large: the V of a large effect (Cohen 1988) in a table of this size. name: the one whose share differs
    most between sites; least, most: (site, its share there).
    """
    table = cohort.table
    known = table[(table["site"] != "") & (table[column] != "")].drop_duplicates(["subject", "site"])
    sites, names = (np.unique(known[key].astype(str), return_inverse=True) for key in ("site", column))
    n, (r, k) = len(known), (len(sites[0]), len(names[0]))
    if r < 2 or k < 2:
        return {}
    counts_RK = np.zeros((r, k))
    np.add.at(counts_RK, (sites[1], names[1]), 1)
    expected_RK = np.outer(counts_RK.sum(1), counts_RK.sum(0)) / n
    phi2 = float(((counts_RK - expected_RK) ** 2 / expected_RK).sum()) / n
    shares_RK = counts_RK / counts_RK.sum(1, keepdims=True)
    most = int(np.ptp(shares_RK, axis=0).argmax())
    low, high = int(shares_RK[:, most].argmin()), int(shares_RK[:, most].argmax())
    return {
        "subjects": int(known["subject"].nunique()),
        "sites": r,
        "names": k,
        "cramers_v": float(np.sqrt(phi2 / (min(r, k) - 1))),
        "corrected": _without_bias(phi2, n, r, k),
        "large": LARGE / float(np.sqrt(min(r, k) - 1)),
        "name": str(names[0][most]),
        "least": (str(sites[0][low]), float(shares_RK[low, most])),
        "most": (str(sites[0][high]), float(shares_RK[high, most])),
    }


def _without_bias(phi2: float, n: int, r: int, k: int) -> float:
    """Bergsma's V of a table of r x k cells and n people; 0 where there are too few people to say anything."""
    if n <= 2:
        return 0.0
    above = max(0.0, phi2 - (r - 1) * (k - 1) / (n - 1))
    sides = [m - (m - 1) ** 2 / (n - 1) for m in (r, k)]
    return float(np.sqrt(above / (min(sides) - 1))) if min(sides) > 1 else 0.0
