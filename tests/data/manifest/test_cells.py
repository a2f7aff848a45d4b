from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medssl.data.manifest.cells import raw_cells
from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.columns import Columns
from medssl.errors import ManifestError

HEAD = "participant_id,image,age,site,iq\n"


def read(folder: Path, text: str | bytes, name: str = "manifest.csv", **arguments) -> Cohort:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Cohort.read(path, **arguments)


def ages(folder: Path, *cells: str) -> tuple[list[float], tuple[str, ...]]:
    rows = "".join(f'p{k},p{k}.nii,"{cell}",A,100\n' for k, cell in enumerate(cells))
    cohort = read(folder, HEAD + rows)
    return cohort.table["age"].tolist(), cohort.notes


@pytest.mark.oddity("words-for-missing")
def test_words_for_missing_are_empty_in_every_column_and_counted(tmp_path):
    cohort = read(tmp_path, HEAD + "1,a,.,NA,?\n2,b,unknown,none,110\n3,c,--,Rome,n/a\n4,d,50,-,Not Available\n")
    assert cohort.table["site"].tolist() == ["", "", "Rome", ""]
    assert np.isnan(cohort.table["age"][:3]).all()
    assert cohort.table["iq"].tolist()[1] == 110.0
    assert np.isnan(cohort.table["iq"]).sum() == 3
    (said,) = cohort.notes
    assert said.startswith("8 cells of manifest.csv were read as missing: ")
    assert 'site "NA" (1)' in said
    assert "such as site-NA" in said


@pytest.mark.oddity("codes-for-missing")
def test_codes_are_empty_where_no_other_value_comes_near_them(tmp_path):
    text = "participant_id,image,volume,z,site\n1,a,1500,-9,-9\n2,b,-999,-11.5,A\n3,c,1700,4,999\n"
    cohort = read(tmp_path, text)
    assert np.isnan(cohort.table["volume"][1]), "no volume is negative"
    assert cohort.table["z"].tolist() == [-9.0, -11.5, 4.0], "other z are negative too"
    assert cohort.table["site"].tolist() == ["", "A", "999"], "999 may be the name of a site"
    assert cohort.notes == ('2 cells of manifest.csv were read as missing: volume "-999" (1), site "-9" (1)',)


@pytest.mark.oddity("codes-for-missing")
def test_a_code_among_regional_measures_does_not_move_their_mean(tmp_path):
    rows = "".join(f"p{k},{v}\n" for k, v in enumerate((2.1, 2.3, -999, 2.5, -9)))
    cohort = read(tmp_path, "participant_id,lh_thickness\n" + rows, images=False)
    fitted = Columns.fit(cohort, cohort.rows(), ["*_thickness"])
    assert fitted.mean[0] == pytest.approx(2.3)
    assert fitted.filled == 2
    assert 'lh_thickness "-999" (1), lh_thickness "-9" (1)' in cohort.notes[0]


@pytest.mark.oddity("codes-among-features")
def test_codes_never_touch_features(tmp_path):
    cohort = read(tmp_path, "participant_id,f0000,f0001\n1,-9,2\n2,1,999\n3,2,n/a\n", images=False)
    assert cohort.table["f0000"].tolist() == [-9.0, 1.0, 2.0]
    assert cohort.table["f0001"].tolist()[:2] == [2.0, 999.0]
    assert cohort.notes == ()


@pytest.mark.oddity("short-row")
@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("1,a,50,A,100\n2,b,60", "one row has fewer, row 3 with 3 cells"),
        ("1,a\n2,b,60,A,101\n\n3,c,70,A\n", "2 rows have fewer, the last of them row 5 with 4 cells"),
    ],
)
def test_a_row_with_fewer_cells_than_the_header_is_said(tmp_path, rows, said):
    cohort = read(tmp_path, HEAD + rows)
    assert cohort.notes == (
        f"manifest.csv has 5 columns, but {said}; the others were read as empty, so look whether the file was cut off",
    )
    assert cohort.table["site"].iloc[0 if "2 rows" in said else 1] == ""


def test_rows_with_empty_cells_and_blank_lines_are_not_short(tmp_path):
    assert read(tmp_path, HEAD + "1,a,,,\n\n2,b,60,A,\n").notes == ()


