from __future__ import annotations

from pathlib import Path

import pytest

from medssl.data.manifest.cohort import Cohort
from medssl.data.sources.bids import scan_folder
from medssl.data.sources.folders import names_of
from medssl.data.sources.tables import write_manifest
from medssl.errors import ManifestError
from tests.data.sources.trees import bids, names, notes, scans, table


def two(root: Path, first: str = "oslo", second: str = "lund") -> list[Path]:
    """Two BIDS folders with a person of the same id; only the first has a table, which names no site."""
    one, other = bids(root / first, "01", "02"), bids(root / second, "01")
    table(one, "participant_id age\nsub-01 30\nsub-02 40\n")
    return [one, other]


@pytest.mark.oddity("several-folders")
@pytest.mark.parametrize("given", ["list", "parent"])
def test_several_folders_are_one_cohort_of_different_people(tmp_path: Path, given: str):
    folders = two(tmp_path)
    found = scan_folder(folders if given == "list" else tmp_path)
    rows = found[["participant_id", "dataset", "site"]].to_numpy().tolist()
    expected = [["sub-01", "oslo", "oslo"], ["sub-02", "oslo", "oslo"], ["sub-01", "lund", "lund"]]
    assert sorted(rows) == sorted(expected)
    assert sorted(found["age"].fillna(-1)) == [-1, 30.0, 40.0]
    cohort = Cohort.read(write_manifest(found, tmp_path / "m.csv"))
    assert sorted(set(cohort.table["subject"])) == ["lund/sub-01", "oslo/sub-01", "oslo/sub-02"]
    said = notes(found)
    assert "1 id in several folders, taken as different people: sub-01" in said
    assert "site is the folder's name where the table names none" in said
    assert "oslo: read as a bids folder" in said


@pytest.mark.oddity("several-folders")
def test_what_a_table_says_of_site_and_data_set_stays(tmp_path: Path):
    one, other = two(tmp_path)
    table(one, "participant_id age site dataset\nsub-01 30 s1 ADNI\nsub-02 40 s2 ADNI\n")
    found = scan_folder([one, other])
    assert found["site"].tolist() == ["s1", "s2", "lund"]
    assert found["dataset"].tolist() == ["ADNI", "ADNI", "lund"]


@pytest.mark.oddity("several-folders")
def test_one_table_for_several_folders(tmp_path: Path):
    folders = two(tmp_path)
    everybody = table(tmp_path / "t", "participant_id age site\nsub-01 60 x\nsub-02 61 y\n", "all.tsv")
    found = scan_folder(folders, table=everybody)
    assert found["age"].tolist() == [60.0, 61.0, 60.0]
    assert found["site"].tolist() == ["x", "y", "x"]


@pytest.mark.oddity("data-sets-of-one-name")
def test_data_sets_that_call_themselves_the_same_are_told_apart(tmp_path: Path):
    folders = two(tmp_path)
    for folder in folders:
        table(folder, "participant_id dataset\nsub-01 IXI\nsub-02 IXI\n")
    found = scan_folder(folders)
    assert found["dataset"].tolist() == ["IXI_oslo", "IXI_oslo", "IXI_lund"]
    assert "data sets of the same name in several folders were told apart" in notes(found)


@pytest.mark.oddity("folders-of-one-name")
def test_folders_of_the_same_name_are_told_apart(tmp_path: Path):
    found = scan_folder(two(tmp_path, "oslo/raw", "lund/raw"))
    assert found["dataset"].tolist() == ["oslo_raw", "oslo_raw", "lund_raw"]
    assert names_of([Path("/a/raw"), Path("/a/x")]) == {Path("/a/raw"): "raw", Path("/a/x"): "x"}
    with pytest.raises(ManifestError, match="is given twice"):
        scan_folder([tmp_path / "oslo" / "raw", tmp_path / "lund" / ".." / "oslo" / "raw"])


@pytest.mark.oddity("folder-without-images")
def test_a_folder_without_images_is_named_and_the_others_go_on(tmp_path: Path):
    folders = two(tmp_path)
    bids(tmp_path / "flairs", "07", suffix="FLAIR")
    (tmp_path / "empty").mkdir()
    found = scan_folder([*folders, tmp_path / "flairs", tmp_path / "empty"])
    assert len(found) == 3
    assert f"{tmp_path / 'flairs'} was left out" in notes(found)
    assert "FLAIR (1)" in notes(found)
    assert f"{tmp_path / 'empty'} was left out" in notes(found)
    with pytest.raises(ManifestError, match=r"none of 2 folders gave a scan; the first: .*FLAIR"):
        scan_folder([tmp_path / "flairs", tmp_path / "empty"])
    with pytest.raises(ManifestError, match="is not a folder"):
        scan_folder([*folders, tmp_path / "typo"])


@pytest.mark.oddity("folder-without-images")
def test_other_folders_beside_bids_folders_are_named(tmp_path: Path):
    two(tmp_path)
    scans(tmp_path, "extra/a_T1w.nii.gz")
    (tmp_path / "documents").mkdir()
    found = scan_folder(tmp_path)
    assert len(found) == 3
    assert "folders without sub-*, and those of derivatives, were left out: extra" in notes(found)


