from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from medssl.tables.missing import (
    WORDS,
    cell_text,
    codes_among,
    is_missing,
    said_missing,
    sidecar_codes,
    without_missing,
)


@pytest.mark.parametrize(
    "cell",
    [
        "",
        " ",
        "n/a",
        "N/A",
        "NA",
        "nan",
        "NaN",
        "none",
        "null",
        ".",
        "-",
        "?",
        "unknown",
        "Not available",
        None,
        np.nan,
    ],
)
def test_words_for_missing_in_any_capitals(cell):
    assert is_missing(cell)
    assert cell_text(cell) == ""


@pytest.mark.parametrize("cell", ["0", "no", "nana", "-1", "Nantes", 0, 0.0, False, "n"])
def test_values_that_are_no_word_for_missing_stay(cell):
    assert not is_missing(cell)
    assert cell_text(cell) != ""


def test_words_are_compared_in_small_letters():
    assert all(word == word.lower().strip() for word in WORDS)


def test_whole_numbers_lose_their_point_and_text_keeps_its_zeros():
    assert [cell_text(v) for v in (3.0, 3.5, "007", " x ")] == ["3", "3.5", "007", "x"]


def test_codes_count_where_no_other_value_comes_near():
    assert codes_among([90.0, 110.0, -9.0, -99.0, -999.0, -9999.0, 999.0]) == {-9.0, -99.0, -999.0, -9999.0, 999.0}
    assert codes_among([-3.0, 2.0, -9.0, 999.0]) == {999.0}  # a column that can be negative
    assert codes_among([600.0, 999.0]) == frozenset()  # volumes around 999
    assert codes_among([499.0, 999.0]) == {999.0}
    assert codes_among([]) == frozenset()
    assert codes_among([-9.0]) == {-9.0}
    assert codes_among([999.0]) == frozenset()  # nothing else tells


def test_a_known_range_decides_alone():
    assert codes_among([600.0, 999.0, -9.0], 0, 120) == {999.0, -9.0}
    assert codes_among([999.0], 0, 2000) == frozenset()


def test_codes_of_a_column_are_emptied_and_counted():
    cells, counts = without_missing(["100", "-999", "null", "", "n/a", "90.5", "-999.0"], "iq")
    assert cells == ["100", "", "", "", "", "90.5", ""]
    assert counts == Counter({"-999": 1, "-999.0": 1, "null": 1})  # what everybody writes is not counted


def test_a_column_of_words_takes_negative_codes_but_keeps_999():
    assert without_missing(["Leiden", "-9", "999"], "site")[0] == ["Leiden", "", "999"]


@pytest.mark.parametrize(
    "column", ["participant_id", "session", "family", "subject", "image", "image_t2", "weight", "age"]
)
def test_codes_never_count_in_columns_of_ids_files_weights_and_ages(column):
    assert without_missing(["1", "-9", "999", "none"], column)[0] == ["1", "-9", "999", ""]


def test_own_codes_of_a_sidecar_count_too():
    assert without_missing(["1", "8", "2"], "diagnosis", ["8"])[0] == ["1", "", "2"]
    assert without_missing(["1", "8.0", "88"], "iq", ["8"])[0] == ["1", "", "88"]  # as numbers
    assert without_missing(["1", "8", "x"], "iq", ["8.00", "x"])[0] == ["1", "", ""]


def test_what_was_emptied_is_one_sentence_with_counts_and_a_remedy_for_names():
    (sentence,) = said_missing("a.csv", {"site": {"NA": 3}, "iq": {"-9": 2}})
    assert sentence.startswith('5 cells of a.csv were read as missing: site "NA" (3), iq "-9" (2)')
    assert "site-NA" in sentence
    assert said_missing("a.csv", {"iq": {}}) == []


def test_codes_of_a_sidecar():
    levels = {"1": "patient", "8": "not available", "9": "Refused"}
    assert sidecar_codes({"Levels": levels}) == ["8", "9"]
    assert sidecar_codes({"MissingValues": [77, "x"], "Units": "years"}) == ["77", "x"]
    assert sidecar_codes(["no", "mapping"]) == []
    assert sidecar_codes({"Levels": ["1"]}) == []
