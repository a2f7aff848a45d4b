"""Names of scans: what counts, what does not, and what a walk finds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medssl.data.sources.bids import scan_folder
from medssl.data.volumes.image_files import SUFFIXES, find_images, is_image_name, stem, suffix_of
from medssl.errors import ScanWarning


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_is_known_in_any_capitals_and_a_pair_counts_once(suffix):
    companion = suffix in (".hdr", ".hdr.gz")
    for name in (f"sub-01_T1w{suffix}", f"SUB-01_T1W{suffix.upper()}", f"sub.01{suffix.title()}"):
        assert is_image_name(name) is not companion
        assert suffix_of(name) == suffix
        assert stem(Path("folder.nii") / name) == name[: -len(suffix)]


@pytest.mark.oddity("dot-file")
@pytest.mark.parametrize("name", ["._sub-01_T1w.nii.gz", ".sub-01.nii", ".nii.gz", ".DS_Store"])
def test_hidden_files_are_no_images(name):
    assert not is_image_name(name)


@pytest.mark.parametrize("name", ["sub-01.json", "sub-01.nii.gz.part", "sub-01.dcm", "nii", "sub-01_nii", "a.gz", ""])
def test_other_names_are_no_images(name):
    assert not is_image_name(name)


@pytest.mark.oddity("folder-like-image")
def test_a_walk_takes_files_only_and_passes_over_what_is_hidden(tmp_path):
    inside = tmp_path / "sub-01_T1w.nii.gz"
    inside.mkdir()
    for name in ("b.nii", "B.NII.GZ", "._b.nii", "pair.hdr", "pair.img", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (inside / "sub-01_T1w.nii").write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "object.nii").write_bytes(b"x")
    (tmp_path / "absent.nii.gz").symlink_to(".git/annex/objects/no.nii.gz")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    names = [str(path.relative_to(tmp_path)) for path in find_images(tmp_path)]
    assert names == ["B.NII.GZ", "absent.nii.gz", "b.nii", "pair.img", "sub-01_T1w.nii.gz/sub-01_T1w.nii"]


def test_a_folder_that_may_not_be_opened_is_named_and_costs_only_its_own_scans(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "T1w.nii.gz").touch()
    closed(tmp_path / "a", monkeypatch)
    with pytest.warns(ScanWarning, match=r"a may not be opened \(permission denied\), so its scans are left out"):
        assert find_images(tmp_path) == [tmp_path / "b" / "T1w.nii.gz"]


@pytest.mark.parametrize("layout", ["auto", "bids", "flat", "plain"])
def test_a_person_whose_folder_may_not_be_opened_costs_no_other_person(tmp_path, layout, monkeypatch):
    for k in (1, 2, 3):
        (tmp_path / f"sub-0{k}" / "anat").mkdir(parents=True)
        (tmp_path / f"sub-0{k}" / "anat" / f"sub-0{k}_T1w.nii.gz").touch()
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-01\t30\nsub-02\t40\nsub-03\t50\n")
    closed(tmp_path / "sub-02", monkeypatch)
    with pytest.warns(ScanWarning, match=r"sub-02 may not be opened"):
        table = scan_folder(tmp_path, layout=layout)
    assert table["participant_id"].tolist() == ["sub-01", "sub-03"]


def closed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder one that may not be opened, also for root."""
    scandir = os.scandir

    def refusing(path: str = "."):
        if os.fspath(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
