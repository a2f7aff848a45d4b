from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from medssl.features.table import FeatureTable

MakeCohort = Callable[..., FeatureTable]
SITES = 12


def cohort(
    train: int = 90,
    internal: int = 36,
    external: int = 40,
    *,
    sites: int = 4,
    unseen: int = 5,
    features: int = 12,
    seed: int = 0,
    **columns: object,
) -> FeatureTable:
    """Features that know age and site: ``sites`` known sites, ``unseen`` external ones, some people with two scans."""
    rng = np.random.default_rng(seed)
    rows = train + internal + external
    split = np.repeat(["train", "internal_test", "external_test"], [train, internal, external])
    code = np.r_[np.arange(train + internal) % sites, sites + np.arange(external) % unseen]
    age = rng.uniform(6, 86, rows)
    values = rng.normal(size=(rows, features)) + np.outer(age / 20, rng.normal(size=features))
    values += rng.normal(size=(sites + unseen, features))[code]
    meta = pd.DataFrame(
        {
            "participant_id": [f"{i:04d}" for i in range(rows)],
            "age": age,
            "site": [f"site{c}" for c in code],
            "split": split,
            "subject": [f"sub-{i - (i % 3 == 2)}-{part}" for i, part in enumerate(split)],
        }
    )
    return FeatureTable(meta.assign(**columns), values, {"encoder": "abc"})


@pytest.fixture(scope="session")
def make_cohort() -> MakeCohort:
    return cohort


def official(seed: int = 0, features: int = 6, tests: bool = True) -> FeatureTable:
    """Train rows with three folds, then public validation rows whose external sites are missing, as in OpenBHB.

    Sites 0 to 6 are in training, 7 in internal rows only, 8 to 11 in external rows.
    """
    rng = np.random.default_rng(seed)
    train, internal, external = 140, 30 * tests, 24 * tests
    rows = train + internal + external
    site = np.r_[np.arange(train) % 7, np.arange(internal) % 8, 8 + np.arange(external) % 4].astype(int)
    age = rng.uniform(6, 86, rows)
    values = rng.normal(size=(rows, features)) + np.outer(age / 20, rng.normal(size=features))
    values += 0.7 * rng.normal(size=(SITES, features))[site]
    split = np.repeat(["train", "internal_test", "external_test"], [train, internal, external])
    meta = pd.DataFrame({"participant_id": [f"{i:04d}" for i in range(rows)], "age": age, "split": split})
    meta["site"] = [str(s) if part != "external_test" else "" for s, part in zip(site, split, strict=True)]
    for k in range(3):
        fold = np.full(rows, "", dtype=object)
        fold[:train] = np.where(site[:train] == k, "external_test", "train")
        number_in_site = np.arange(rows) // 7
        fold[(fold == "train") & (number_in_site % 9 == k)] = "internal_test"
        meta[f"fold{k}"] = fold
    return FeatureTable(meta, values)
