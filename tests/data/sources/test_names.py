from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from medssl.cli import app
from medssl.data.manifest.cohort import Cohort
from medssl.data.sources.bids import scan_folder
from medssl.data.sources.tables import write_manifest
from tests.data.sources.trees import bids, notes, table

WORDS = ["NA", "none", "999", "-9", "Unknown"]


@pytest.mark.oddity("folder-called-na")
@pytest.mark.parametrize("word", WORDS)
def test_folders_whose_names_read_as_missing_stay_data_sets(tmp_path: Path, word: str):
    folders = [bids(tmp_path / word, "01"), bids(tmp_path / "-999", "01"), bids(tmp_path / "12", "01")]
    found = scan_folder(folders)
    assert f"{word} as site-{word}" in notes(found)
    assert f"{word} as dataset-{word}" in notes(found)
    cohort = Cohort.read(write_manifest(found, tmp_path / "m.csv"))
    assert sorted(cohort.table["subject"]) == sorted([f"dataset-{word}/sub-01", "dataset--999/sub-01", "12/sub-01"])
    assert sorted(cohort.table["site"]) == sorted([f"site-{word}", "site--999", "12"])


@pytest.mark.oddity("folder-called-na")
@pytest.mark.parametrize("word", WORDS)
def test_a_data_set_whose_description_reads_as_missing(tmp_path: Path, word: str):
    (bids(tmp_path, "01") / "dataset_description.json").write_text(f'{{"Name": "{word}"}}')
    found = scan_folder(tmp_path)
    assert found["dataset"].tolist() == [f"dataset-{word}"]
    assert f"{word} as dataset-{word}" in notes(found)


@pytest.mark.oddity("folder-called-na")
@pytest.mark.parametrize("word", WORDS)
def test_names_that_are_given_are_written_so_that_they_stay(tmp_path: Path, word: str):
    bids(tmp_path / "d", "01", "02")
    out = tmp_path / "m.csv"
    asked = ["cohort", "scan", str(tmp_path / "d"), "-o", str(out), f"--site={word}", f"--dataset={word}"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    assert f"{word} as site-{word}" in result.output.replace("\n", "")
    read = Cohort.read(out).table
    assert read["site"].tolist() == [f"site-{word}"] * 2
    assert read["dataset"].tolist() == [f"dataset-{word}"] * 2


@pytest.mark.oddity("folder-called-na")
def test_a_code_that_other_folders_would_make_missing_stays(tmp_path: Path):
    one = table(bids(tmp_path / "a", "01", "02"), "participant_id site\nsub-01 999\nsub-02 700\n").parent
    other = table(bids(tmp_path / "b", "03"), "participant_id site\nsub-03 3\n").parent
    (one / "sub-02" / "anat" / "sub-02_T1w.nii.gz").unlink()
    found = scan_folder([one, other])
    read = Cohort.read(write_manifest(found, tmp_path / "m.csv")).table
    assert read["site"].tolist() == ["site-999", "3"]


def test_other_names_are_written_as_they_are(tmp_path: Path):
    found = scan_folder([bids(tmp_path / "998", "01"), bids(tmp_path / "oslo", "01")])
    assert sorted(found["site"]) == ["998", "oslo"]
    assert "reads as missing" not in notes(found)
