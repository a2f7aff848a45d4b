from __future__ import annotations

import math

import numpy as np
import pytest

from medssl.tables.ages import age_column, looks_like, possible, read_ages, unit_named


def years(*cells: object, **options: object) -> list[float | None]:
    read = read_ages(list(cells), "t.csv", **options)  # type: ignore[arg-type]
    return [None if math.isnan(age) else round(float(age), 6) for age in read.years]


def test_plain_numbers_pass_without_a_word():
    read = read_ages(["62.5", 30, "7e1", 41.0, "", "n/a", None], "t.csv")
    assert read.notes == ()
    np.testing.assert_array_equal(read.years, [62.5, 30, 70, 41, np.nan, np.nan, np.nan])


@pytest.mark.parametrize(
    ("cell", "age"),
    [
        ("35Y", 35),
        ("035Y", 35),
        ("006M", 0.5),
        ("6 months", 0.5),
        ("52 yrs.", 52),
        ("62,5", 62.5),
        (">89", 89),
        ("89+", 89),
        (">=90", 90),
        ("18-38", None),
        ("twenty", None),
        ("-999", None),
        ("999", None),
        ("-9", None),
        ("unknown", None),
        ("3 cats", None),
        ("240", 240),  # stays: what uses ages refuses it
        ("-3", -3),
    ],
)
def test_one_cell(cell, age):
    assert years("40", cell)[1] == age


def test_days_and_weeks_become_years():
    assert years("090D", "12W") == [pytest.approx(90 / 365.25, abs=1e-6), pytest.approx(84 / 365.25, abs=1e-6)]


def test_every_kind_is_said_with_its_count():
    read = read_ages(["35Y", "36Y", "62,5", ">89", "18-38", "x", "-999", "0", "20"], "t.csv")
    said = " | ".join(read.notes)
    for part in ("2 ages of t.csv were read by the unit", "35Y; 36Y", "decimal comma: 62,5", "as the cap: >89"):
        assert part in said
    for part in (
        "2 ages of t.csv were left empty, being ranges or no numbers: 18-38; x",
        "codes of missing values: -999",
    ):
        assert part in said
    assert "1 age of t.csv was left empty, being 0 where nobody else is under 15" in said


def test_zeros_are_emptied_among_adults_of_the_same_group_only():
    assert years("0", "20", "30") == [None, 20, 30]
    assert years("0", "2", "30") == [0, 2, 30]  # children
    assert years("0", "0") == [0, 0]  # nobody else tells
    assert years("0", "30", "0", "1", groups=["a", "a", "b", "b"]) == [None, 30, 0, 1]
    assert years("0.5", "30") == [0.5, 30]


def test_the_unit_of_the_column_divides_plain_numbers_only():
    assert years("24", "3Y", "30", unit="months") == [2, 3, 2.5]
    assert years("-999", "9999", unit="days")[0] is None


@pytest.mark.oddity("age-code")
def test_999_months_or_days_are_a_code_where_nobody_else_is_near():
    assert years("240", "999", "300", unit="months") == [20, None, 25]
    assert years("700", "999", "800", unit="months") == [pytest.approx(700 / 12), 83.25, pytest.approx(800 / 12)]
    assert years("10950", "999", unit="days")[1] is None  # 2.7 years among adults
    assert years("900", "999", "1100", unit="days")[1] == pytest.approx(999 / 365.25)
    assert years("240", "-9", unit="months") == [20, None]


def test_a_number_beyond_floats_is_no_age():
    assert years("1e999", "40") == [None, 40]


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("age", "years"),
        ("Age (years)", "years"),
        ("AGE_AT_SCAN", "years"),
        ("age_at_scan_months", "months"),
        ("age_months", "months"),
        ("AgeInDays", "days"),
        ("age_at_baseline", "years"),
        ("stage", None),
        ("age_group", None),
        ("language", None),
        ("age_z", None),
        ("aged", None),
        ("agem", None),
        ("age_m", "months"),
        ("age(d)", "days"),
        ("agemonths", "months"),
        ("age_in_y", "years"),
        ("agent", None),
    ],
)
def test_which_columns_hold_ages(name, unit):
    assert age_column(name) == unit


def test_units_by_their_names():
    assert [unit_named(u) for u in ("Months", "yr", "weeks", "d", "mm", 3)] == [
        "months", "years", "weeks", "days", None, None,
    ]  # fmt: skip


def test_possible_ages():
    assert possible([0, 120, -0.1, 120.1, np.nan, 50]).tolist() == [True, True, False, False, False, True]


def test_what_ages_look_like():
    assert looks_like([200, 300, 700]) == "months"
    assert looks_like([60, 80, 100, 110, 130, 150]) == "months"  # children, most of them below 120
    assert looks_like([9000, 20000, 30000]) == "days"
    assert looks_like([1950, 1987, 2001]) == "years of birth"
    assert looks_like([20, 40, 60]) == ""
    assert looks_like([*range(20, 80), 350]) == ""  # one slip of the finger
    assert looks_like([20, -999, 999, 40]) == ""
    assert looks_like([*range(20, 50), 222, 450]) == ""  # two slips
    assert looks_like([*range(70, 119), 130, 140, 150]) == "months"
    assert looks_like([]) == ""
