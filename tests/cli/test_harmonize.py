from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.evaluation import age as age_probe
from medssl.evaluation import site as site_probe
from medssl.features.table import FeatureTable
from tests.cli.conftest import Told, left_in, one_sentence


@pytest.fixture
def features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Features of 120 people: four sites with train and test rows, two sites with test rows only."""
    monkeypatch.setattr(age_probe, "ALPHAS", [1.0])
    monkeypatch.setattr(site_probe, "PENALTIES", [1.0])
    rng = np.random.default_rng(0)
    code = np.r_[np.arange(90) % 4, 4 + np.arange(30) % 2]
    age = rng.uniform(10, 80, 120)
    values = rng.normal(size=(120, 6)) + np.outer(age / 15, rng.normal(size=6)) + 3 * rng.normal(size=(6, 6))[code]
    meta = pd.DataFrame({
        "participant_id": [f"p{i:03d}" for i in range(120)],
        "age": age,
        "site": [f"site{c}" for c in code],
        "split": np.repeat(["train", "internal_test", "external_test"], [60, 30, 30]),
    })  # fmt: skip
    return FeatureTable(meta, values, {}).write(tmp_path / "features.csv")


@pytest.mark.parametrize(("name", "title"), [("combat", "ComBat"), ("residual", "residualised")])
def test_the_printed_table_and_the_record_name_harmonisation_and_policy(
    name: str, title: str, features: Path, medssl: Callable[..., Told], tmp_path: Path
):
    out = tmp_path / "out"
    options = ["--harmonize", name, "--unseen", "none", "--resamples", "0", "--quiet", "-o", out]
    status, text, _ = medssl("score", features, *options)
    assert status == 0
    assert f"| encoder, {title} (unseen: none) |" in text
    assert "| unharmonised |" in text
    assert "2 unseen sites (site4, site5) uncorrected" in text
    record = json.loads((out / "scores.json").read_text())
    assert record["protocol"]["harmonize"] == f"{title}, unseen sites: none; keeping age"
    assert record["site_bacc"] < record["references"]["unharmonised"]["site_bacc"]


def test_unseen_sites_end_in_one_sentence_by_default_and_write_nothing(
    features: Path, medssl: Callable[..., Told], tmp_path: Path
):
    before = left_in(tmp_path)
    told = medssl("score", features, "--harmonize", "combat", "--quiet", "-o", tmp_path / "out")
    assert "ComBat was not fitted on 2 unseen sites (site4, site5)" in one_sentence(told)
    assert left_in(tmp_path) == before
