from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.data.manifest.cohort import Cohort
from medssl.data.sources.bids import scan_folder, write_manifest
from medssl.errors import ManifestError, UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def table(root: Path, text: str, name: str = "participants.tsv") -> None:
    (root / name).write_text(text.replace(" ", "\t"), encoding="utf-8")


def notes(found: pd.DataFrame) -> str:
    return " | ".join(found.attrs["notes"])


def test_bids_images_meet_their_rows_with_or_without_the_prefix(tmp_path):
    touch(
        tmp_path,
        "sub-02/anat/sub-02_T1w.nii.gz",
        "sub-10/anat/sub-10_T1w.nii",
        "sub-02/func/sub-02_bold.nii.gz",
    )
    table(tmp_path, "participant_id age sex group\n10 31.5 female patient\nsub-02 n/a M n/a\n")
    found = scan_folder(tmp_path)
    assert found["participant_id"].tolist() == ["sub-02", "sub-10"]
    assert found["image"].tolist() == [
        str(tmp_path / "sub-02/anat/sub-02_T1w.nii.gz"),
        str(tmp_path / "sub-10/anat/sub-10_T1w.nii"),
    ]
    assert np.isnan(found["age"][0])
    assert found["age"][1] == 31.5
    assert found["sex"].tolist() == ["M", "F"]
    assert found["group"].tolist() == ["", "patient"]


def test_ids_that_lost_their_zeros_are_matched_by_number(tmp_path):
    touch(tmp_path, "sub-007/anat/sub-007_T1w.nii.gz")
    table(tmp_path, "participant_id age\n7 20\n")
    found = scan_folder(tmp_path)
    assert found["age"].tolist() == [20.0]
    assert found["participant_id"].tolist() == ["sub-007"]
    assert "lack the zeros in front" in notes(found)


def test_sessions_have_rows_of_their_own_and_their_tables_win(tmp_path):
    touch(tmp_path, "sub-1/ses-1/anat/sub-1_ses-1_T1w.nii.gz", "sub-1/ses-2/anat/sub-1_ses-2_T1w.nii.gz")
    table(tmp_path, "participant_id age sex\nsub-1 50 F\n")
    table(tmp_path / "sub-1", "session_id age score\nses-2 53.5 9\n", "sub-1_sessions.tsv")
    found = scan_folder(tmp_path)
    assert found["session"].tolist() == ["ses-1", "ses-2"]
    assert found["age"].fillna(-1).tolist() == [-1, 53.5], "its table gives the age by visit"
    assert found["score"].tolist() == ["", "9"]
    assert found["sex"].tolist() == ["F", "F"]


def test_a_participants_table_by_session_is_joined_by_session(tmp_path):
    touch(tmp_path, "sub-1/ses-1/anat/sub-1_ses-1_T1w.nii.gz", "sub-1/ses-2/anat/sub-1_ses-2_T1w.nii.gz")
    table(tmp_path, "participant_id session_id age\nsub-1 ses-1 50\nsub-1 2 52\n")
    assert scan_folder(tmp_path)["age"].tolist() == [50.0, 52.0]


def test_of_several_runs_the_first_is_taken_and_the_others_are_reported(tmp_path):
    touch(tmp_path, *[f"sub-1/anat/sub-1_run-{run}_T1w.nii.gz" for run in (10, 2, 1)])
    found = scan_folder(tmp_path)
    assert [Path(image).name for image in found["image"]] == ["sub-1_run-1_T1w.nii.gz"]
    assert "2 further runs" in notes(found)
    assert "sub-1_run-10_T1w.nii.gz" in notes(found)


def test_another_suffix_is_found(tmp_path):
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-1_FLAIR.nii.gz")
    assert scan_folder(tmp_path, suffix="FLAIR")["image"][0].endswith("sub-1_FLAIR.nii.gz")


def test_derivatives_are_found_by_folder_and_by_part_of_the_name(tmp_path):
    base = "derivatives/prep/sub-1/anat/sub-1"
    touch(
        tmp_path,
        "sub-1/anat/sub-1_T1w.nii.gz",
        f"{base}_desc-brain_T1w.nii.gz",
        f"{base}_desc-head_T1w.nii.gz",
    )
    table(tmp_path, "participant_id age\nsub-1 44\n")
    by_part = scan_folder(tmp_path, derivative="desc-head")
    assert by_part["image"][0].endswith("sub-1_desc-head_T1w.nii.gz")
    assert by_part["age"][0] == 44
    by_folder = scan_folder(tmp_path, derivative="prep")
    assert by_folder["image"][0].endswith("derivatives/prep/sub-1/anat/sub-1_desc-brain_T1w.nii.gz")
    inside = scan_folder(tmp_path / "derivatives" / "prep", derivative="desc-head")
    assert inside["age"][0] == 44


