from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medssl.data.sources.persons import spell_sex, tidy


def people(folder: Path, sidecar: Any = None, **columns: list[str]) -> tuple[pd.DataFrame, str]:
    """The tidy table of people with these columns, and its notes in one text."""
    first = next(iter(columns.values()))
    table = pd.DataFrame({"participant_id": [f"sub-{k}" for k in range(len(first))], **columns}, dtype=object)
    if sidecar is not None:
        text = sidecar if isinstance(sidecar, (str, bytes)) else json.dumps(sidecar)
        (folder / "participants.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    notes: list[str] = []
    return tidy(table, folder / "participants.tsv", notes), " | ".join(notes)


@pytest.mark.oddity("age-unit-sidecar")
@pytest.mark.parametrize(
    ("unit", "factor"),
    [("months", 12), ("Month", 12), ("mo", 12), ("weeks", 365.25 / 7), ("Days", 365.25), ("days (post natal)", 365.25)],
)
def test_units_of_the_json_file_are_converted_and_said(tmp_path, unit, factor):
    table, said = people(tmp_path, {"Age": {"Units": unit}}, age=[str(factor * 30), "n/a"])
    assert table["age"][0] == pytest.approx(30.0)
    assert np.isnan(table["age"][1])
    assert "as participants.json says, and was converted to years" in said


def test_years_of_the_json_file_are_nothing_to_say(tmp_path):
    table, said = people(tmp_path, {"age": {"Units": "years"}}, age=["30", "62.5"])
    assert table["age"].tolist() == [30.0, 62.5]
    assert said == ""


def test_a_json_file_in_capitals_counts_too(tmp_path):
    (tmp_path / "PARTICIPANTS.JSON").write_text('{"AGE": {"units": "months"}}')
    table, _ = people(tmp_path, age=["120"])
    assert table["age"].tolist() == [10.0]


@pytest.mark.oddity("age-unit-doubtful")
def test_values_that_cannot_be_the_years_of_the_json_file_are_said(tmp_path):
    table, said = people(tmp_path, {"age": {"Units": "years"}}, age=["240", "732", "840"])
    assert table["age"].tolist() == [240.0, 732.0, 840.0]
    assert "(240 to 840) look like months, although participants.json says years; they stay as they are" in said


@pytest.mark.oddity("age-unit-doubtful")
def test_ages_that_can_only_be_months_are_said_without_a_json_file(tmp_path):
    _, said = people(tmp_path, age=["240", "732", "840"])
    assert "the ages of participants.tsv (240 to 840) look like months; they stay as they are" in said
    assert "write the unit into participants.json" in said


@pytest.mark.oddity("age-column")
@pytest.mark.parametrize(
    ("name", "cell", "years"),
    [("age_months", "18", 1.5), ("age_at_scan", "30", 30.0), ("AGE_AT_SCAN", "30", 30.0), ("Age (years)", "30", 30.0),
     ("age_days", "730.5", 2.0), ("Age in months", "18", 1.5), ("age_years", "30", 30.0), ("AGE", "30", 30.0)],
)  # fmt: skip
def test_a_column_of_ages_is_known_by_its_name(tmp_path, name, cell, years):
    table, said = people(tmp_path, **{name: [cell, "n/a"]})
    assert table["age"][0] == pytest.approx(years)
    assert list(table.columns) == ["participant_id", "age"]
    assert ("converted to years" in said) == (years < 30)


@pytest.mark.oddity("age-columns")
def test_of_several_columns_years_called_age_are_taken_and_the_others_kept(tmp_path):
    table, said = people(tmp_path, age_months=["360"], age=["30"], age_at_scan=["31"])
    assert table["age"].tolist() == [30.0]
    assert table["age_months"].tolist() == ["360"]
    assert table["age_at_scan"].tolist() == ["31"]
    assert said == "age of participants.tsv was taken from column age, not from age_at_scan, age_months"


@pytest.mark.oddity("age-columns")
def test_an_empty_column_age_gives_way_to_one_that_is_filled(tmp_path):
    table, said = people(tmp_path, age=["n/a", ""], age_months=["360", "372"])
    assert table["age"].tolist() == [30.0, 31.0]
    assert "taken from column age_months, not from age" in said


def test_the_users_own_choice_of_a_column_comes_first(tmp_path):
    table = pd.DataFrame({"participant_id": ["a"], "age": ["30"], "age_months": ["372"]}, dtype=object)
    out = tidy(table, tmp_path / "p.tsv", [], {"age": "age_months"})
    assert out["age"].tolist() == [31.0]
    assert out["given_age"].tolist() == ["30"]


@pytest.mark.oddity("sidecar-codes")
def test_the_json_files_own_codes_are_missing_in_any_column(tmp_path):
    sidecar = {
        "iq": {"MissingValue": 77},
        "age": {"Levels": {"0": "not available"}},
        "smoker": {"Levels": {"1": {"Description": "yes"}, "8": {"Description": "unknown"}}},
        "drug": {"Levels": {"0": "none", "1": "lithium"}},
    }
    table, said = people(tmp_path, sidecar, iq=["77", "100"], age=["0", "5"], smoker=["8", "1"], drug=["0", "1"])
    assert table["iq"].tolist() == ["", "100"]
    assert np.isnan(table["age"][0])
    assert table["smoker"].tolist() == ["", "1"]
    assert table["drug"].tolist() == ["0", "1"], "none is an answer, not a missing one"
    assert "3 cells of participants.tsv were read as missing" in said


@pytest.mark.oddity("sidecar-broken")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{not json", "was not used, since it is no JSON"),
        ("[1, 2]", "holds no object by column"),
        ("[" * 100_000, "far too many levels"),
        ('{"age": {"Levels": ' + "[" * 80 + "]" * 80 + "}}", "more than 64 levels"),
        ('{"age": {"Units": ' + "9" * 5000 + "}}", "a whole number of 5000 digits"),
        ("3", "holds no object by column"),
        (b"", "is empty"),
        (b"\x00\x01\x02\x03\xff", "is not a text file"),
        ({"age": {"Units": 12}}, "says Units 12 of age, which is no unit of age"),
        ({"age": {"Units": "fortnights"}}, 'says Units "fortnights" of age'),
        ({"age": "months", "sex": ["M", "F"]}, ""),
        ({"age": {"Levels": [1, 2]}, "sex": {"Levels": "M"}}, ""),
    ],
)
def test_a_json_file_that_says_nothing_usable_is_a_note_and_no_stop(tmp_path, content, words):
    table, said = people(tmp_path, content, age=["30", "40"], sex=["M", "F"])
    assert table["age"].tolist() == [30.0, 40.0]
    assert table["sex"].tolist() == ["M", "F"]
    assert words in said
    assert bool(said) == bool(words)


