from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from medssl.data.manifest.cohort import Cohort
from medssl.errors import ManifestError

GOOD = """participant_id,session,image,age,sex,site,dataset,split,tiv,code,image_T2w
007,01,a/007.nii.gz,62.5,M,Rome,IXI,train,1400.5,01,a/007_T2w.nii.gz
008,,b.nii.gz,n/a,female,,IXI,val,NA,02,
009,,/abs/c.nii.gz,7,f,Bern,,External,1300,03,c.nii.gz
"""


def write(folder, text, name="manifest.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path, **arguments) -> str:
    with pytest.raises(ManifestError) as caught:
        Cohort.read(path, **arguments)
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_every_standard_column_is_there_and_means_what_the_interface_says(tmp_path):
    cohort = Cohort.read(write(tmp_path, GOOD))
    table = cohort.table
    assert list(table.index) == [0, 1, 2]
    assert table["participant_id"].tolist() == ["007", "008", "009"]
    assert table["session"].tolist() == ["01", "", ""]
    assert table["image"].tolist() == [
        str(tmp_path / "a/007.nii.gz"),
        str(tmp_path / "b.nii.gz"),
        "/abs/c.nii.gz",
    ]
    assert table["image_T2w"].tolist() == [str(tmp_path / "a/007_T2w.nii.gz"), "", str(tmp_path / "c.nii.gz")]
    assert table["age"].tolist()[::2] == [62.5, 7.0]
    assert np.isnan(table["age"][1])
    assert table["sex"].tolist() == ["M", "F", "F"]
    assert table["site"].tolist() == ["Rome", "", "Bern"]
    assert table["split"].tolist() == ["train", "internal_test", "external_test"]
    assert table["diagnosis"].tolist() == ["", "", ""]
    assert table["subject"].tolist() == ["IXI/007", "IXI/008", "009"]
    assert table["weight"].tolist() == [1.0, 1.0, 1.0]
    assert table["row"].tolist() == [2, 3, 4]
    assert set(table["manifest"]) == {str(tmp_path / "manifest.csv")}
    assert cohort.paths == (tmp_path / "manifest.csv",)
    assert table["code"].tolist() == ["01", "02", "03"]
    assert table["tiv"].tolist()[::2] == [1400.5, 1300.0]


@pytest.mark.parametrize(
    ("name", "separator"),
    [("m.tsv", "\t"), ("m.csv", ","), ("m.csv", ";"), ("m.csv", "\t"), ("m.tsv", ","), ("m", ",")],
)
def test_the_separator_is_found_by_suffix_and_then_by_content(tmp_path, name, separator):
    text = GOOD.replace(",", separator)
    cohort = Cohort.read(write(tmp_path, text, name))
    assert cohort.table["age"][0] == 62.5
    assert cohort.table["tiv"][2] == 1300


def test_byte_order_mark_windows_lines_blank_lines_spaces_and_capitals_are_understood(tmp_path):
    text = "\ufeffParticipant_ID, Image ,AGE\r\n s1 , a.nii , 5 \r\n\r\n,,\r\ns2,b.nii,\r\n"
    table = Cohort.read(write(tmp_path, text)).table
    assert table["participant_id"].tolist() == ["s1", "s2"]
    assert table["image"].tolist() == [str(tmp_path / "a.nii"), str(tmp_path / "b.nii")]
    assert table["row"].tolist() == [2, 5]


def test_row_numbers_are_line_numbers_even_behind_quoted_line_breaks(tmp_path):
    table = Cohort.read(write(tmp_path, 'participant_id,image,note\n1,a.nii,"x\ny"\n2,b.nii,z\n')).table
    assert table["row"].tolist() == [2, 4]
    assert table["note"].tolist() == ["x\ny", "z"]


def test_labels_are_numbers_or_sorted_codes_with_nan_for_missing(tmp_path):
    cohort = Cohort.read(write(tmp_path, GOOD))
    assert cohort.levels("site") == ["Bern", "Rome"]
    np.testing.assert_array_equal(cohort.labels("site"), [1, np.nan, 0])
    np.testing.assert_array_equal(cohort.labels("sex"), [1, 0, 0])
    np.testing.assert_array_equal(cohort.labels("age"), [62.5, np.nan, 7])
    np.testing.assert_array_equal(cohort.labels("tiv"), [1400.5, np.nan, 1300])
    np.testing.assert_array_equal(cohort.labels("code"), [0, 1, 2])
    assert np.isnan(cohort.labels("diagnosis")).all()
    assert cohort.labels("subject").dtype == float
    with pytest.raises(ManifestError, match="holds numbers"):
        cohort.levels("age")
    numbered = Cohort.read(write(tmp_path, "participant_id,image,site\n1,a,10\n2,b,9\n", "n.csv"))
    assert numbered.levels("site") == ["10", "9"]
    np.testing.assert_array_equal(numbered.labels("site"), [0, 1])


def test_rows_of_a_split_and_all_rows_as_train_where_no_split_is_named(tmp_path):
    cohort = Cohort.read(write(tmp_path, GOOD))
    assert cohort.has_split
    assert cohort.rows("train").tolist() == [0]
    assert cohort.rows("test").tolist() == cohort.rows("internal_test").tolist() == [1]
    assert cohort.rows().tolist() == [0, 1, 2]
    plain = Cohort.read(write(tmp_path, "participant_id,image\n1,a\n2,b\n", "p.csv"))
    assert not plain.has_split
    assert plain.rows("train").tolist() == [0, 1]
    assert plain.rows("external_test").tolist() == []
    with pytest.raises(ManifestError, match="internal_test"):
        cohort.rows("holdout")


def test_where_and_images_name_the_row(tmp_path):
    cohort = Cohort.read(write(tmp_path, GOOD))
    assert cohort.where(0) == "manifest.csv row 2 (007)"
    assert cohort.images(0, ("image", "image_T2w")) == (
        tmp_path / "a/007.nii.gz",
        tmp_path / "a/007_T2w.nii.gz",
    )
    with pytest.raises(ManifestError, match=r'manifest.csv row 3 \(008\): "image_T2w" names no file'):
        cohort.images(1, ("image_T2w",))
    with pytest.raises(ManifestError, match="did you mean 'image_T2w'"):
        cohort.images(1, ("image_T2",))


def test_a_subset_is_numbered_anew_and_keeps_its_origin(tmp_path):
    part = Cohort.read(write(tmp_path, GOOD)).subset([2, 0])
    assert part.table.index.tolist() == [0, 1]
    assert [part.where(k) for k in (0, 1)] == ["manifest.csv row 4 (009)", "manifest.csv row 2 (007)"]
    assert part.table["site"].dtype == object


def test_several_manifests_join_with_weights_and_without_colliding_subjects(tmp_path):
    one = write(tmp_path, "participant_id,image,dataset,tiv\n1,a,,5\n2,b,IXI,6\n", "one.csv")
    two = write(tmp_path, "participant_id,image,weight,mark,tiv\n1,c,0.5,x,n/a\n3,d,,y,7\n", "two.csv")
    cohort = Cohort.read([{"path": one, "weight": 2}, {"path": str(two), "weight": 4}])
    assert cohort.table["subject"].tolist() == ["manifest1/1", "IXI/2", "manifest2/1", "manifest2/3"]
    assert cohort.table["weight"].tolist() == [2, 2, 2, 4]
    assert cohort.table["mark"].tolist() == ["", "", "x", "y"]
    np.testing.assert_array_equal(cohort.labels("tiv"), [5, 6, np.nan, 7])
    assert cohort.paths == (one, two)
    assert cohort.where(3) == "two.csv row 3 (3)"
    assert cohort.table["row"].tolist() == [2, 3, 2, 3]
    assert len(Cohort.read([one, two]).table) == 4


def test_manifests_of_one_name_are_told_apart_by_their_folders(tmp_path):
    files = [tmp_path / place / "manifest.csv" for place in ("a/x", "b/x", "b/y")]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("participant_id,image\n1,a\n")
    cohort = Cohort.read(files)
    shown = [str(Path(place, "manifest.csv")) for place in ("a/x", "b/x", "y")]
    assert [cohort.where(k) for k in range(3)] == [f"{name} row 2 (1)" for name in shown]
    with pytest.raises(ManifestError, match=r"a/x/manifest\.csv, b/x/manifest\.csv, y/manifest\.csv has no column"):
        cohort.levels("centre")
    assert cohort.subset([1]).where(0) == "manifest.csv row 2 (1)"


def test_a_column_that_is_numeric_in_one_manifest_and_text_in_another_becomes_text(tmp_path):
    one = write(tmp_path, "participant_id,image,batch\n1,a,5\n2,b,n/a\n", "one.csv")
    two = write(tmp_path, "participant_id,image,batch\n1,c,B7\n", "two.csv")
    assert Cohort.read([one, two]).table["batch"].tolist() == ["5", "", "B7"]


def test_the_subject_column_of_a_manifest_wins(tmp_path):
    text = "participant_id,image,subject,dataset\n1,a,P1,A\n2,b,P1,B\n3,c,,B\n"
    assert Cohort.read(write(tmp_path, text)).table["subject"].tolist() == ["P1", "P1", "B/3"]


def test_the_digest_follows_content_and_not_the_place(tmp_path):
    (tmp_path / "x").mkdir()
    path = write(tmp_path / "x", GOOD)
    before = Cohort.read(path).digest
    assert len(before) == 64
    assert Cohort.read(path).digest == before
    shutil.copytree(tmp_path / "x", tmp_path / "y")
    assert Cohort.read(tmp_path / "y/manifest.csv").digest == before
    assert Cohort.read(write(tmp_path, GOOD.replace(",", "\t"), "x/t.tsv")).digest == before
    for changed in (
        GOOD.replace("62.5", "62.6"),
        GOOD.replace("Rome", "Roma"),
        GOOD.replace("b.nii", "d.nii"),
    ):
        assert Cohort.read(write(tmp_path, changed, "x/c.csv")).digest != before
    assert Cohort.read(path).subset([1, 0, 2]).digest != before


def test_has_and_require_look_at_values_and_name_the_nearest_column(tmp_path):
    path = write(tmp_path, GOOD)
    cohort = Cohort.read(path, require=("age", "site"))
    assert cohort.has("age")
    assert not cohort.has("diagnosis")
    assert not cohort.has("nonsense")
    assert "did you mean 'site'" in refused(path, require=("sites",))
    assert "known: age" in refused(path, require=("qqqqqq",))
    regions = ",".join(f"region{k}" for k in range(300))
    wide = write(tmp_path, f"participant_id,image,{regions}\n1,a{',0' * 300}\n", "wide.csv")
    assert refused(wide, require=("qqqqqq",)).endswith(" more")
    said = refused(write(tmp_path, "participant_id,image\n1,a\n", "no.csv"), require=("age",))
    assert "no.csv" in said
    assert "no value" in said
    assert '"age"' in said


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (b"", ["is empty"]),
        (b" \n\n", ["is empty"]),
        ("participant_id,image,age\n", ["header but no rows"]),
        ("participant_id,image,age", ["header but no rows"]),
        ("participant_id,age\n1,5\n", ['no column "image"', "medssl cohort scan"]),
        ("image,age\na,5\n", ['no column "participant_id"']),
        (
            "participant_id,image,split\n1,a,holdout\n",
            ["row 2", '"holdout"', "train, internal_test, external_test"],
        ),
        ("participant_id,image,sex\n1,a,1\n", ["row 2", 'sex "1"', "M or F"]),
        ("participant_id,image,weight\n1,a,-1\n", ["row 2", "negative"]),
        ("participant_id,image\n1,a\n,b\n", ["row 3", "participant_id is empty"]),
        ("participant_id,image\n1,a\n2,n/a\n", ["row 3 (2)", "image is empty"]),
        ("participant_id,image\n1,a\n2,b\n1,a\n", ["row 4 (1)", "repeats", "row 2 (1)"]),
        ("participant_id,image,age,age\n1,a,5,6\n", ["row 1", '"age" twice']),
        ("participant_id,,image\n1,x,a\n", ["row 1", "without a name"]),
        ("participant_id,image\n1,a\n2,b,surplus\n", ["row 3 (2)", "surplus", "last of 2 columns"]),
        ('participant_id,image\n1,"a\n', ["cannot be parsed"]),
        (b"participant_id,image\n1,\x01\x02\xff\n", ["not a text file"]),
        (b"PK\x03\x04\x00\x00binary\n", ["an Excel workbook", "CSV in UTF-8"]),
    ],
)
def test_what_is_wrong_with_a_manifest_is_said_with_file_row_and_remedy(tmp_path, text, parts):
    said = refused(write(tmp_path, text))
    for part in ["manifest.csv", *parts]:
        assert part in said