def test_arrays_without_anat_folders_are_found(tmp_path):
    name = "derivatives/sub-1/ses-1/sub-1_preproc-quasiraw_T1w.npy"
    touch(tmp_path, name)
    found = scan_folder(tmp_path, derivative="preproc-quasiraw")
    assert found["image"].tolist() == [str(tmp_path / name)]
    assert found["session"].tolist() == ["ses-1"]


def test_what_does_not_meet_is_said(tmp_path):
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "sub-2/anat/sub-2_T1w.nii.gz")
    table(tmp_path, "participant_id age\nsub-2 30\nsub-3 40\n")
    found = scan_folder(tmp_path)
    assert "1 image has no row in the participants table, so no age, sex or site: sub-1" in notes(found)
    assert "1 rows of the participants table have no image: sub-3" in notes(found)


def test_names_and_birth_dates_are_left_out(tmp_path):
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz")
    table(tmp_path, "participant_id name date_of_birth birth_weight age\nsub-1 Ada 1990-01-02 3400 30\n")
    found = scan_folder(tmp_path)
    assert not {"name", "date_of_birth"} & set(found.columns)
    assert found["birth_weight"].tolist() == ["3400"]
    assert "left out for privacy: column name, date_of_birth" in notes(found)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1 2", ["M", "F"]),
        ("male Female", ["M", "F"]),
        ("m f", ["M", "F"]),
        ("u f", ["", "F"]),
    ],
)
def test_sex_is_spelled_where_it_is_unambiguous(tmp_path, written, read):
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "sub-2/anat/sub-2_T1w.nii.gz")
    one, two = written.split()
    table(tmp_path, f"participant_id Gender\nsub-1 {one}\nsub-2 {two}\n")
    assert scan_folder(tmp_path)["sex"].tolist() == read


@pytest.mark.parametrize("written", ["1 1", "0 1", "1 3"])
def test_codes_of_sex_that_could_mean_either_are_left_empty_until_they_are_explained(tmp_path, written):
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "sub-2/anat/sub-2_T1w.nii.gz")
    one, two = written.split()
    table(tmp_path, f"participant_id age sex\nsub-1 20 {one}\nsub-2 30 {two}\n")
    found = scan_folder(tmp_path)
    assert "sex" not in found
    assert "could mean either and are left empty" in notes(found)
    explained = scan_folder(tmp_path, sex={"0": "F", "1": "M", "3": "F"})
    assert explained["sex"].tolist() == [{"0": "F", "1": "M", "3": "F"}[code] for code in (one, two)]


def test_columns_that_mean_something_else_in_a_manifest_are_renamed(tmp_path):
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "sub-2/anat/sub-2_T1w.nii.gz")
    table(tmp_path, "participant_id weight image_quality split\nsub-1 70 good fold1\nsub-2 82 bad fold2\n")
    found = scan_folder(tmp_path)
    assert list(found.columns) == [
        "participant_id",
        "image",
        "body_weight",
        "given_image_quality",
        "given_split",
    ]
    cohort = Cohort.read(write_manifest(found, tmp_path / "manifest.csv"))
    assert cohort.table["weight"].tolist() == [1.0, 1.0]
    assert not cohort.has_split


def test_what_a_scan_writes_is_read_back_as_it_was(tmp_path):
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", "sub-02/anat/sub-02_T1w.nii.gz")
    table(tmp_path, "participant_id age sex site split\n01 20.125 F 007 train\n02 n/a n/a 8 test\n")
    found = scan_folder(tmp_path)
    cohort = Cohort.read(write_manifest(found, tmp_path / "out" / "manifest.tsv"))
    assert cohort.table["image"].tolist() == found["image"].tolist()
    assert cohort.table["site"].tolist() == ["007", "8"]
    assert cohort.table["age"].tolist()[0] == 20.125
    assert cohort.table["split"].tolist() == ["train", "internal_test"]