@pytest.mark.oddity("sidecar-encoding")
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_json_file_in_another_encoding_is_read(tmp_path, encoding):
    table, _ = people(tmp_path, '{"age": {"Units": "months"}}'.encode(encoding), age=["120", "240"])
    assert table["age"].tolist() == [10.0, 20.0]


def test_one_json_file_serves_all_tables_of_sessions(tmp_path):
    (tmp_path / "sessions.json").write_text('{"age": {"Units": "months"}}')
    (tmp_path / "sub-1").mkdir()
    table = pd.DataFrame({"session_id": ["ses-1"], "age": ["120"]}, dtype=object)
    assert tidy(table, tmp_path / "sub-1" / "sub-1_sessions.tsv", [])["age"].tolist() == [10.0]


@pytest.mark.oddity("sex-levels")
@pytest.mark.parametrize(
    "levels",
    [{"0": "female", "1": "male"}, {"0": {"Description": "Female"}, "1": {"Description": "Male participants"}}],
)
def test_codes_of_sex_mean_what_the_levels_say(tmp_path, levels):
    table, said = people(tmp_path, {"Gender": {"Levels": levels}}, gender=["0", "1", "n/a"])
    assert table["sex"].tolist() == ["F", "M", ""]
    assert said == ""


@pytest.mark.oddity("sex-levels")
def test_levels_that_name_sexes_otherwise_than_usual_win_over_the_guess(tmp_path):
    table, _ = people(tmp_path, {"sex": {"Levels": {"1": "female", "2": "male"}}}, sex=["1", "2"])
    assert table["sex"].tolist() == ["F", "M"]


