from __future__ import annotations

from pathlib import Path

import pytest

from medssl.data.sources.bids import scan_folder
from medssl.errors import ManifestError
from tests.data.sources.trees import bids, names, notes, scans, table

MP2RAGE = ("inv-1_MP2RAGE", "inv-2_MP2RAGE")


def mp2rage(root: Path, place: str, *kinds: str) -> Path:
    return scans(root, *[f"{place.format(s=s)}sub-{s}_{kind}.nii.gz" for s in ("01", "02") for kind in kinds])


@pytest.mark.oddity("mp2rage-only")
@pytest.mark.parametrize("place", ["sub-{s}/anat/", "sub-{s}/", "sub-{s}/ses-1/anat/", ""])
@pytest.mark.parametrize("listed", [True, False])
def test_without_any_t1w_the_combined_mp2rage_is_taken_and_nobody_is_several_people(
    tmp_path: Path, place: str, listed: bool
):
    mp2rage(tmp_path, place, *MP2RAGE, "UNIT1")
    if listed:
        table(tmp_path, "participant_id age\nsub-01 30\nsub-02 40\n")
    found = scan_folder(tmp_path)
    assert names(found) == ["sub-01_UNIT1.nii.gz", "sub-02_UNIT1.nii.gz"]
    assert found["participant_id"].tolist() == ["sub-01", "sub-02"]
    assert "there is no T1w image, so UNIT1 was taken (--suffix chooses)" in notes(found)


@pytest.mark.oddity("no-t1w")
@pytest.mark.parametrize("place", ["sub-{s}/anat/", "sub-{s}/", ""])
@pytest.mark.parametrize("listed", [True, False])
def test_without_t1w_and_unit1_the_suffixes_are_listed(tmp_path: Path, place: str, listed: bool):
    mp2rage(tmp_path, place, *MP2RAGE)
    scans(tmp_path, f"{place.format(s='01')}sub-01_FLAIR.nii.gz")
    if listed:
        table(tmp_path, "participant_id age\nsub-01 30\nsub-02 40\n")
    with pytest.raises(ManifestError, match=r"MP2RAGE \(4\), FLAIR \(1\).* --suffix"):
        scan_folder(tmp_path)
    assert names(scan_folder(tmp_path, "FLAIR")) == ["sub-01_FLAIR.nii.gz"]


@pytest.mark.oddity("no-t1w")
@pytest.mark.parametrize("listed", [True, False])
def test_functional_images_are_nobodys_t1w(tmp_path: Path, listed: bool):
    scans(tmp_path, "sub-01/func/sub-01_task-rest_bold.nii.gz")
    if listed:
        table(tmp_path, "participant_id age\nsub-01 30\n")
    with pytest.raises(ManifestError, match=r"bold \(1\)"):
        scan_folder(tmp_path)


@pytest.mark.oddity("person-without-a-t1w")
def test_people_without_the_image_are_named(tmp_path: Path):
    bids(tmp_path, "01", "02")
    bids(tmp_path, "03", suffix="FLAIR")
    assert "1 folder of a participant without a T1w image: sub-03" in notes(scan_folder(tmp_path))


@pytest.mark.oddity("id-with-a-hyphen")
@pytest.mark.parametrize("labels", [("CC-01", "CC-02"), ("NDAR_INV1", "NDAR_INV2")])
@pytest.mark.parametrize("layout", ["bids", "flat", "plain"])
def test_labels_that_bids_does_not_allow_stay_different_people(tmp_path: Path, labels: tuple[str, str], layout: str):
    scans(tmp_path, *[f"sub-{label}/anat/sub-{label}_T1w.nii.gz" for label in labels])
    table(tmp_path, "participant_id age\n" + "".join(f"sub-{label} {30 + k}\n" for k, label in enumerate(labels)))
    found = scan_folder(tmp_path, layout=layout)
    assert found["participant_id"].tolist() == [f"sub-{label}" for label in labels]
    if layout != "plain":
        assert found["age"].tolist() == [30.0, 31.0]


@pytest.mark.oddity("echoes-and-runs")
@pytest.mark.parametrize(
    ("files", "taken"),
    [
        (("echo-1", "echo-2", "run-2"), "echo-1"),
        (("run-1_echo-2", "run-2"), "run-1_echo-2"),
        (("run-1_echo-2", "run-1_echo-1", "run-2_echo-1"), "run-1_echo-1"),
        (("run-1", "run-1_echo-1", "run-2"), "run-1"),
    ],
)
def test_the_first_run_comes_before_its_echoes(tmp_path: Path, files: tuple[str, ...], taken: str):
    found = scan_folder(scans(tmp_path, *[f"sub-01/anat/sub-01_{name}_T1w.nii.gz" for name in files]))
    assert names(found) == [f"sub-01_{taken}_T1w.nii.gz"]
    assert "first run taken" in notes(found)


@pytest.mark.oddity("part-of-a-part")
def test_a_part_of_a_name_is_met_as_a_whole_first(tmp_path: Path):
    place = "derivatives/prep/sub-0{0}/anat/sub-0{0}_desc-{1}_T1w.nii.gz"
    kinds = [(1, "brain"), (1, "brainmask"), (2, "brainmask")]
    scans(tmp_path, *[place.format(*kind) for kind in kinds], "sub-01/anat/sub-01_T1w.nii.gz")
    found = scan_folder(tmp_path, derivative="desc-brain")
    assert names(found) == ["sub-01_desc-brain_T1w.nii.gz"]
    assert "2 images left out, which are not desc-brain but hold it: sub-01_desc-brainmask" in notes(found)
    assert "1 folder of a participant without a T1w image: sub-02" in notes(found)
    found = scan_folder(tmp_path, derivative="desc-brainm")
    assert len(found) == 2
    assert "no image has desc-brainm as a whole in its name; those that hold it were taken" in notes(found)


@pytest.mark.oddity("keys-in-capitals")
@pytest.mark.parametrize("layout", ["bids", "flat", "plain"])
def test_folders_whose_keys_are_in_capitals_are_read(tmp_path: Path, layout: str):
    scans(
        tmp_path,
        "sub-01/SES-1/anat/sub-01_SES-1_T1w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz",
        "SUB-02/ses-1/anat/SUB-02_ses-1_T1w.nii.gz",
        "SUB-03/Ses-1/anat/sub-03_T1w.nii.gz",
    )
    table(tmp_path, "participant_id age\nsub-01 10\nsub-02 20\nsub-03 30\n")
    found = scan_folder(tmp_path, layout=layout)
    assert sorted(zip(found["participant_id"], found["session"], strict=True)) == [
        ("sub-01", "ses-1"),
        ("sub-01", "ses-2"),
        ("sub-02", "ses-1"),
        ("sub-03", "ses-1"),
    ]
    if layout != "plain":
        assert sorted(found["age"]) == [10.0, 10.0, 20.0, 30.0]
    if layout == "bids":
        assert "keys are in capitals were read as sub- and ses-: SES-1, SUB-02, SUB-03, Ses-1" in notes(found)
