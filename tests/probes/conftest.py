from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from medssl.features.table import FeatureTable

MakeCohort = Callable[..., FeatureTable]


def cohort(
    train: int = 90,
    internal: int = 36,
    external: int = 40,
    *,
    sites: int = 4,
    features: int = 12,
    seed: int = 0,
    **columns: object,
) -> FeatureTable:
    """Features that know age and site: ``sites`` known sites, five external ones, some people with two scans."""
    rng = np.random.default_rng(seed)
    rows = train + internal + external
    split = np.repeat(["train", "internal_test", "external_test"], [train, internal, external])
    code = np.r_[np.arange(train + internal) % sites, sites + np.arange(external) % 5]
    age = rng.uniform(6, 86, rows)
    values = rng.normal(size=(rows, features)) + np.outer(age / 20, rng.normal(size=features))
    values += rng.normal(size=(sites + 5, features))[code]
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
