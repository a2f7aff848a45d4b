"""Paths, ids and synthetic cohorts."""

from __future__ import annotations

import json
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
    record = {"a": [{"b": "/data/my scans/x.csv"}], "c": "out: /data/run\nname: x", "d": "and/or", "e": 3}
    assert list(paths_in(record)) == ["/data/my scans/x.csv", "/data/run"]


def test_a_cohort_is_synthetic_where_its_scans_say_so(known: Known, whole_study: Path, tmp_path: Path):
    assert known.synthetic == (520, 520)
    table = (whole_study / "features.csv").read_text().replace(",synthetic,", ",ixi,", 500)
    run = tmp_path / "mixed"
    run.mkdir()
    for name in ("run.json", "recipe.yaml"):
        (run / name).write_text((whole_study / name).read_text())
    (run / "features.csv").write_text(table)
    assert read_known(run).synthetic == (20, 520)
    (run / "features.csv").write_text(table.replace(",synthetic,", ",ixi,"))
    assert read_known(run).synthetic is None


def test_before_scoring_the_description_beside_the_manifest_tells(bare_run: Path, tmp_path: Path):
    manifest = tmp_path / "cohort" / "manifest.csv"
    facts = {"training": {"manifests": [str(manifest)], "rows_in_manifests": 72}}
    (bare_run / "run.json").write_text(json.dumps(facts))
    assert read_known(bare_run).synthetic is None, "the manifest has gone"
    manifest.parent.mkdir()
    (manifest.parent / "dataset_description.json").write_text('{"Name": "medssl synthetic cohort"}')
    assert read_known(bare_run).synthetic == (72, 72)
    for other in ('{"Name": "IXI"}', "[", "[]", "[" * 5000):
        (manifest.parent / "dataset_description.json").write_text(other)
        assert read_known(bare_run).synthetic is None


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