def test_a_missing_manifest_a_folder_and_wrong_lists_are_refused(tmp_path):
    path = write(tmp_path, GOOD)
    assert "does not exist" in refused(tmp_path / "none.csv")
    assert "medssl cohort scan" in refused(tmp_path)
    assert "empty" in refused([])
    assert "unknown key" in refused([{"path": path, "wieght": 2}])
    assert "no path" in refused([{"weight": 2}])
    assert "above 0" in refused([{"path": path, "weight": 0}])
    assert "above 0" in refused([{"path": path, "weight": "2"}])
    assert "is given twice" in refused([path, path])


def test_missing_image_files_are_found_and_up_to_five_rows_are_named(tmp_path):
    lines = [f"{k},scan{k}.nii" for k in range(9)]
    cohort = Cohort.read(write(tmp_path, "participant_id,image\n" + "\n".join(lines) + "\n"))
    (tmp_path / "scan0.nii").write_bytes(b"x")
    with pytest.raises(ManifestError, match="8 image files do not exist") as caught:
        cohort.check_files()
    said = str(caught.value)
    assert said.count("manifest.csv row") == 5
    assert "manifest.csv row 3 (1)" in said
    assert "3 more" in said
    cohort.subset([0]).check_files()


def test_a_hundred_thousand_rows_are_read_in_seconds(tmp_path):
    lines = [
        f"sub-{k:06d},images/sub-{k:06d}_T1w.nii.gz,{20 + k % 60},{'MF'[k % 2]},site{k % 40},train"
        for k in range(100_000)
    ]
    path = write(tmp_path, "participant_id,image,age,sex,site,split\n" + "\n".join(lines))
    start = time.perf_counter()
    cohort = Cohort.read(path, require=("age",))
    took = time.perf_counter() - start
    assert len(cohort.table) == 100_000
    assert cohort.table["row"].iloc[-1] == 100_001
    assert took < 8  # about 1.2 s alone; others may share the processors


