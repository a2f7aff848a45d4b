from __future__ import annotations

import os
from pathlib import Path

import pytest

from medssl.data.sources.bids import scan_folder
from medssl.data.sources.numbers import longest_id
from medssl.errors import ManifestError

REAL = Path(os.environ.get("MEDSSL_REAL_DATA", Path(__file__).parents[4] / "shared" / "data")) / "brains4mm"


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def table(root: Path, text: str, name: str = "participants.tsv") -> None:
    (root / name).write_text(text.replace(" ", "\t"), encoding="utf-8")


def test_flat_files_meet_the_longest_id_that_stands_by_itself(tmp_path):
    touch(tmp_path, "study-sub-1_T1w.nii.gz", "study-sub-10_T1w.nii.gz", "study-sub-100_T1w.nii.gz")
    table(tmp_path, "participant_id age\nsub-1 1\nstudy-sub-10 10\n10 99\n")
    found = scan_folder(tmp_path).set_index("age")
    assert found.loc[1.0, "image"].endswith("study-sub-1_T1w.nii.gz")
    assert found.loc[10.0, "image"].endswith("study-sub-10_T1w.nii.gz")
    assert "1 image has no row" in " | ".join(scan_folder(tmp_path).attrs["notes"])


@pytest.mark.parametrize(
    ("text", "ids", "expected"),
    [
        ("IXI012-HH-1211-T1", ["12", "1"], "12"),
        ("IXI012-HH-1211-T1", ["IXI012"], "IXI012"),
        ("sub3_T1w_4mm", ["1", "4"], ""),
        ("sub-0051456/session_1/anat_1", ["51456"], "51456"),
        ("sub-10", ["sub-1"], ""),
    ],
)
def test_ids_are_found_in_names(text, ids, expected):
    assert longest_id(text, {label: label for label in ids}) == expected


def test_ids_are_found_in_the_folders_where_file_names_repeat(tmp_path):
    touch(tmp_path, "1000001_20252_2_0/T1/T1_brain.nii.gz", "1000002_20252_2_0/T1/T1_brain.nii.gz")
    touch(tmp_path, "1000001_20252_2_0/T1/T1.nii.gz", "1000002_20252_2_0/T1/T1.nii.gz")
    (tmp_path / "pheno.csv").write_text("eid,sex,age,note\n1000001,0,61.5,x\n1000002,1,55,\n")
    found = scan_folder(
        tmp_path, table=tmp_path / "pheno.csv", columns={"participant_id": "eid"}, pattern="T1_brain.nii.gz"
    )
    assert found["participant_id"].tolist() == ["1000001", "1000002"]
    assert found["age"].tolist() == [61.5, 55.0]
    assert all(image.endswith("T1_brain.nii.gz") for image in found["image"])


def test_a_pattern_with_a_slash_is_held_against_the_path(tmp_path):
    touch(tmp_path, "1000001_20252_2_0/T1/T1.nii.gz", "1000001_20252_3_0/T1/T1.nii.gz")
    found = scan_folder(tmp_path, pattern="*_20252_3_0/T1/*")
    assert found["image"].tolist() == [str(tmp_path / "1000001_20252_3_0/T1/T1.nii.gz")]


def test_the_layouts_of_public_cohorts_are_read(tmp_path):
    touch(
        tmp_path / "ixi",
        *[f"IXI{name}-T1.nii.gz" for name in ("012-HH-1211", "100-Guys-0747", "033-HH-1259")],
    )
    (tmp_path / "IXI.csv").write_text('IXI_ID,"SEX_ID (1=m, 2=f)",AGE\n12,1,38.78\n33,2,24.76\n100,2,n/a\n')
    words = {"participant_id": "IXI_ID", "sex": "SEX_ID (1=m, 2=f)"}
    ixi = scan_folder(tmp_path / "ixi", table=tmp_path / "IXI.csv", columns=words, pattern="*-HH-*")
    assert ixi[["participant_id", "age", "sex"]].to_numpy().tolist() == [
        ["12", 38.78, "M"],
        ["33", 24.76, "F"],
    ]

    touch(
        tmp_path / "abide",
        *[f"{site}/session_1/anat_1/mprage.nii.gz" for site in ("NYU/0051456", "Pitt/0050003")],
    )
    (tmp_path / "abide.csv").write_text("SITE_ID,SUB_ID,AGE_AT_SCAN,SEX\nPITT,50003,24.45,1\nNYU,51456,13,2\n")
    words = {"participant_id": "SUB_ID", "site": "SITE_ID"}
    abide = scan_folder(tmp_path / "abide", layout="flat", table=tmp_path / "abide.csv", columns=words)
    assert abide[["age", "sex", "site"]].to_numpy().tolist() == [[13.0, "F", "NYU"], [24.45, "M", "PITT"]]

    name = "sub-{0}/ses-1/sub-{0}_preproc-{1}_T1w.npy"
    parts = [(label, kind) for label in ("100", "200") for kind in ("cat12vbm_desc-gm", "quasiraw")]
    touch(tmp_path / "openbhb" / "train" / "derivatives", *[name.format(*part) for part in parts])
    table(tmp_path / "openbhb", "participant_id study sex age site siteXacq split\n200 A male 20 1 3 train\n")
    words = {"site": "siteXacq", "dataset": "study"}
    where, persons = tmp_path / "openbhb" / "train" / "derivatives", tmp_path / "openbhb" / "participants.tsv"
    openbhb = scan_folder(where, derivative="preproc-quasiraw", table=persons, columns=words)
    assert openbhb["site"].tolist() == ["", "3"]
    assert [Path(image).name for image in openbhb["image"]] == [
        "sub-100_preproc-quasiraw_T1w.npy",
        "sub-200_preproc-quasiraw_T1w.npy",
    ]


