from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from medssl.data.synthetic.design import design
from medssl.data.synthetic.mark import DATASET, NAME, synthetic_rows
from tests.conftest import draw_cohort


def test_every_row_of_a_synthetic_cohort_is_marked(tmp_path: Path):
    plan, _ = design(12, 4, 0, 0.0, 0.25, 0.2)
    assert set(plan["dataset"]) == {DATASET}
    manifest = draw_cohort(tmp_path / "cohort", subjects=3, sites=2, seed=0)
    rows = pd.read_csv(manifest)["dataset"]
    assert synthetic_rows(rows, [tmp_path / "elsewhere.csv"]) == 3
    assert synthetic_rows([""] * 3, [manifest]) == 3, "the description beside the manifest is a mark as well"


def test_real_rows_are_not_marked(tmp_path: Path):
    (tmp_path / "dataset_description.json").write_text(json.dumps({"Name": "IXI"}))
    assert synthetic_rows(["IXI", ""], [tmp_path / "manifest.csv"]) == 0
    assert synthetic_rows([], []) == 0


def test_of_two_cohorts_only_marked_rows_are_synthetic(tmp_path: Path):
    (tmp_path / "dataset_description.json").write_text(json.dumps({"Name": NAME}))
    manifests = [tmp_path / "manifest.csv", tmp_path / "real" / "manifest.csv"]
    assert synthetic_rows(["synthetic", "IXI", "IXI"], manifests) == 1
    assert synthetic_rows(["IXI", "IXI"], manifests) == 0


def test_a_description_that_is_no_text_marks_nothing(tmp_path: Path):
    (tmp_path / "dataset_description.json").write_bytes(b"\xff\xfe")
    assert synthetic_rows(["IXI"], [tmp_path / "manifest.csv"]) == 0