def test_the_sidecar_decides_the_codes_of_sex(tmp_path):
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "sub-2/anat/sub-2_T1w.nii.gz")
    table(tmp_path, "participant_id sex\nsub-1 1\nsub-2 2\n")
    levels = {"sex": {"Levels": {"1": "female", "2": "male"}}}
    (tmp_path / "participants.json").write_text(json.dumps(levels))
    assert scan_folder(tmp_path)["sex"].tolist() == ["F", "M"]


def test_capped_ages_are_read_and_words_are_left_empty(tmp_path):
    touch(tmp_path, *[f"sub-{k}/anat/sub-{k}_T1w.nii.gz" for k in (1, 2, 3)])
    table(tmp_path, "participant_id age\nsub-1 89+\nsub-2 old\nsub-3 38,5\n")
    found = scan_folder(tmp_path)
    assert found["age"].tolist()[::2] == [89.0, 38.5]
    assert np.isnan(found["age"][1])
    assert "1 age of participants.tsv was left empty, being ranges or no numbers: old" in notes(found)


def test_the_data_set_is_named_after_its_description(tmp_path):
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz")
    (tmp_path / "dataset_description.json").write_text('{"Name": "Ageing in Oslo"}')
    assert scan_folder(tmp_path)["dataset"].tolist() == ["Ageing in Oslo"]


def test_the_users_words_for_columns_win_and_the_replaced_column_stays(tmp_path):
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz")
    table(tmp_path, "participant_id site siteXacq study age\n1 4 12 IXI 30\n")
    found = scan_folder(tmp_path, columns={"site": "siteXacq", "dataset": "study", "diagnosis": "study"})
    assert found.loc[0, ["site", "given_site", "dataset", "diagnosis"]].tolist() == ["12", "4", "IXI", "IXI"]
    assert "siteXacq" not in found


def test_a_manifest_has_relative_paths_and_is_written_whole(tmp_path):
    touch(tmp_path / "data", "sub-1/anat/sub-1_T1w.nii.gz")
    table(tmp_path / "data", "participant_id age\nsub-1 44.25\n")
    path = write_manifest(scan_folder(tmp_path / "data"), tmp_path / "lists" / "all.csv")
    assert path.read_text().splitlines() == [
        "participant_id,image,age",
        "sub-1,../data/sub-1/anat/sub-1_T1w.nii.gz,44.25",
    ]
    assert [entry.name for entry in path.parent.iterdir()] == ["all.csv"]
    assert "\t44.25" in write_manifest(scan_folder(tmp_path / "data"), tmp_path / "all.tsv").read_text()


def test_a_manifest_in_a_linked_folder_still_finds_its_images(tmp_path):
    touch(tmp_path / "data", "sub-1/anat/sub-1_T1w.nii.gz")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    path = write_manifest(scan_folder(tmp_path / "data"), tmp_path / "link" / "all.csv")
    assert (path.parent / pd.read_csv(path)["image"][0]).exists()


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        ([], {}, "holds no .nii"),
        (
            ["sub-1/anat/sub-1_T1w.nii.gz"],
            {"suffix": "T2w", "layout": "bids"},
            "set --suffix or --derivative",
        ),
        (["sub-1/anat/sub-1_T1w.nii.gz"], {"layout": "nested"}, "choose one of auto, bids, flat, plain"),
        (["a.nii"], {"layout": "flat"}, "needs participants.tsv"),
        (["a.nii"], {"pattern": "*.mgz"}, "no image fits the pattern"),
        (["a.nii"], {"table": "absent.csv"}, "absent.csv does not exist"),
    ],
)
def test_folders_without_what_is_asked_for_are_refused(tmp_path, make, arguments, message):
    touch(tmp_path, *make)
    with pytest.raises(ManifestError, match=message):
        scan_folder(tmp_path, **arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject age\n1 2\n", "no column participant_id"),
        ("participant_id\n", "has no rows"),
        ("participant_id age age\n1 2 3\n", 'row 1 has the column "age" twice'),
        ("participant_id age\nz 2\n", "no file name contains an id"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path, text, message):
    touch(tmp_path, "a_1.nii.gz")
    table(tmp_path, text)
    with pytest.raises(UserError, match=message):
        scan_folder(tmp_path)