@pytest.mark.oddity("sex-codes")
@pytest.mark.parametrize(
    ("cells", "sexes", "words"),
    [
        ("1 2", ["M", "F"], "was read as 1 = male, 2 = female"),
        ("1.0 2.0", ["M", "F"], "was read as 1 = male, 2 = female"),
        ("0 1 2", ["", "M", "F"], "1 = male, 2 = female, 0 = not known (ISO 5218)"),
        ("1 2 9", ["M", "F", ""], "1 = male, 2 = female, 9 = not applicable (ISO 5218)"),
        ("1 2 -9", ["M", "F", ""], "was read as 1 = male, 2 = female"),
    ],
)
def test_codes_of_sex_without_levels_are_read_by_iso_and_said(tmp_path, cells, sexes, words):
    table, said = people(tmp_path, sex=cells.split())
    assert table["sex"].tolist() == sexes
    assert words in said


@pytest.mark.oddity("sex-codes-unclear")
@pytest.mark.parametrize("cells", ["0 1", "0 1 9", "1 1", "2 3"])
def test_codes_of_sex_that_could_mean_either_are_empty_and_the_option_is_named(tmp_path, cells):
    table, said = people(tmp_path, sex=cells.split())
    assert set(table["sex"]) == {""}
    assert "could mean either and are left empty" in said
    assert "--sex CODE=M --sex CODE=F" in said


def test_codes_that_the_user_gives_come_before_all_others(tmp_path):
    (tmp_path / "p.json").write_text('{"sex": {"Levels": {"0": "male", "1": "female"}}}')
    notes: list[str] = []
    assert spell_sex(["0", "1"], tmp_path / "p.tsv", notes, {"0": "F", "1": "M"}) == ["F", "M"]
    assert notes == []
    assert spell_sex(["0", "1"], tmp_path / "p.tsv", notes) == ["M", "F"]


@pytest.mark.oddity("codes-for-missing")
def test_codes_of_a_participants_table_are_empty_and_said(tmp_path):
    table, said = people(tmp_path, age=["-999", "44"], iq=["-9", "101"], site=["-", "Oslo"])
    assert np.isnan(table["age"][0])
    assert table["iq"].tolist() == ["", "101"]
    assert table["site"].tolist() == ["", "Oslo"]
    assert "1 age of participants.tsv was left empty, being codes of missing values: -999" in said
    assert 'iq "-9" (1), site "-" (1)' in said


@pytest.mark.oddity("reserved-names")
@pytest.mark.parametrize("name", ["weight", "Weight", "WEIGHT"])
def test_a_persons_weight_is_no_sampling_weight_in_any_capitals(tmp_path, name):
    table, said = people(tmp_path, **{name: ["70", "82"]})
    assert list(table.columns) == ["participant_id", "body_weight"]
    assert f"{name} is called body_weight" in said


@pytest.mark.oddity("reserved-names")
@pytest.mark.parametrize("spelled", [str.lower, str.capitalize, str.upper])
@pytest.mark.parametrize("name", ["subject", "manifest", "row", "mask", "image", "image_flair", "split"])
def test_names_that_mean_something_else_in_a_manifest_are_changed_in_any_capitals(tmp_path, name, spelled):
    table, said = people(tmp_path, **{spelled(name): ["patient", "patient"], "iq": ["100", "90"]})
    assert [column.lower() for column in table.columns] == ["participant_id", f"given_{name}", "iq"]
    assert f"{spelled(name)} is called given_" in said


@pytest.mark.oddity("reserved-names")
def test_a_column_subject_that_names_people_stays(tmp_path):
    table, said = people(tmp_path, Subject=["a", "a", "b"])
    assert table["subject"].tolist() == ["a", "a", "b"]
    assert said == ""
    words = people(tmp_path, subject=["patient", "control", "patient", "control", "patient"])[0]
    assert "subject" not in words


@pytest.mark.oddity("equal-but-for-capitals")
@pytest.mark.parametrize("order", [("Sex", "sex"), ("sex", "Sex")])
def test_of_columns_equal_but_for_capitals_the_lesser_is_renamed(tmp_path, order):
    cells = {"sex": ["M", "F"], "Sex": ["1", "1"], "given_Sex": ["x", "y"]}
    table, said = people(tmp_path, **{name: cells[name] for name in (*order, "given_Sex")})
    assert table["sex"].tolist() == ["M", "F"]
    assert table["given_given_Sex"].tolist() == ["1", "1"]
    assert "Sex is called given_given_Sex" in said


