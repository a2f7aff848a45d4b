"""Paths, ids and synthetic cohorts."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from medssl.report.checklists.known import Known, paths_in, read_known
from tests.report.checklists.study import PLACE, change


@pytest.fixture(scope="module")
def known(whole_study: Path) -> Known:
    return read_known(whole_study)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"see {PLACE}/features.csv.failures.csv", "see features.csv.failures.csv"),
        (f"{PLACE}/manifest.csv row 3", "manifest.csv row 3"),
        ("read /home/john/a b.csv", "read a b.csv"),
        ("in /Users/john", "in ~"),
        ("C:\\Users\\john\\x.csv, D:/data/y.csv", "x.csv, y.csv"),
        ("file:///srv/data/x.nii.gz.", "x.nii.gz."),
        ("\\\\server\\share\\x.csv", "x.csv"),
        ("and/or 1/2, km / h, https://doi.org/10.1/x", "and/or 1/2, km / h, https://doi.org/10.1/x"),
        ("a\nb\x00c\u202ed\u2028e", "a b cd e"),
    ],
)
def test_of_a_path_the_name_is_left(text: str, shown: str, known: Known):
    assert known.plain(text) == shown


def test_a_person_is_not_named_in_what_is_passed_on(known: Known):
    text = "manifest.csv row 298 (sub-0297, ses-1) and 2 people (sub-0001, sub-0002, …) of 3 (first)"
    assert known.nameless(text) == "manifest.csv row 298 and 2 people of 3 (first)"


def test_paths_in_records_are_found_at_any_depth():
    record = {"a": [{"b": "/data/my scans/x.csv"}], "d": "and/or", "e": 3}
    assert "/data/my scans/x.csv" in paths_in(record)
    assert paths_in("out: /data/run/x\nname: x\n- '/data/b c/y'") == (
        "/data/b c/",
        "/data/b c/y",
        "/data/run/",
        "/data/run/x",
    )


def test_how_many_scans_are_synthetic_is_counted(known: Known, a_study: Path):
    assert known.synthetic == (520, 520)
    table = (a_study / "features.csv").read_text()
    (a_study / "features.csv").write_text(table.replace(",synthetic,", ",ixi,", 500))
    assert read_known(a_study).synthetic == (20, 520)
    (a_study / "features.csv").write_text(table.replace(",synthetic,", ",ixi,"))
    assert read_known(a_study).synthetic == (0, 520)


def test_values_of_the_recipe_are_read_in_block_and_flow_style(known: Known):
    assert known.several("data", "preprocessing", "spacing") == ["4.0", "4.0", "4.0"]
    files = replace(known.files, recipe="data:\n  shape: [1, 2, 3]\n  none: []\n  nested:\n  - a: 1\n")
    other = replace(known, files=files)
    assert other.several("data", "shape") == ["1", "2", "3"]
    assert other.several("data", "none") == other.several("data", "nested") == other.several("x") == []
    assert other.setting("data", "none") == ""


def test_a_run_that_was_only_begun_knows_little(bare_run: Path):
    known = read_known(bare_run)
    assert (known.scores, known.card, known.parameters, known.sites) == (None, {}, None, ())
    assert known.method == "exponential"
    (bare_run / "run.json").write_text("{}")
    change(bare_run / "run.json", state="training")
    assert not read_known(bare_run).finished


def test_checklists_need_neither_torch_nor_yaml():
    code = "import sys, medssl.report.checklists.write; print(sorted({'torch', 'yaml', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
