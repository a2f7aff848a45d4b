from __future__ import annotations

from pathlib import Path

import pytest

from medssl.data.sources.bids import scan_folder
from medssl.data.sources.plain import participant_in
from medssl.errors import ManifestError
from tests.data.sources.trees import annex_link, names, notes, scans, table


@pytest.mark.parametrize(
    ("path", "participant"),
    [
        ("sub-01_T1w.nii.gz", "sub-01"),
        ("sub-01/T1.nii.gz", "sub-01"),
        ("site/sub-01/ses-2/anat/sub-01_ses-2_run-1_T1w.nii.gz", "sub-01"),
        ("group_sub-01_T1w.nii.gz", "sub-01"),
        ("sub-01_ses-1/T1.nii.gz", "sub-01"),
        ("sub-CC-001_T1w.nii.gz", "sub-CC-001"),
        ("sub-01-1mm.nii.gz", "sub-01"),
        ("sub-NDAR_INV01/T1.nii.gz", "sub-NDAR_INV01"),
        ("sub-NDAR_INV01/sub-NDAR_INV01_T1w.nii.gz", "sub-NDAR_INV01"),
        ("sub-01/other/sub-02_T1w.nii.gz", "sub-02"),
        ("study-sub-1_T1w.nii.gz", ""),
        ("anna/T1.nii.gz", ""),
    ],
)
def test_the_participant_of_a_path(path: str, participant: str):
    assert participant_in(Path("/d") / path, Path("/d")) == participant


@pytest.mark.oddity("sub-in-a-path")
@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(
    "files",
    [
        ("sub-01_ses-1_T1w.nii.gz", "sub-01_ses-2_T1w.nii.gz", "sub-02_T1w.nii.gz"),
        ("sub-01/T1.nii.gz", "sub-01/brain.nii.gz", "sub-02/T1.nii.gz"),
        ("a/sub-01_acq-x_T1w.nii.gz", "b/sub-01_acq-y_T1w.nii.gz", "a/sub-02_T1w.nii.gz"),
    ],
)
def test_one_person_is_never_several(tmp_path: Path, files: tuple[str, ...], listed: bool):
    scans(tmp_path, *files)
    if listed:
        table(tmp_path, "participant_id age\nsub-01 30\nsub-02 40\n")
    found = scan_folder(tmp_path)
    assert sorted(set(found["participant_id"])) == ["sub-01", "sub-02"]
    assert set(found["image"]) <= {str(tmp_path / name) for name in files}


@pytest.mark.oddity("sub-in-a-path")
def test_several_images_of_a_person_in_a_plain_folder_are_said(tmp_path: Path):
    scans(tmp_path, "x/sub-01_acq-a_T1w.nii.gz", "y/sub-01_acq-b_T1w.nii.gz", "x/sub-02_T1w.nii.gz")
    found = scan_folder(tmp_path)
    assert len(found) == 3
    assert "1 participant with several images of one session, all kept as scans of one person" in notes(found)
    assert "1 participant in several folders, each taken as one person: sub-01 (x, y)" in notes(found)


@pytest.mark.oddity("sub-in-a-path")
def test_a_person_without_a_row_is_not_mistaken_for_a_number_in_the_name(tmp_path: Path):
    scans(tmp_path, "sub-99_visit-1_T1w.nii.gz", "sub-1_visit-2_T1w.nii.gz")
    table(tmp_path, "participant_id age\n1 30\n2 40\n")
    found = scan_folder(tmp_path).set_index("participant_id")
    assert found.loc["1", "age"] == 30.0
    assert found["age"].isna().tolist() == [False, True]


def test_folders_that_are_links_are_searched(tmp_path: Path):
    scans(tmp_path / "elsewhere", "a_T1w.nii.gz")
    scans(tmp_path / "here", "b_T1w.nii.gz")
    (tmp_path / "here" / "more").symlink_to(tmp_path / "elsewhere")
    annex_link(tmp_path / "here" / "c_T1w.nii.gz")
    assert names(scan_folder(tmp_path / "here")) == ["b_T1w.nii.gz", "c_T1w.nii.gz", "a_T1w.nii.gz"]


@pytest.mark.oddity("freesurfer-folder")
@pytest.mark.parametrize("listed", [True, False])
def test_of_a_folder_of_freesurfer_the_volume_must_be_chosen(tmp_path: Path, listed: bool):
    people = ("IXI012", "sub-02", "fsaverage")
    scans(tmp_path, *[f"{name}/mri/{kind}.mgz" for name in people for kind in ("T1", "aseg", "brain")])
    scans(tmp_path, *[f"{name}/mri/orig/001.mgz" for name in people])
    if listed:
        table(tmp_path, "participant_id age\nIXI012 30\nsub-02 40\n")
    with pytest.raises(
        ManifestError, match=r"FreeSurfer with T1\.mgz \(2\), aseg.*--pattern, such as '\*/mri/brain\.mgz'"
    ):
        scan_folder(tmp_path)
    found = scan_folder(tmp_path, pattern="*/mri/brain.mgz")
    assert len(found) == 2
    assert "of fsaverage left out" in notes(found)
    if listed:
        assert found["age"].tolist() == [30.0, 40.0]


