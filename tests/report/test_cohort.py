from __future__ import annotations

import pandas as pd

from medssl.report.cohort import Group, describe, site_rows


def group(*rows: tuple[str, str, str, str]) -> Group:
    """Scans of (person, site, sex, data set), all aged 30."""
    frame = pd.DataFrame(rows, columns=["participant_id", "site", "sex", "dataset"])
    return Group(frame.assign(age=30.0, subject=""), "features.csv")


def test_women_are_people_and_not_scans():
    found = group(("a", "x", "F", ""), ("a", "x", "F", ""), ("b", "x", "F", ""), ("c", "y", "M", ""))
    assert describe({}, found) == "4 scans of 3 people from 2 sites; age 30 years; 2 women and 1 man"


def test_two_people_of_different_data_sets_may_share_an_id():
    assert "of 2 people" in describe({}, group(("1", "x", "F", "ixi"), ("1", "x", "M", "camcan")))


def test_a_sex_that_is_missing_or_differs_is_unknown():
    found = group(("a", "x", "F", ""), ("a", "x", "M", ""), ("b", "x", "", ""), ("c", "x", "M", ""))
    assert describe({}, found).endswith("; 1 man and 2 of unknown sex")


def test_scans_without_a_site_are_counted():
    assert "from 1 site (2 scans name no site)" in describe(
        {}, group(("a", "x", "F", ""), ("b", "", "F", ""), ("c", "", "", ""))
    )


def test_where_only_scans_were_counted_by_sex_it_is_said():
    record = {"scans": 5, "subjects": 3, "sex": {"F": 4, "M": 1}}
    assert describe(record, None) == "5 scans of 3 people; 4 scans of women and 1 scan of men"
    assert describe(record | {"subjects": 5}, None) == "5 scans of 5 people; 4 women and 1 man"


def test_people_of_a_synthetic_cohort_are_called_simulated():
    assert "of 1 simulated person from" in describe({}, group(("a", "x", "F", "")), simulated=True)


def test_training_scans_without_a_site_have_a_row_of_their_own():
    record = {"scans": 7, "sites": ["x"], "per_site": [{"site": "x", "n": 5, "age": [20.0, 30.0, 40.0]}]}
    rows = site_rows(record, {"internal_test": group(("a", "x", "F", ""), ("b", "", "F", ""))})
    assert [(row["site"], {k: v[0] for k, v in row["cells"].items()}) for row in rows] == [
        ("x", {"train": 5, "internal_test": 1}),
        ("(no site)", {"train": 2, "internal_test": 1}),
    ]
