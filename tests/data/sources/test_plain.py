from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from medssl.data.sources.bids import scan_folder
from tests.data.sources.trees import notes, scans


def _visits(found: pd.DataFrame) -> list[tuple[str, str]]:
    """(person, session) of every image."""
    sessions = found["session"] if "session" in found else [""] * len(found)
    return sorted(zip(found["participant_id"], sessions, strict=True))


@pytest.mark.oddity("folder-of-a-person")
@pytest.mark.parametrize(
    "visits", [("baseline", "followup"), ("visit 1", "visit 2"), ("ses-1", "ses-2"), ("M00", "M12")]
)
def test_folders_of_people_with_folders_of_visits(tmp_path: Path, visits: tuple[str, str]):
    scans(tmp_path, *[f"{k:03d}/{visit}/T1.nii.gz" for k in range(12) for visit in visits][:-1])
    found = scan_folder(tmp_path)
    labels = [f"ses-{visit.removeprefix('ses-').replace(' ', '')}" for visit in visits]
    assert _visits(found) == sorted([(f"{k:03d}", label) for k in range(12) for label in labels])[:-1]
    assert "12 people named by their folder" in notes(found)


@pytest.mark.oddity("folder-of-a-person")
@pytest.mark.parametrize("kinds", [("T1", "T2"), ("anat/T1", "flair/FLAIR"), ("scan1", "scan2"), ("run-1", "run-2")])
def test_folders_of_people_with_several_images(tmp_path: Path, kinds: tuple[str, str]):
    scans(tmp_path, *[f"{name}/{kind}.nii.gz" for name in ("001", "002", "anna") for kind in kinds])
    found = scan_folder(tmp_path)
    assert sorted(set(found["participant_id"])) == ["001", "002", "anna"]
    assert "3 participants with several images of one session" in notes(found)


@pytest.mark.oddity("folder-of-a-person")
def test_people_of_sites_stay_apart(tmp_path: Path):
    scans(tmp_path, *[f"{site}/{k}/T1.nii.gz" for site in ("oslo", "lund") for k in ("01", "02")])
    assert scan_folder(tmp_path)["participant_id"].nunique() == 4


@pytest.mark.oddity("visit-above-a-person")
@pytest.mark.parametrize("kind", ["", "_T1"])
def test_a_folder_of_a_visit_above_people_is_the_session(tmp_path: Path, kind: str):
    scans(tmp_path, *[f"{visit}/{k}{kind}.nii.gz" for visit in ("baseline", "followup") for k in ("001", "002")])
    assert _visits(scan_folder(tmp_path)) == [
        ("001", "ses-baseline"),
        ("001", "ses-followup"),
        ("002", "ses-baseline"),
        ("002", "ses-followup"),
    ]


@pytest.mark.oddity("several-images-of-a-name")
@pytest.mark.parametrize(
    "more",
    ["run-2_T1w", "acq-fast_T1w", "rec-a_T1w", "dir-AP_T1w", "space-MNI_desc-brain_T1w", "inv-1_run-2_T1w"],
)
def test_what_bids_says_of_an_image_is_no_part_of_an_id(tmp_path: Path, more: str):
    scans(tmp_path, "anna_ses-1_T1w.nii.gz", f"anna_ses-2_{more}.nii.gz", "bert_ses-1_T1w.nii.gz")
    assert _visits(scan_folder(tmp_path)) == [("anna", "ses-1"), ("anna", "ses-2"), ("bert", "ses-1")]


@pytest.mark.oddity("several-images-of-a-name")
def test_runs_and_kinds_of_one_name_are_one_person_and_said(tmp_path: Path):
    scans(tmp_path, "anna_T1.nii.gz", "anna_T2.nii.gz", "bert_run-1.nii.gz", "bert_run-2.nii.gz")
    found = scan_folder(tmp_path)
    assert found["participant_id"].tolist() == ["anna", "anna", "bert", "bert"]
    assert "2 participants with several images of one session" in notes(found)


@pytest.mark.oddity("folder-of-several-people")
def test_images_that_may_be_of_different_people_are_said(tmp_path: Path):
    scans(tmp_path, "oslo/001.nii.gz", "oslo/002.nii.gz", "lund/001.nii.gz")
    found = scan_folder(tmp_path)
    assert found["participant_id"].tolist() == ["lund_001", "oslo_001", "oslo_002"]
    assert "several images of one folder are taken as different people: oslo" in notes(found)


@pytest.mark.oddity("folder-of-a-person")
def test_folders_of_kinds_of_images_alone_need_not_be_alike(tmp_path: Path):
    scans(tmp_path, "M01/T1.nii.gz", "M01/T2.nii.gz", "M02/T1.nii.gz", "anna/flair/FLAIR.nii.gz")
    assert scan_folder(tmp_path)["participant_id"].tolist() == ["M01", "M01", "M02", "anna"]


@pytest.mark.oddity("folder-of-a-person")
def test_the_kinds_of_one_folder_alone_are_one_person(tmp_path: Path):
    scans(tmp_path, "anna/T1.nii.gz", "anna/T2.nii.gz")
    assert scan_folder(tmp_path)["participant_id"].tolist() == ["anna", "anna"]


@pytest.mark.oddity("visit-above-a-person")
def test_visits_in_names_are_sessions(tmp_path: Path):
    scans(tmp_path, "001_baseline_T1.nii.gz", "001_followup_T1.nii.gz", "002_visit2.nii.gz", "study_m01.nii.gz")
    assert _visits(scan_folder(tmp_path)) == [
        ("001", "ses-baseline"),
        ("001", "ses-followup"),
        ("002", "ses-visit2"),
        ("study_m01", ""),
    ]


@pytest.mark.oddity("folder-of-several-people")
def test_folders_below_one_folder_that_may_be_visits_are_said(tmp_path: Path):
    scans(tmp_path, "p1/2020/T1.nii.gz", "p1/2021/T1.nii.gz", "p2/2020/T1.nii.gz")
    assert "several images of one folder are taken as different people: p1;" in notes(scan_folder(tmp_path))