@pytest.mark.oddity("age-with-unit")
def test_ages_with_a_unit_are_read_in_years(tmp_path):
    years, notes = ages(tmp_path, "35Y", "006M", "26 weeks", "40.5")
    assert years[:2] == [35.0, 0.5]
    assert years[2] == pytest.approx(26 * 7 / 365.25)
    assert years[3] == 40.5
    assert notes == ("3 ages of manifest.csv were read by the unit in the cell: 35Y; 006M; 26 weeks",)


@pytest.mark.oddity("age-capped")
def test_capped_ages_are_the_cap(tmp_path):
    years, notes = ages(tmp_path, "89+", ">89", "70")
    assert years == [89.0, 89.0, 70.0]
    assert notes == ("2 ages of manifest.csv were capped and read as the cap: 89+; >89",)


@pytest.mark.oddity("age-range")
def test_ranges_and_words_are_empty(tmp_path):
    years, notes = ages(tmp_path, "18-38", "old", "inf", "44")
    assert np.isnan(years[:3]).all()
    assert years[3] == 44.0
    assert notes == ("3 ages of manifest.csv were left empty, being ranges or no numbers: 18-38; old; inf",)


@pytest.mark.oddity("age-decimal-comma")
def test_decimal_commas_of_ages_are_points(tmp_path):
    years, notes = ages(tmp_path, "62,5", "70")
    assert years == [62.5, 70.0]
    assert notes == ("1 age of manifest.csv was read with a decimal comma: 62,5",)


@pytest.mark.oddity("age-code")
def test_codes_of_ages_are_empty_and_impossible_ages_stay_for_the_check(tmp_path):
    years, notes = ages(tmp_path, "-9999", "-9", "999", "-3", "52")
    assert np.isnan(years[:3]).all()
    assert years[3:] == [-3.0, 52.0]
    assert notes == ("3 ages of manifest.csv were left empty, being codes of missing values: -9999; -9; 999",)


@pytest.mark.oddity("age-zero")
def test_zeros_among_adults_are_empty_and_newborns_stay_per_data_set(tmp_path):
    text = "participant_id,image,age,dataset\n1,a,0,adults\n2,b,31,adults\n3,c,0,babies\n4,d,0.5,babies\n"
    cohort = read(tmp_path, text)
    assert np.isnan(cohort.table["age"][0])
    assert cohort.table["age"].tolist()[1:] == [31.0, 0.0, 0.5]
    assert cohort.notes == ("1 age of manifest.csv was left empty, being 0 where nobody else is under 15",)


@pytest.mark.oddity("encoding")
@pytest.mark.parametrize(
    ("encoding", "name"), [("utf-8", ""), ("utf-8-sig", ""), ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"),
                           ("cp1252", "Windows (cp1252)")]
)  # fmt: skip
def test_a_manifest_in_any_encoding_is_read_and_the_unusual_ones_are_said(tmp_path, encoding, name):
    cohort = read(tmp_path, "participant_id,image,site\n1,a,Zürich\n2,b,Besançon\n".encode(encoding))
    assert cohort.table["site"].tolist() == ["Zürich", "Besançon"]
    assert (
        cohort.digest == read(tmp_path, "participant_id,image,site\n1,a,Zürich\n2,b,Besançon\n", "manifest.csv").digest
    )
    assert cohort.notes == (
        (f"manifest.csv was read as {name} text; save it as UTF-8 where names look wrong",) if name else ()
    )


@pytest.mark.oddity("separator")
@pytest.mark.parametrize(
    ("mark", "said"), [("\t", "tabs"), (";", "semicolons"), (" ", "blanks"), ("   ", "blanks"), (",", "")]
)
def test_a_manifest_with_any_separator_is_read_and_the_unusual_ones_are_said(tmp_path, mark, said):
    lines = [["participant_id", "image", "age", "site"], ["1", "a", "50.5", "Rome"], ["2", "b", "60", "Oslo"]]
    cohort = read(tmp_path, "".join(mark.join(line) + "\n" for line in lines))
    assert cohort.table["age"].tolist() == [50.5, 60.0]
    assert cohort.table["site"].tolist() == ["Rome", "Oslo"]
    assert cohort.table["row"].tolist() == [2, 3]
    assert cohort.notes == ((f"manifest.csv is separated by {said}, not by commas",) if said else ())


