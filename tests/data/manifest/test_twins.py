from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.folds import challenge_folds, split_cohort
from medssl.data.manifest.twins import with_copies
from medssl.experiments.benchmark.folds import fold_manifests
from medssl.experiments.benchmark.preset import load_preset
from medssl.tables.people import COPY


def measures(path: Path, twins: tuple[tuple[int, int], ...]) -> Path:
    """120 people of 6 sites with 20 measures; the second of each pair has the numbers of the first."""
    rng = np.random.default_rng(3)
    table = pd.DataFrame(rng.normal(2.5, 0.2, (120, 20)).round(4), columns=[f"r{k}_thickness" for k in range(20)])
    for one, other in twins:
        table.loc[other] = table.loc[one]
    ids = {"participant_id": [f"{k:03d}" for k in range(120)], "age": rng.uniform(20, 80, 120).round(1)}
    table.assign(**ids, site=[f"s{k % 6}" for k in range(120)], sex="F").to_csv(path, index=False)
    return path


TWINS = tuple((k, k + 60) for k in range(0, 60, 2))


@pytest.mark.oddity("one-scan-in-a-split")
def test_holders_of_one_scan_stay_on_one_side_of_every_split_that_is_drawn(tmp_path: Path):
    cohort = Cohort.read(measures(tmp_path / "t.csv", TWINS), images=False)
    made = with_copies(cohort, ["*_thickness"])
    assert int((made[COPY] != "").sum()) == 2 * len(TWINS)
    plain, kept = (split_cohort(table, seed=1).to_numpy() for table in (cohort.table, made))
    assert any(plain[one] != plain[other] for one, other in TWINS)
    assert all(kept[one] == kept[other] for one, other in TWINS)
    folds = challenge_folds(made, seed=1)
    for name in folds:
        fold = folds[name]
        assert all(fold.iloc[one] == fold.iloc[other] for one, other in TWINS)


def test_without_copies_splits_are_those_of_before(tmp_path: Path):
    cohort = Cohort.read(measures(tmp_path / "t.csv", ()), images=False)
    made = with_copies(cohort, ["*_thickness"])
    assert set(made[COPY]) == {""}
    assert split_cohort(made, seed=1).equals(split_cohort(cohort.table, seed=1))


def test_the_folds_of_a_benchmark_keep_them_together_and_write_no_digest(tmp_path: Path):
    preset = load_preset("roi").model_copy(update={"designs": {"sites": 3, "challenge": 2}})
    for path in fold_manifests(measures(tmp_path / "t.csv", TWINS), preset, tmp_path / "b").values():
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        assert COPY not in table
        sides = [{table["split"][one], table["split"][other]} - {""} for one, other in TWINS]
        assert all(len(side) <= 1 for side in sides)


def test_files_of_the_same_content_are_one_scan(tmp_path: Path):
    for k in range(4):
        (tmp_path / f"{k}.nii").write_bytes(b"scan" if k in (1, 3) else b"%d" % k)
    table = pd.DataFrame({"participant_id": list("abcd"), "image": [f"{k}.nii" for k in range(4)]})
    table.to_csv(tmp_path / "m.csv", index=False)
    labels = with_copies(Cohort.read(tmp_path / "m.csv"), None)[COPY].tolist()
    assert labels[1] == labels[3] != "" == labels[0] == labels[2]
