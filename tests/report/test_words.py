from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import pytest

import medssl
from medssl.report import build, cohort, figures, paths, recipe, terms, words
from medssl.report.read import Row


@pytest.mark.parametrize("module", [words, recipe, cohort, paths, terms, build, figures])
def test_the_examples_in_the_docstrings_are_right(module: Any):
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_an_interval_stands_beside_its_value():
    row = Row("encoder", {"mae_external": 5.0, "site_bacc": 0.41, "r2_external": None},
              {"mae_external": (4.4, 5.6), "site_bacc": (0.34, 0.48)})  # fmt: skip
    assert words.with_interval(row, "mae_external") == "5.0 (4.4 to 5.6)"
    assert words.with_interval(row, "site_bacc").replace(words.NARROW, " ") == "41 % (34 to 48 %)"
    assert words.with_interval(row, "r2_external") == "–"


def test_an_interval_of_one_number_is_no_interval():
    assert words.bounds("mae_external", (0.01, 0.02)) == ""
    assert words.bounds("site_bacc", (0.1, 0.2)).replace(words.NARROW, " ") == "10 to 20 %"


def test_the_best_that_can_be_reached_is_no_ceiling_where_lower_is_better():
    assert words.row_name("age_oracle") == "True age as feature (best possible)"


def test_what_counts_as_few_is_said_in_one_place():
    root = Path(medssl.__file__).parent
    files = [*(root / "report").rglob("*.py"), *(root / "evaluation").rglob("*.py")]
    pattern = re.compile(r"^_?FEW\w* = ", re.MULTILINE)
    assert [path.name for path in files if pattern.search(path.read_text(encoding="utf-8"))] == ["caution.py"]


def test_chance_of_the_site_is_what_constant_features_reach_where_the_tests_lack_sites():
    encoder = Row("encoder", {"site_bacc": 0.2, "site_chance": 0.1}, {})
    assert words.site_chance([encoder]) == 0.1
    assert words.site_chance([encoder, Row("constant", {"site_bacc": 0.125}, {})]) == 0.125
    assert words.site_chance([encoder, Row("constant", {"site_bacc": 0.0}, {})]) == 0.1
    assert words.site_chance([encoder, Row("constant", {}, {}, "not given")]) == 0.1
    assert words.site_chance([]) is None


@pytest.mark.parametrize(
    ("note", "text"),
    [
        ("no internal_test rows: it is empty", "No test scans of known sites: it is empty."),
        ("external scores are empty", "Scores on unseen sites are empty."),
        ("3 train rows have no site", "3 training scans have no site."),
        ("1 train row has no site", "1 training scan has no site."),
        ("1 internal_test row is left out", "1 test scan of a known site is left out."),
        ("external_test holds 2 sites", "The test on unseen sites holds 2 sites."),
        ("site_bacc is a mean", "The balanced accuracy of the site is a mean."),
    ],
)  # fmt: skip
def test_notes_speak_of_known_and_unseen_sites(note: str, text: str):
    assert words.spoken(note) == text


def test_time_between_two_stamps_is_told_in_words():
    assert words.duration("2026-03-02T10:00:00Z", "2026-03-02T10:00:42Z") == "42 s"
    assert words.duration("2026-03-02T10:00:00Z", "2026-03-02T12:30:00Z") == "2.5 h"
    assert words.duration("2026-03-02T10:00:00Z", None) == ""
    assert words.duration("2026-03-02T10:00:00Z", "2026-03-02T10:00:00") == ""