def test_errors_of_one_folder_are_not_passed_over(tmp_path: Path):
    one, other = two(tmp_path)
    table(one, "participant_id age age\nsub-01 1 2\n")
    with pytest.raises(ManifestError, match='has the column "age" twice'):
        scan_folder([one, other])


def test_a_folder_with_a_table_of_its_own_is_not_taken_apart(tmp_path: Path):
    two(tmp_path)
    scans(tmp_path, "lund/sub-09/anat/sub-09_T1w.nii.gz")
    (tmp_path / "lund" / "sub-01" / "anat" / "sub-01_T1w.nii.gz").unlink()
    table(tmp_path, "participant_id age\nsub-01 1\nsub-02 2\nsub-09 9\n")
    found = scan_folder(tmp_path)
    assert sorted(found["age"]) == [1.0, 2.0, 9.0]
    assert "dataset" not in found


def test_one_folder_has_the_name_of_its_description_and_no_site(tmp_path: Path):
    bids(tmp_path, "01")
    (tmp_path / "dataset_description.json").write_text('{"Name": "Ageing"}')
    found = scan_folder([tmp_path])
    assert found["dataset"].tolist() == ["Ageing"]
    assert "site" not in found
    assert names(found) == ["sub-01_T1w.nii.gz"]


@pytest.mark.oddity("folders-of-the-same-people")
@pytest.mark.parametrize("kinds", [("T1w", "FLAIR"), ("baseline", "followup1"), ("train", "test"), ("M00", "M12")])
def test_folders_of_modalities_visits_and_splits_hold_the_same_people(tmp_path: Path, kinds: tuple[str, str]):
    two(tmp_path, *kinds)
    (tmp_path / kinds[0] / "participants.tsv").unlink()
    found = scan_folder(tmp_path)
    assert sorted(set(found["participant_id"])) == ["sub-01", "sub-02"]
    assert "dataset" not in found
    assert f"each taken as one person: sub-01 ({', '.join(sorted(kinds))})" in notes(found)


@pytest.mark.oddity("folders-of-the-same-people")
@pytest.mark.parametrize("kind", ["described", "freesurfer", "derivatives", "fmriprep"])
def test_what_a_pipeline_made_is_no_other_data_set(tmp_path: Path, kind: str):
    one, other = two(tmp_path, "bids", kind if kind in ("derivatives", "fmriprep") else "made")
    if kind == "described":
        (other / "dataset_description.json").write_text('{"DatasetType": "derivative"}')
    elif kind == "freesurfer":
        scans(other, "sub-01/mri/brain.mgz")
    found = scan_folder(tmp_path)
    assert all(str(one) in image for image in found["image"])
    assert found["participant_id"].tolist() == ["sub-01", "sub-02"]
    assert f"the BIDS folder in it was read: {one}" in notes(found)
    assert f"were left out: {other.name}" in notes(found)


@pytest.mark.oddity("link-to-a-given-folder")
def test_a_folder_that_is_linked_from_another_is_taken_once_and_said(tmp_path: Path):
    one, _ = bids(tmp_path / "a", "01"), bids(tmp_path / "b" / "y", "01")
    (tmp_path / "b" / "x").symlink_to(one)
    found = scan_folder([one, tmp_path / "b"])
    assert sorted(found["dataset"]) == ["a", "y"]
    assert f"{tmp_path / 'b' / 'x'} is named twice (also as {one})" in notes(found)


@pytest.mark.oddity("link-to-a-given-folder")
@pytest.mark.parametrize("layout", ["auto", "plain"])
def test_a_folder_inside_another_that_is_given_is_refused(tmp_path: Path, layout: str):
    one, other = bids(tmp_path / "a", "01", "02"), bids(tmp_path / "c", "03")
    for pair in ([one, one / "sub-01"], [one / "sub-01", one]):
        with pytest.raises(ManifestError, match=r"sub-01: lies in .*/a, which is given too; give one of them"):
            scan_folder(pair, layout=layout)
    (other / "sub-01").symlink_to(one / "sub-01")
    with pytest.raises(ManifestError, match=r"sub-01_T1w\.nii\.gz: is the same file as one of .*by a link"):
        scan_folder([one, other], layout=layout)


@pytest.mark.oddity("subjects-of-several-folders")
def test_subjects_of_several_folders_stay_different_people(tmp_path: Path):
    folders = two(tmp_path)
    for folder in folders:
        table(folder, "participant_id subject\nsub-01 1\nsub-02 2\n")
    found = scan_folder(folders)
    assert found["subject"].tolist() == ["oslo/1", "oslo/2", "lund/1"]
    assert "1 subject in several folders, taken as different people" in notes(found)
    cohort = Cohort.read(write_manifest(found, tmp_path / "m.csv"))
    assert cohort.table["subject"].nunique() == 3
    table(folders[1], "participant_id subject\nsub-01 7\n")
    assert scan_folder(folders)["subject"].tolist() == ["1", "2", "7"]
