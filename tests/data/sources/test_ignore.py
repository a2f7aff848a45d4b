from __future__ import annotations

from pathlib import Path

import pytest

from medssl.data.sources.bids import scan_folder
from medssl.data.sources.ignore import Ignore
from medssl.errors import ManifestError
from tests.data.sources.trees import bids, names, notes, scans


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        ("sub-02/", "sub-02/anat/sub-02_T1w.nii.gz", True),
        ("sub-02/", "sub-02", False),
        ("sub-02", "sub-02/anat/x.nii", True),
        ("*_T1w.nii.gz", "sub-01/anat/sub-01_T1w.nii.gz", True),
        ("/*_T1w.nii.gz", "sub-01/anat/sub-01_T1w.nii.gz", False),
        ("sub-0[12]/**", "sub-02/anat/x.nii", True),
        ("sub-0[!12]/**", "sub-02/anat/x.nii", False),
        ("**/anat/*defaced*", "sub-01/ses-1/anat/sub-01_defaced_T1w.nii", True),
        ("sub-*/**/x.nii", "sub-01/x.nii", True),
        ("sub-*/x.nii", "sub-01/anat/x.nii", False),
        ("# sub-01\n\n", "sub-01/anat/x.nii", False),
        ("*.nii\n!keep.nii", "sub-01/keep.nii", False),
        ("*.nii\n!keep.nii", "sub-01/other.nii", True),
        ("sub-01/\n!sub-01/keep.nii", "sub-01/keep.nii", True),
        ("sub-0?", "sub-03/x.nii", True),
        (r"\#odd", "#odd", True),
    ],
)
def test_patterns_are_those_of_gitignore(tmp_path: Path, patterns: str, path: str, ignored: bool):
    (tmp_path / ".bidsignore").write_text(patterns)
    assert Ignore.of(tmp_path).names(tmp_path / path) is ignored


def test_without_a_file_nothing_is_ignored(tmp_path: Path):
    assert not Ignore.of(tmp_path).names(tmp_path / "sub-01" / "x.nii")


@pytest.mark.oddity("bidsignore")
def test_what_bidsignore_names_is_left_out_and_said(tmp_path: Path):
    bids(tmp_path, "01", "02")
    scans(tmp_path, "sub-01/anat/sub-01_acq-bad_T1w.nii.gz")
    (tmp_path / ".bidsignore").write_text("# what failed\nsub-02/\n*_acq-bad_*\n")
    found = scan_folder(tmp_path)
    assert names(found) == ["sub-01_T1w.nii.gz"]
    assert "2 images left out, named by .bidsignore: sub-01_acq-bad_T1w.nii.gz, sub-02_T1w.nii.gz" in notes(found)
    (tmp_path / ".bidsignore").write_text("**/*T1w*\n")
    with pytest.raises(ManifestError, match=r"3 left out, named by \.bidsignore"):
        scan_folder(tmp_path, layout="bids")


def test_the_bidsignore_of_the_folder_above_rawdata_counts_too(tmp_path: Path):
    bids(tmp_path / "rawdata", "01", "02")
    (tmp_path / ".bidsignore").write_text("rawdata/sub-02/\n")
    assert names(scan_folder(tmp_path)) == ["sub-01_T1w.nii.gz"]