@pytest.mark.oddity("separator")
def test_a_word_too_many_between_blanks_names_the_row(tmp_path):
    with pytest.raises(ManifestError, match=r"manifest.csv row 3 \(2\): has 4 cells, but the header names 3 columns"):
        read(tmp_path, "participant_id image site\n1 a Rome\n2 b New York\n3 c Oslo\n")


@pytest.mark.oddity("line-ends")
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_system_count_the_same_rows(tmp_path, end):
    cohort = read(tmp_path, end.join(["participant_id,image,age", "1,a,50", "", "2,b,60", ""]))
    assert cohort.table["age"].tolist() == [50.0, 60.0]
    assert cohort.table["row"].tolist() == [2, 4]
    assert cohort.notes == ()


@pytest.mark.oddity("quoted-cells")
def test_quoted_cells_hold_separators_and_line_breaks_and_rows_are_lines(tmp_path):
    text = 'participant_id,image,"re\nmark"\n1,a,"one, two\nthree"\n2,b,"say ""hi"""\n'
    cohort = read(tmp_path, text)
    assert cohort.table["re mark"].tolist() == ["one, two\nthree", 'say "hi"']
    assert cohort.table["row"].tolist() == [3, 5]


@pytest.mark.oddity("quoted-cells")
@pytest.mark.parametrize("text", ['participant_id,"image\n1,a\n2,b\n', 'participant_id,image\n1,"a\n2,b\n'])
def test_a_quote_that_is_never_closed_is_one_sentence(tmp_path, text):
    with pytest.raises(
        ManifestError, match=r"manifest\.csv (row [12] opens a quote that is never closed|cannot be parsed)"
    ) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.oddity("decimal-comma")
def test_decimal_commas_of_a_table_with_semicolons_are_points_in_columns_of_numbers(tmp_path):
    text = "participant_id;image;weight;volume;remark\n1;a;0,5;1500,25;1,5 mg\n2;b;1;-9;none\n3;c;2;1400;2\n"
    cohort = read(tmp_path, text)
    assert cohort.table["weight"].tolist() == [0.5, 1.0, 2.0]
    assert cohort.table["volume"].tolist()[::2] == [1500.25, 1400.0]
    assert np.isnan(cohort.table["volume"][1])
    assert cohort.table["remark"].tolist()[0] == "1,5 mg"
    assert "decimal commas of manifest.csv were read in column weight, volume" in cohort.notes


@pytest.mark.oddity("decimal-comma")
def test_a_number_with_a_comma_elsewhere_is_refused_as_a_feature_with_its_row(tmp_path):
    text = 'participant_id,volume\n1,"1,500"\n2,1600\n'
    cohort = read(tmp_path, text, images=False)
    with pytest.raises(ManifestError, match=r'row 2 \(1\): volume is "1,500", but a feature is a number'):
        Columns.fit(cohort, cohort.rows(), ["volume"])


def test_a_clean_manifest_says_nothing_and_keeps_its_digits(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("participant_id,image,age,iq\n1,a,62.299999999999997,100\n2,b,,90\n")
    notes: list[str] = []
    raw, header = raw_cells(path, {"age": "age"}, notes)
    assert header == ["participant_id", "image", "age", "iq"]
    assert raw["age"].tolist() == ["62.299999999999997", ""]
    cohort = Cohort.read(path)
    assert cohort.table["age"][0] == 62.299999999999997
    assert (notes, cohort.notes) == ([], ())


def test_notes_of_several_manifests_stay_with_the_cohort_and_its_parts(tmp_path):
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text("participant_id,image,age\n1,a,35Y\n")
    two.write_text("participant_id,image,age\n1,b,89+\n")
    cohort = Cohort.read([one, two])
    assert [note.split()[3] for note in cohort.notes] == ["one.csv", "two.csv"]
    assert cohort.subset([1]).notes == cohort.notes