def test_plain_folders_take_ids_from_the_names(tmp_path):
    touch(tmp_path, "a_001_T1w.nii.gz", "a_002_T1w_brain_1mm.nii", "b_ses-2_T1w.nii.gz", "notes.txt")
    found = scan_folder(tmp_path, layout="auto")
    assert found["participant_id"].tolist() == ["a_001", "a_002", "b"]
    assert found["session"].tolist() == ["", "", "ses-2"]


def test_a_table_below_a_plain_folder_is_not_passed_over_in_silence(tmp_path):
    touch(tmp_path, "scans/a_T1w.nii.gz")
    (tmp_path / "scans" / "participants.tsv").write_text("participant_id\tage\na\t30\n")
    notes = scan_folder(tmp_path).attrs["notes"]
    assert f"{tmp_path / 'scans' / 'participants.tsv'} was not read; scan {tmp_path / 'scans'}" in notes[1]
    assert scan_folder(tmp_path / "scans")["age"].tolist() == [30.0]


def test_plain_folders_with_repeated_names_take_ids_from_the_folders(tmp_path):
    touch(tmp_path, "anna/T1.nii.gz", "bert/T1.nii.gz")
    assert scan_folder(tmp_path)["participant_id"].tolist() == ["anna_T1", "bert_T1"]


@pytest.mark.realdata
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real scans at {REAL}; set MEDSSL_REAL_DATA")
def test_real_brains_meet_their_rows():
    found = scan_folder(REAL)
    assert len(found) == found["participant_id"].nunique() > 100
    assert found["age"].notna().all()
    assert all(
        Path(image).name.startswith(f"{label}_")
        for image, label in zip(found["image"], found["participant_id"], strict=True)
    )
    assert set(found["sex"]) == {"M", "F"}
    assert "group" in found


def test_a_row_with_more_cells_than_columns_is_refused_by_its_line(tmp_path):
    touch(tmp_path, "01.nii.gz", "02.nii.gz")
    (tmp_path / "participants.csv").write_text("participant_id,name,age,sex\n02,Ada,30,F,,\n01,Smith, John,34,M\n")
    with pytest.raises(ManifestError, match=r"participants\.csv row 3 \(01\): has 5 cells, but .* 4 columns; quote"):
        scan_folder(tmp_path)
    (tmp_path / "participants.csv").write_text('participant_id,name,age,sex\n02,Ada,30,F,,\n01,"Smith, John",34,M\n')
    assert scan_folder(tmp_path)["age"].tolist() == [34.0, 30.0]


@pytest.mark.parametrize("listed", [True, False])
def test_a_suffix_that_was_asked_for_chooses_the_files_of_flat_and_plain_folders(tmp_path, listed):
    touch(tmp_path, "01_T1w.nii.gz", "02_T1w.nii.gz", "03-T1w.nii.gz")
    if listed:
        table(tmp_path, "participant_id age\n01 30\n02 40\n03 50\n")
    for pattern in (None, "*_T1w*"):
        with pytest.raises(ManifestError, match=r"no image is named after the suffix 'FLAIR'.*first is 01_T1w"):
            scan_folder(tmp_path, "FLAIR", pattern=pattern)
    touch(tmp_path, "02_FLAIR.nii.gz", "03-FLAIR.nii.gz")
    names = [Path(image).name for image in scan_folder(tmp_path, "FLAIR")["image"]]
    assert names == ["02_FLAIR.nii.gz", "03-FLAIR.nii.gz"]
    assert len(scan_folder(tmp_path)) == 3
