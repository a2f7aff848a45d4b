from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from medssl.report import about
from medssl.report.read import RunFiles, read_run


@pytest.fixture
def files(bare_run: Path) -> Callable[..., RunFiles]:
    """files(facts, table="text of features.csv") -> the run."""

    def write(facts: dict[str, Any], table: str = "") -> RunFiles:
        (bare_run / "run.json").write_text(json.dumps(facts))
        if table:
            (bare_run / "features.csv").write_text(table)
        return read_run(bare_run)

    return write


def test_the_title_says_encoder_method_cohort_and_date(files: Callable[..., RunFiles]):
    facts = {"method": "simclr", "finished": "2026-03-02T10:04:10Z", "training": {"datasets": {"IXI": 3, "camcan": 2}}}
    assert (
        about.title(files(facts)) == "Encoder resnet18 trained with simclr on the cohorts IXI and camcan, 2 March 2026"
    )


def test_the_title_names_the_cohort_of_the_training_and_not_of_the_tests(files: Callable[..., RunFiles]):
    table = "participant_id,age,split,dataset\na,30,train,IXI\nb,30,external_test,camcan\n"
    assert about.cohort_name(files({}, table)) == "the cohort IXI"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/home/anna/ixi/manifest.csv", "the cohort ixi"),
        ("tables/ixi-2026.csv", "the cohort ixi-2026"),
        ("C:\\data\\ixi\\manifest.csv", "the cohort ixi"),
    ],
)
def test_without_data_sets_the_manifest_names_the_cohort(path: str, name: str, files: Callable[..., RunFiles]):
    assert about.cohort_name(files({"training": {"manifests": [path]}})) == name


def test_a_run_in_progress_is_not_called_trained(files: Callable[..., RunFiles]):
    assert about.title(files({"method": "mae", "state": "training", "created": "no date"})) == (
        "Encoder resnet18 in training with mae"
    )


def test_synthetic_scans_are_known_by_their_data_set(files: Callable[..., RunFiles]):
    table = "participant_id,age,split,dataset\na,30,train,synthetic\nb,30,external_test,{}\n"
    every, some = files({}, table.format("synthetic")), files({}, table.format("IXI"))
    assert about.synthetic_notice(every).startswith("All 2 scans of this run were computed by medssl")
    assert about.synthetic_notice(some).startswith("1 of the 2 scans of this run is synthetic")
    assert about.synthetic_notice(files({}, table.replace("synthetic", "camcan").format("IXI"))) == ""


def test_synthetic_scans_are_known_from_the_record_alone(files: Callable[..., RunFiles]):
    run = files({"training": {"scans": 40, "synthetic": 40}})
    assert about.synthetic_notice(run).startswith("All 40 scans")
    assert about.cohort_name(run) == "a synthetic cohort"
    assert about.synthetic_notice(files({"training": {"scans": 40, "synthetic": 0}})) == ""


def test_real_scans_have_no_banner(whole_run: Path):
    scans = read_run(whole_run).scans
    assert isinstance(scans, pd.DataFrame)
    real = RunFiles(whole_run, scans=scans.assign(dataset="IXI"))
    assert about.synthetic_notice(real) == ""
    assert not about.all_synthetic(real)