@pytest.mark.oddity("absent-content")
def test_a_link_without_content_is_told_with_the_command_that_fetches_it(tmp_path):
    (tmp_path / "a.nii.gz").symlink_to("../.git/annex/objects/xx/yy/key")
    (tmp_path / "m.csv").write_text("participant_id,image\n1,a.nii.gz\n")
    with pytest.raises(ManifestError, match=r"1 image file is not here: m.csv row 2 \(1\): .*datalad get"):
        Cohort.read(tmp_path / "m.csv").check_files()


@pytest.mark.oddity("family-numbers-with-gaps")
def test_numbers_of_one_manifest_keep_their_digits_beside_words_of_another(tmp_path):
    (tmp_path / "a.csv").write_text(
        "participant_id,image,family,scanner\n1,a.nii,12345678,1234567\n2,b.nii,12345679,1234568\n"
    )
    (tmp_path / "b.csv").write_text("participant_id,image,family,scanner\n3,c.nii,Smith,Prisma\n")
    table = Cohort.read([tmp_path / "a.csv", tmp_path / "b.csv"]).table
    assert table["family"].tolist() == ["12345678", "12345679", "Smith"]
    assert table["scanner"].tolist() == ["1234567", "1234568", "Prisma"]


@pytest.mark.oddity("dataset-in-some-rows")
def test_a_person_whose_dataset_is_filled_in_some_rows_stays_one_person(tmp_path):
    (tmp_path / "m.csv").write_text(
        "participant_id,image,dataset\n1,a.nii,X\n1,b.nii,\n2,c.nii,\n3,d.nii,X\n3,e.nii,Y\n3,f.nii,\n"
    )
    cohort = Cohort.read(tmp_path / "m.csv")
    assert cohort.table["subject"].tolist() == ["X/1", "X/1", "2", "X/3", "Y/3", "X/3"]
    assert "2 rows of m.csv name no dataset where other rows of their participant_id do" in cohort.notes[0]
    assert cohort.table["dataset"].tolist() == ["X", "", "", "X", "Y", ""]


@pytest.mark.oddity("manifest-twice")
def test_a_manifest_that_is_given_twice_is_refused_as_such(tmp_path):
    (tmp_path / "m.csv").write_text("participant_id,image\n1,a.nii\n")
    (tmp_path / "n.csv").symlink_to("m.csv")
    with pytest.raises(ManifestError, match=r"n.csv is given twice"):
        Cohort.read([tmp_path / "m.csv", tmp_path / "n.csv"])


@pytest.mark.oddity("stray-quote")
def test_a_stray_quote_in_a_manifest_never_swallows_rows(tmp_path):
    (tmp_path / "m.csv").write_text(
        'participant_id,image,note,age\na,a.nii,"left,30\nb,b.nii,ok,40\nc,c.nii,right",50\n'
    )
    with pytest.raises(ManifestError, match="row 2 opens a quote that row 4 closes"):
        Cohort.read(tmp_path / "m.csv")