@pytest.mark.oddity("equal-but-for-capitals")
def test_a_column_that_the_user_names_comes_before_one_of_that_name_in_capitals(tmp_path):
    table = pd.DataFrame(
        {"participant_id": ["a"], "SITE": ["x"], "ID": ["y"], "Age": ["3"], "years": ["4"]}, dtype=object
    )
    out = tidy(table, tmp_path / "p.tsv", [], {"site": "ID", "age": "years"})
    assert out[["site", "given_SITE", "age", "given_Age"]].iloc[0].tolist() == ["y", "x", 4.0, "3"]


@pytest.mark.oddity("sex-in-other-languages")
@pytest.mark.parametrize(
    ("cells", "levels", "sexes"),
    [
        ("H M", {"H": "hombre", "M": "mujer"}, "M F"),
        ("h m", {"H": "Hombre", "M": "Mujer"}, "M F"),
        ("H F", {"H": "homme", "F": "femme"}, "M F"),
        ("1 2", {"1": "Mann", "2": "Frau"}, "M F"),
        ("1 2", {"1": "männlich", "2": "weiblich"}, "M F"),
        ("1 2", {"1": "maschio", "2": "femmina"}, "M F"),
        ("1 2", {"1": "femenino", "2": "masculino"}, "F M"),
        ("Hombre mujer", {}, "M F"),
    ],
)
def test_common_words_of_other_languages_are_understood(tmp_path, cells, levels, sexes):
    sidecar = {"sex": {"Levels": levels}} if levels else None
    table, said = people(tmp_path, sidecar, sex=cells.split())
    assert table["sex"].tolist() == sexes.split()
    assert said == ""


@pytest.mark.oddity("sex-codes-unclear")
@pytest.mark.parametrize(
    ("cells", "levels"),
    [
        ("H M", {"H": "gizon", "M": "emakume"}),
        ("M K", {"K": "kvinna"}),
        ("1 2", {"1": "gizon", "2": "emakume"}),
        ("1 F", {"1": "gizon"}),
        ("M M", {"H": "hombre"}),
        ("H M", {}),
        ("W M", {}),
    ],
)
def test_nothing_is_guessed_beside_codes_that_are_not_understood(tmp_path, cells, levels):
    table, said = people(tmp_path, {"sex": {"Levels": levels}}, sex=cells.split())
    assert table["sex"].tolist() == ["", ""]
    assert "could mean either and are left empty" in said
    assert "--sex CODE=M" in said


def test_a_letter_beside_m_and_f_leaves_these_as_they_are(tmp_path):
    assert people(tmp_path, sex=["M", "F", "X"])[0]["sex"].tolist() == ["M", "F", ""]
    levels = {"sex": {"Levels": {"1": "male", "2": "female"}}}
    assert people(tmp_path, levels, sex=["1", "2", "F", "7"])[0]["sex"].tolist() == ["M", "F", "F", ""]


@pytest.mark.oddity("visit-column")
@pytest.mark.parametrize("name", ["visit", "Visit", "timepoint", "VISCODE", "wave", "ses"])
def test_a_column_of_visits_is_the_session(tmp_path, name):
    table = pd.DataFrame({"participant_id": ["a", "a"], name: ["1", "2"], "age": ["60", "61"]}, dtype=object)
    assert tidy(table, tmp_path / "participants.tsv", [])["session"].tolist() == ["1", "2"]


@pytest.mark.oddity("private-columns")
@pytest.mark.parametrize(
    "name",
    ["Vorname", "Nachname", "Geburtsdatum", "geb_datum", "PLZ", "Nom", "prénom", "Apellido", "birth_year", "initials"],
)
def test_names_and_birth_dates_in_other_languages_are_left_out(tmp_path, name):
    notes: list[str] = []
    table = pd.DataFrame({"participant_id": ["a"], name: ["x"], "nomen": ["y"]}, dtype=object)
    out = tidy(table, tmp_path / "participants.tsv", notes)
    assert list(out.columns) == ["participant_id", "nomen"]
    assert f"left out for privacy: column {name}" in notes[0]


@pytest.mark.oddity("sex-levels")
def test_codes_on_the_command_line_add_to_the_levels_of_a_file(tmp_path):
    (tmp_path / "participants.json").write_text('{"sex": {"Levels": {"0": "female", "1": "male"}}}')
    table = pd.DataFrame({"participant_id": list("abc"), "sex": ["0", "1", "weibl"]}, dtype=object)
    out = tidy(table, tmp_path / "participants.tsv", [], sex={"weibl": "F"})
    assert out["sex"].tolist() == ["F", "M", "F"]
