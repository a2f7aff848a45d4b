"""Who is scanned where in a synthetic cohort: sites, ages, sexes and splits, drawn from one seed."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from medssl.data.synthetic.mark import DATASET
from medssl.data.synthetic.scanner import Site, draw_site
from medssl.data.synthetic.template import Floats

AGE_RANGE = (6.0, 90.0)
STRONGEST = 0.85
"""Share of the variance of age (as normal scores) between sites at confounding 1."""
_STREAM = 1


def design(
    subjects: int,
    sites: int,
    seed: int,
    confounding: float,
    external_fraction: float,
    internal_fraction: float,
) -> tuple[pd.DataFrame, list[Site]]:
    """The manifest without images, in the order of the ids (which is random), and the sites.

    Site names, ids and the order of the rows carry no information about age, split or scanner. The ages of the
    whole cohort follow the same distribution at any confounding; only their share between sites grows.
    """
    rng = np.random.default_rng([seed, _STREAM])
    n_external = _n_external(sites, external_fraction)
    external = set(rng.permutation(sites)[:n_external].tolist())
    width = max(2, len(str(sites)))
    scanners = [draw_site(rng, f"site-{s + 1:0{width}d}", s in external) for s in range(sites)]
    leaning = rng.permutation(ndtri((np.arange(sites) + 0.5) / sites))
    between = STRONGEST * confounding
    rows, seen, tested = [], 0, 0
    for scanner, size, lean in zip(scanners, _site_sizes(rng, subjects, sites), leaning, strict=True):
        # one quantile in each of `size` equal parts keeps the age distributions of small sites alike
        quantile = (rng.permutation(size) + rng.random(size)) / size
        own = math.sqrt(between) * lean + math.sqrt(1.0 - between) * ndtri(quantile)
        ages = age_quantile(ndtr(own))
        sexes = rng.permutation(np.resize(rng.permutation(["F", "M"]), size))
        splits = ["external_test" if scanner.external else "train"] * size
        if not scanner.external:
            seen += size
            internal = min(_rounded(internal_fraction * seen) - tested, size - 1)
            tested += internal
            splits[:internal] = ["internal_test"] * internal
        for age, sex, split in zip(ages, sexes, splits, strict=True):
            rows.append((round(float(age), 2), str(sex), scanner.name, DATASET, split))
    plan = pd.DataFrame(rows, columns=["age", "sex", "site", "dataset", "split"])
    plan = plan.iloc[rng.permutation(subjects)].reset_index(drop=True)
    width = max(4, len(str(subjects)))
    ids = [f"sub-{i + 1:0{width}d}" for i in range(subjects)]
    plan.insert(0, "participant_id", ids)
    plan.insert(1, "image", [f"images/{i}_T1w.nii.gz" for i in ids])
    return plan, scanners


def age_quantile(quantile: Floats) -> Floats:
    """Ages in years at quantiles (0 to 1) of the population: 6 to 90, mean 45, standard deviation 22."""
    grid = np.linspace(0.0, 1.0, 2001)
    middle = (grid[1:] + grid[:-1]) / 2
    cumulative = np.concatenate([[0.0], np.cumsum(middle**0.22 * (1.0 - middle) ** 0.38)])
    low, high = AGE_RANGE
    return low + (high - low) * np.interp(quantile, cumulative / cumulative[-1], grid)


def _n_external(sites: int, fraction: float) -> int:
    """Number of external sites: rounded, at least one of three, and one site stays."""
    wanted = _rounded(fraction * sites)
    if fraction > 0 and sites >= 3:
        wanted = max(wanted, 1)
    return min(wanted, sites - 1)


def _rounded(x: float) -> int:
    return math.floor(x + 0.5)


def _site_sizes(rng: np.random.Generator, subjects: int, sites: int) -> list[int]:
    """Sizes that differ by up to about a third and sum to `subjects`; nobody is left without a subject."""
    weight = rng.uniform(0.85, 1.15, sites)
    edges = np.rint(np.concatenate([[0.0], np.cumsum(weight)]) / weight.sum() * (subjects - sites)).astype(int)
    return [int(n) + 1 for n in np.diff(edges)]