def _people(root: Path, ids: str, *files: str) -> dict[str, str]:
    """File -> person, of files without content and a table of ids with ages ten times as high."""
    scans(root, *files)
    table(root, "participant_id age\n" + "".join(f"{label} {int(label) * 10}\n" for label in ids.split()))
    found = scan_folder(root)
    return dict(zip(names(found), found["participant_id"], strict=True))


@pytest.mark.oddity("stray-number-in-a-name")
@pytest.mark.parametrize(
    ("ids", "files"),
    [
        ("1 2 3", {"01_v2": "1", "02_v1": "2", "03_v2": "3"}),
        ("1 2 3", {"study2_001": "1", "study2_002": "2", "study2_003": "3"}),
        ("1 2 3", {"visit1_subj2": "2", "visit1_subj3": "3"}),
        ("1 2 3", {"foo2_001": "1", "foo2_002": "2", "foo2_003": "3"}),
        ("1 2 3", {"x1_07_3": "3", "x2_07_2": "2", "x2_08_1": "1"}),
        ("1 2 12", {"IXI012-HH-1": "12", "IXI001-HH-2": "1", "IXI002-HH-1": "2"}),
        ("1 51456", {"a_0051456_q_1": "51456"}),
    ],
)
def test_the_number_that_tells_the_files_apart_is_the_person(tmp_path: Path, ids: str, files: dict[str, str]):
    found = _people(tmp_path, ids, *[f"{name}.nii.gz" for name in files])
    assert found == {f"{name}.nii.gz": label for name, label in files.items()}


@pytest.mark.oddity("stray-number-in-a-name")
@pytest.mark.parametrize("study", ["study", "foo"])
def test_a_file_of_a_pattern_whose_person_has_no_row_is_nobodys_other(tmp_path: Path, study: str):
    found = _people(tmp_path, "1 2 3", *[f"{study}2_00{k}.nii.gz" for k in (1, 3, 4)])
    assert list(found.values()) == ["1", "3", f"{study}2_004"]


@pytest.mark.oddity("stray-number-in-a-name")
def test_a_number_that_could_be_either_is_given_to_none_and_said(tmp_path: Path):
    scans(tmp_path, "1_2.nii.gz", "1_1.nii.gz", "2_1.nii.gz", "3.nii.gz")
    table(tmp_path, "participant_id age\n1 10\n2 20\n3 30\n")
    found = scan_folder(tmp_path)
    people = dict(zip(names(found), found["participant_id"], strict=True))
    assert (people["3.nii.gz"], people["1_1.nii.gz"]) == ("3", "1")
    assert found["age"].isna().sum() == 2
    assert "2 files could be of different people" in notes(found)
    assert "1_2.nii.gz (1 or 2)" in notes(found)
    (tmp_path / "3.nii.gz").unlink()
    (tmp_path / "1_1.nii.gz").unlink()
    with pytest.raises(ManifestError, match=r"could be of different people.*1_2\.nii\.gz \(1 or 2\).*sub-XX"):
        scan_folder(tmp_path)


@pytest.mark.oddity("stray-number-in-a-name")
def test_the_number_of_a_visit_is_nobody(tmp_path: Path):
    found = _people(tmp_path, "1 2 3", "anna_visit1.nii.gz", "bert_v2.nii.gz", "3.nii.gz")
    assert found["3.nii.gz"] == "3"
    assert found["anna_visit1.nii.gz"] not in ("1", "2", "3")
    assert found["bert_v2.nii.gz"] not in ("1", "2", "3")


@pytest.mark.oddity("two-spellings-of-an-id-in-files")
@pytest.mark.parametrize("files", [("sub-03.nii.gz", "sub-3.nii.gz"), ("03_T1w.nii.gz", "3_T1w.nii.gz")])
def test_the_exact_spelling_wins_and_the_other_is_said(tmp_path: Path, files: tuple[str, str]):
    scans(tmp_path, *files)
    table(tmp_path, "participant_id age\n3 30\n")
    found = scan_folder(tmp_path, layout="flat")
    assert names(found) == [files[1]]
    assert f"spell an id otherwise (03 for 3) where another file spells it as the table does: {files[0]}" in notes(
        found
    )
    assert "further files" not in notes(found)


@pytest.mark.oddity("two-spellings-of-an-id-in-files")
def test_numbers_of_scans_are_no_other_spelling(tmp_path: Path):
    scans(tmp_path, "001/scan1.nii.gz", "001/scan2.nii.gz", "002/scan1.nii.gz")
    table(tmp_path, "participant_id age\n1 30\n2 40\n")
    assert "spell an id otherwise" not in notes(scan_folder(tmp_path))
    assert "1 further files of a participant were left out" in notes(scan_folder(tmp_path))
